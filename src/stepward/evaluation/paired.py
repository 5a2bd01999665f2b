"""Paired tests: whether two methods differ on the same items, and the correction for asking of many pairs. Intervals are in statistics.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from stepward.core import Floats
from stepward.evaluation.statistics import RESAMPLES, mcnemar_exact

_EXACT_FLIPS = 14  # differing problems up to which a permutation test counts all sign flips


def paired_test(first: Floats, second: Floats, clusters: Sequence[str], *, seed: int = 0) -> tuple[str, float]:
    """Name and two-sided p-value of the test of "both are right equally often", on the items where both are known.

    McNemar's exact test where outcomes are right or wrong and every item is a problem of its own; else a permutation test that flips the signs of the
    clusters' differences, all ways of it or 10,000 drawn ones. NaN where no item is known on both sides.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    a, b, keys = first[both], second[both], [key for key, known in zip(clusters, both, strict=True) if known]
    if not len(a):
        return "no problem is known on both sides", math.nan
    if len(set(keys)) == len(keys) and np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
        return "McNemar, exact", mcnemar_exact(a == 1.0, b == 1.0)
    return sign_flip_test(a - b, keys, seed=seed)


def sign_flip_test(differences: Floats, clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[str, float]:
    """P(|sum of randomly signed cluster differences| >= the observed one): exact for few clusters, else (1 + hits) / (1 + resamples)."""
    totals: dict[str, float] = {}
    for key, difference in zip(clusters, differences, strict=True):
        totals[key] = totals.get(key, 0.0) + float(difference)
    sums = np.array([total for total in totals.values() if total != 0.0])
    if not len(sums):
        return "permutation, exact", 1.0
    observed = abs(float(sums.sum())) - 1e-12 * float(np.abs(sums).sum())  # equal sums may differ by rounding
    if len(sums) <= _EXACT_FLIPS:
        flips = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        return "permutation, exact", float((np.abs(flips @ sums) >= observed).mean())
    flips = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, len(sums)))
    return f"permutation, B={resamples}", (1.0 + float((np.abs(flips @ sums) >= observed).sum())) / (1.0 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the chance of any false claim among them: p_(i) (m - i + 1), made monotone, at most 1; unknown ones stay so and do not count.

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=lambda place: p_values[place])
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
