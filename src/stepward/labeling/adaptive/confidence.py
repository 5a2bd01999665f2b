"""Intervals for the chance of success behind a count. Those of a count that a stop rule ended are in `stopped`."""

from __future__ import annotations

import math

from stepward.core import InputError
from stepward.labeling.adaptive.beta import beta_quantile, log_beta

Interval = tuple[float, float]


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of a number of rollouts fixed beforehand: covers with chance at least `level` for every V (Clopper and Pearson, 1934)."""
    _check(successes, n, level)
    tail = (1.0 - level) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta_quantile(1.0 - tail, successes + 1, n - successes)
    return low, high


def jeffreys(successes: int, n: int, level: float = 0.95) -> Interval:
    """Credible interval under the prior Beta(1/2, 1/2), reaching to 0 or 1 when all rollouts agree. Covers with chance `level` on average over V, not for
    every V; the prior does not know of stop rules (Interval Estimation for a Binomial Proportion, 2001)."""
    _check(successes, n, level)
    tail = (1.0 - level) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes + 0.5, n - successes + 0.5)
    high = 1.0 if successes == n else beta_quantile(1.0 - tail, successes + 0.5, n - successes + 0.5)
    return low, high


def log_mixture(successes: int, n: int, v: float, a: float = 0.5, b: float = 0.5) -> float:
    """ln of the mixture martingale E_n(v) = integral of (u/v)^S ((1-u)/(1-v))^(n-S) over Beta(a, b): under V = v its mean is 1 at every n."""
    if (v <= 0.0 and successes) or (v >= 1.0 and successes < n):
        return math.inf
    top = log_beta(a + successes, b + n - successes) - log_beta(a, b)
    below = (successes * math.log(v) if successes else 0.0) + ((n - successes) * math.log1p(-v) if successes < n else 0.0)
    return top - below


def confidence_sequence(successes: int, n: int, level: float = 0.95, *, a: float = 0.5, b: float = 0.5) -> Interval:
    """Time-uniform interval: with chance at least `level` it holds V at every n at once, whatever makes one stop or look.

    {v : E_n(v) < 1 / (1 - level)} with E the beta-binomial mixture martingale (Robbins, Statistical methods related to the law of the iterated logarithm,
    1970; Ville's inequality, 1939). `a`, `b`: the mixing Beta distribution; any fixed choice is valid.
    """
    _check(successes, n, level)
    if n == 0:
        return 0.0, 1.0
    bar, peak = -math.log(1.0 - level), successes / n

    def edge(outside: float, inside: float) -> float:
        if log_mixture(successes, n, outside, a, b) < bar:
            return outside
        for _ in range(60):
            middle = (outside + inside) / 2
            if log_mixture(successes, n, middle, a, b) < bar:
                inside = middle
            else:
                outside = middle
        return outside

    return edge(0.0, peak), edge(1.0, peak)


def _check(successes: int, n: int, level: float) -> None:
    if not 0 <= successes <= n:
        raise InputError(f"need 0 <= successes <= n, got {successes} of {n}")
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie in (0, 1), got {level!r}; 0.95 is usual")
