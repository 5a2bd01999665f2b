"""Estimators: a value from the rollouts of one prefix. Pure functions; how many rollouts are drawn is `probing`'s matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepward.core import Count, InputError
from stepward.labeling.binomial import at_most


def share(count: Count) -> float:
    """Successes / rollouts: unbiased when the number of rollouts was fixed; NaN without rollouts."""
    return count.value


def unbiased(count: Count, *, stop: int, last: int = 1) -> float:
    """An unbiased value when drawing ended at the first request with `stop` successes in all, or at a cap; the plain share is biased upwards then.

    One rollout a request (`last` = 1), stop r reached at rollout n: (r - 1) / (n - 1); at the cap: successes / rollouts. In general: the share of the
    equally likely orders of what was seen, among those that would not have stopped earlier, in which the first rollout is a success. With r = 1 this
    is just the first rollout: stopping at the first success leaves no soft information.

    `last`: graded rollouts of the last request. NaN without rollouts.
    Source for one at a time: Haldane, On a method of estimating frequencies (1945); Girshick, Mosteller, Savage, Unbiased estimates (1946).
    Raises: InputError for stop below 1 or last outside 1..rollouts.
    """
    if stop < 1:
        raise InputError(f"stop must be at least 1, got {stop}")
    n, successes = count.rollouts, count.successes
    if n == 0:
        return math.nan
    if successes < stop:
        return count.value
    if not 1 <= last <= n:
        raise InputError(f"last must lie in 1..{n}, the graded rollouts of all requests, got {last}")
    before = n - last
    if before == 0:
        return count.value
    waiting = range(min(stop - 1, before, successes) + 1)  # successes before the last request
    orders = sum(math.comb(before, j) * math.comb(last, successes - j) for j in waiting)
    starting = sum(math.comb(before - 1, j - 1) * math.comb(last, successes - j) for j in waiting if j)
    return starting / orders


def best_of(count: Count, k: int) -> float:
    """Chance that the best of k rollouts is right, 1 - (1 - V)^k, without bias from a fixed number of rollouts: 1 - C(n - s, k) / C(n, k).

    NaN with fewer than k rollouts. Putting the share into the formula instead is biased downwards. Source: Evaluating Large Language Models Trained
    on Code (2021), there pass@k.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    if count.rollouts < k:
        return math.nan
    return 1.0 - math.comb(count.rollouts - count.successes, k) / math.comb(count.rollouts, k)


def best_of_value(value: float, k: int) -> float:
    """1 - (1 - V)^k of a known V."""
    return 1.0 - (1.0 - value) ** k


def logprob_weighted(successes: Sequence[bool | None], mean_logprobs: Sequence[float | None]) -> float:
    """Sum over right rollouts of exp(mean log-probability) / the same sum over all graded ones.

    `mean_logprobs`: natural log-probability a token, averaged over a rollout's tokens. Ungraded rollouts count in neither sum. NaN without a graded
    rollout, and when a graded rollout's log-probability is not known. Source: Uncertainty-based process reward data construction (UnPRM, 2025).
    """
    graded = [(good, logprob) for good, logprob in zip(successes, mean_logprobs, strict=True) if good is not None]
    known = [logprob for _, logprob in graded if logprob is not None]
    if not graded or len(known) < len(graded):
        return math.nan
    largest = max(known)
    weights = [math.exp(logprob - largest) for logprob in known]
    return math.fsum(weight for weight, (good, _) in zip(weights, graded, strict=True) if good) / math.fsum(weights)


def entropic(value: float, eta: float) -> float:
    """(1 / eta) ln E[exp(eta r)] of an outcome r in {0, 1} with mean `value`: ln(1 + V (e^eta - 1)) / eta.

    The value under entropy regularisation when rollouts come from the initial policy; a negative eta is the one for rollouts from the optimal policy,
    -(1 / eta) ln E[exp(-eta r)]. A rising map of V with f(0) = 0 and f(1) = 1: eta 0 gives V, eta = inf 1[V > 0], eta = -inf 1[V = 1].
    Of an estimated V it is biased, by about f''(V) V (1 - V) / 2n: downwards for eta > 0. Source: Entropy-Regularized Process Reward Model (2024).
    """
    if math.isnan(value) or math.isnan(eta):
        return math.nan
    if eta == 0.0 or value in (0.0, 1.0):
        return value
    if math.isinf(eta):
        return 1.0 if eta > 0 else 0.0
    if eta > 0:  # ln(1 - V + V e^eta) = eta + ln(V + (1 - V) e^-eta), which cannot overflow
        return min(1.0, max(0.0, 1.0 + math.log(value + (1.0 - value) * math.exp(-eta)) / eta)) if eta > 1.0 else math.log1p(value * math.expm1(eta)) / eta
    return 1.0 - entropic(1.0 - value, -eta)


def beta_mean(count: Count, prior: tuple[float, float] = (1.0, 1.0)) -> float:
    """Posterior mean of the value under a Beta(a, b) prior: (a + s) / (a + b + n)."""
    a, b = prior
    return (a + count.successes) / (a + b + count.rollouts)


def beta_variance(count: Count, prior: tuple[float, float] = (1.0, 1.0)) -> float:
    """Posterior variance of the value under a Beta(a, b) prior: m (1 - m) / (a + b + n + 1) with m the posterior mean."""
    mean, total = beta_mean(count, prior), prior[0] + prior[1] + count.rollouts
    return mean * (1.0 - mean) / (total + 1.0)


def chance_above(count: Count, bar: float) -> float:
    """Posterior chance that the value is above `bar` under a uniform prior: 1 - BetaCDF(bar; 1 + s, 1 + n - s) = P(Bin(n + 1, bar) <= s)."""
    return at_most(count.successes, count.rollouts + 1, bar)


def solvability(count: Count, n_options: int) -> float:
    """Posterior chance that a problem with `n_options` answers to choose from is solved better than by guessing, P(p > 1 / n_options | s of n right).

    Low where right answers are likely guesses, whose chains of steps are then likely spurious: a weight for outcome labels and advantages. 1/2 says
    "no better and no worse than a guesser", in the long run. Without samples it is the prior, 1 - 1 / n_options.
    Raises: InputError for fewer than 2 options.
    """
    if n_options < 2:
        raise InputError(f"n_options must be at least 2, got {n_options}")
    return chance_above(count, 1.0 / n_options)
