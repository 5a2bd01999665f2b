"""Selection: exact or seeded estimates of choosing among n of N samples of one problem, by the rules of `search.choose` with ties shared.

Intervals over problems live in `statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepward.core import Floats, InputError

SUBSETS = 256  # how many subsets a vote is averaged over where there are more; at least 200 keep its noise below the problems' own


def bon_exact(scores: ArrayLike, correct: ArrayLike, n: int) -> float:
    """Expected correctness of the best-scored of n samples, exactly, over all subsets of n of the N given.

    sum_i P_i c_i over samples sorted by falling score, P_i = C(N - i, n - 1) / C(N, n) for i = 1..N; within a block of equal scores every
    c_i is the block's mean, as if ties were broken at random. Unknown scores (NaN) rank after all known ones, as one tied block.
    n = 1 gives the mean correctness, n = N the correctness of the best. `scores`, `correct`: [N], correct in [0, 1].

    Raises: InputError unless 1 <= n <= N and every correctness is known.
    """
    return float(bon_curve(scores, correct)[_check_n(n, len(np.asarray(correct))) - 1])


def bon_curve(scores: ArrayLike, correct: ArrayLike) -> Floats:
    """`bon_exact` for n = 1..N at once: shape [N]."""
    s, c = _pair(scores, correct)
    size = len(c)
    order = np.lexsort((-s, np.isnan(s)))
    s, c = s[order], c[order]
    starts = np.ones(size, dtype=bool)
    starts[1:] = ~((s[1:] == s[:-1]) | (np.isnan(s[1:]) & np.isnan(s[:-1])))
    block = np.cumsum(starts) - 1
    means = (np.bincount(block, weights=c) / np.bincount(block))[block]
    chances = np.array([[math.comb(size - i, n - 1) / math.comb(size, n) for i in range(1, size + 1)] for n in range(1, size + 1)])
    return np.asarray(chances @ means)


def pass_at_k(n: int, n_correct: int, k: int) -> float:
    """Chance that k samples hold at least one correct one, unbiased from n samples: 1 - C(n - c, k) / C(n, k).

    Reference: Evaluating large language models trained on code (2021).
    """
    if not 0 <= n_correct <= n:
        raise InputError(f"pass_at_k needs 0 <= n_correct <= n, got n_correct={n_correct}, n={n}")
    return 1.0 - math.comb(n - n_correct, _check_n(k, n)) / math.comb(n, k)


def subsets(size: int, n: int, *, count: int = SUBSETS, seed: int = 0) -> NDArray[np.bool_]:
    """Masks [R, size] of subsets of n: all of them when at most `count` exist, else `count` seeded draws without replacement within each."""
    _check_n(n, size)
    if math.comb(size, n) <= count:
        chosen = np.array(list(combinations(range(size), n)))
    else:
        chosen = np.argsort(np.random.default_rng([seed, size, n]).random((count, size)), axis=1)[:, :n]
    mask = np.zeros((len(chosen), size), dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return mask


def majority_at_n(answers: Sequence[str | None], correct: ArrayLike, n: int, *, count: int = SUBSETS, seed: int = 0) -> float:
    """Expected correctness of the most frequent answer among n of the N samples, averaged over `subsets`.

    A sample without an answer (None) does not vote; tied answers share the credit; n = 1 gives the mean correctness.
    Reference: Self-consistency improves chain of thought reasoning in language models (2022).
    """
    size = len(answers)
    return float(vote(answers, np.ones(size), correct, subsets(size, n, count=count, seed=seed)).mean())


def vote(answers: Sequence[str | None], weights: ArrayLike, correct: ArrayLike, masks: NDArray[np.bool_]) -> Floats:
    """Expected correctness [R] of the answer with the largest sum of weights within each subset of `masks` [R, N].

    None and an unknown weight (NaN) do not vote; where all weights of a subset are unknown the plain majority decides.
    Weights are scaled to [0, 1] within a subset if any is negative. Tied answers share the credit; a subset in which nobody votes earns
    the mean correctness of its samples.
    """
    w, c = _pair(weights, correct)
    if len(answers) != len(c):
        raise InputError(f"vote needs one answer a sample: {len(c)} samples but {len(answers)} answers")
    votes = masks & np.array([answer is not None for answer in answers], dtype=bool)
    classes = sorted({answer for answer in answers if answer is not None})
    member = np.array([[answer == name for name in classes] for answer in answers], dtype=np.float64).reshape(len(answers), len(classes))
    weighed = _subset_weights(w, votes)
    sums = weighed @ member  # [R, A]
    cast = votes.astype(np.float64) @ member
    counted = votes & ~np.isnan(w)
    counted = np.where(counted.any(axis=1, keepdims=True), counted, votes)
    present = counted.astype(np.float64) @ member > 0.0
    sums = np.where(present, sums, -np.inf)
    best = present & (sums >= sums.max(axis=1, initial=-np.inf, keepdims=True) - 1e-12)
    # a class's correctness is the mean over its members in the subset: they are equal unless the grader tells apart what the canonical form does not
    class_correct = (votes.astype(np.float64) @ (member * c[:, None])) / np.maximum(cast, 1.0)
    n_best = best.sum(axis=1)
    voted = (best * class_correct).sum(axis=1) / np.maximum(n_best, 1)
    silent = (masks @ c) / masks.sum(axis=1)
    return np.asarray(np.where(n_best > 0, voted, silent))


def _subset_weights(weights: Floats, votes: NDArray[np.bool_]) -> Floats:
    """Weights [R, N] of the samples that vote in each subset."""
    known = ~np.isnan(weights)
    spread = np.where(votes & known, weights, np.nan)
    filled = np.where(np.isnan(spread), 0.0, spread)
    if bool((weights[known] < 0.0).any()):
        low = np.where(np.isnan(spread), np.inf, spread).min(axis=1, keepdims=True)
        high = np.where(np.isnan(spread), -np.inf, spread).max(axis=1, keepdims=True)
        negative = np.isfinite(low) & (low < 0.0)
        low, high = np.where(negative, low, 0.0), np.where(negative, high, 1.0)
        span = high - low
        scaled = np.where(span > 0.0, (filled - low) / np.where(span > 0.0, span, 1.0), 1.0)
        filled = np.where(np.isnan(spread), 0.0, np.where(negative, scaled, filled))
    nothing_known = ~(votes & known).any(axis=1, keepdims=True)
    return np.where(nothing_known, votes.astype(np.float64), filled)


def _check_n(n: int, size: int) -> int:
    if not 1 <= n <= size:
        raise InputError(f"cannot choose among {n} of {size} samples; n must lie in 1..{size}")
    return n


def _pair(scores: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    s, c = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if s.shape != c.shape or s.ndim != 1 or s.size == 0:
        raise InputError(f"need one score and one correctness a sample, got shapes {s.shape} and {c.shape}")
    if np.isnan(c).any():
        raise InputError("every sample's correctness must be known; leave ungraded samples out and report how many")
    return s, c
