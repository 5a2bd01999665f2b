"""Statistics: estimates with intervals, clustered by problem, and tests of paired differences.

What is estimated (best-of-n accuracy, first-error F1, label error) lives with its own noun; this file only says how sure one may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepward.core import Count, Floats, InputError

RESAMPLES = 10_000
BCA_BELOW = 100  # clusters: below this many, percentile intervals are visibly too narrow and the BCa correction is used
_CHUNK = 2_000_000  # resampled cluster indices held at once
_MOST_DRAWS = 50_000_000  # with very many clusters fewer resamples do: at least 1,000 of them, and the method says how many
_NORMAL = NormalDist()

Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval [low, high], the number n of known items behind it, and the method of the interval.

    NaN where nothing is known: a value of no items, or the bounds of a single cluster.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; NaN becomes null."""
        return {"value": finite_or_none(self.value), "low": finite_or_none(self.low), "high": finite_or_none(self.high), "n": self.n, "method": self.method}

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return "unknown" if math.isnan(self.value) else f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self)


def finite_or_none(value: float) -> float | None:
    """The float for JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None


def mean_estimate(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Mean of `values` [n] with a cluster-bootstrap interval; unknown values (NaN) are left out and do not count in n.

    Zeros only, or ones only, have no spread to resample: see `rule_of_three`.
    """
    matrix = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return mean_estimates(matrix, clusters, resamples=resamples, seed=seed, confidence=confidence)[0]


def mean_estimates(
    matrix: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    proportions: bool = True,
) -> list[Estimate]:
    """`mean_estimate` of every column of `matrix` [n, M], all from the same resamples. `proportions`: whether the rule of three holds (not of costs)."""
    values = np.asarray(matrix, dtype=np.float64)
    known = ~np.isnan(values)
    n_columns = values.shape[1]
    columns = np.concatenate([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)

    def means(totals: Floats) -> Floats:
        return ratio(totals[..., :n_columns], totals[..., n_columns:])

    estimates = bootstrap_many(columns, means, clusters, resamples=resamples, seed=seed, confidence=confidence)
    labels = _cluster_ids(clusters, len(values))
    results = []
    for column, estimate in enumerate(estimates):
        here = known[:, column]
        n_clusters = len(np.unique(labels[here]))
        result = Estimate(estimate.value, estimate.low, estimate.high, int(here.sum()), estimate.method)
        if proportions and result.value in (0.0, 1.0) and bool((values[here, column] == result.value).all()):
            result = rule_of_three(result, n_clusters)
        results.append(result)
    return results


def rule_of_three(estimate: Estimate, n_clusters: int, *, top: float = 1.0) -> Estimate:
    """The interval of a proportion that came out as 0 or as `top`, from that many independent clusters: it reaches 3 / clusters of `top` inwards.

    Reference: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, 1983.
    """
    if n_clusters < 1 or estimate.value not in (0.0, top):
        return estimate
    reach = min(1.0, 3.0 / n_clusters) * top
    low, high = (0.0, reach) if estimate.value == 0.0 else (top - reach, top)
    return Estimate(estimate.value, low, high, estimate.n, "rule of three")


def difference_estimate(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[Hashable] | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Paired difference of means, mean(first - second) over the items where both are known. Identical inputs give exactly 0.

    Both sides see the same resamples of the same problems, so what they share cancels.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(f"a paired difference needs two vectors of the same items, got shapes {a.shape} and {b.shape}")
    differences = np.asarray(a - b)
    columns = np.stack([np.where(np.isnan(differences), 0.0, differences), (~np.isnan(differences)).astype(np.float64)], axis=1)
    estimate = bootstrap(columns, lambda totals: ratio(totals[..., 0], totals[..., 1]), clusters, resamples=resamples, seed=seed)
    return Estimate(estimate.value, estimate.low, estimate.high, int(columns[:, 1].sum()), f"paired {estimate.method}")


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Difference statistic(first) - statistic(second) of two systems on the same items, with the same resamples for both.

    `first`, `second`: columns [n, K] each, as `bootstrap` takes them.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"a paired bootstrap needs the same items on both sides, got shapes {a.shape} and {b.shape}")
    width = a.shape[1]
    both = np.concatenate([a, b], axis=1)
    estimate = bootstrap(both, lambda t: statistic(t[..., :width]) - statistic(t[..., width:]), clusters, resamples=resamples, seed=seed)
    return Estimate(estimate.value, estimate.low, estimate.high, estimate.n, f"paired {estimate.method}")


def bootstrap(
    columns: ArrayLike,
    statistic: Statistic,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Interval of a statistic by resampling whole clusters (problems) with replacement.

    `columns` [n, K]: K numbers an item; `statistic` maps their sums over a data set, shape [..., K], to values of shape [...]. Means,
    ratios and F1 all have this form, which lets every resample be one matrix product. `clusters`: one key an item; items that share a key
    are drawn together (None: each item is its own). Percentile interval; BCa below 100 clusters (Efron, Better bootstrap confidence
    intervals, 1987). Resamples on which the statistic is undefined (NaN) are left out.
    """
    estimates = bootstrap_many(
        columns, lambda totals: np.asarray(statistic(totals))[..., None], clusters, resamples=resamples, seed=seed, confidence=confidence
    )
    return estimates[0]


def bootstrap_many(
    columns: ArrayLike,
    statistic: Statistic,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Estimate]:
    """`bootstrap` for a statistic with M values: [..., K] to [..., M]; all M share their resamples."""
    data = np.asarray(columns, dtype=np.float64)
    if data.ndim != 2:
        raise InputError(f"bootstrap takes columns of shape [n, K], got {data.shape}")
    if not np.isfinite(data).all():
        raise InputError("bootstrap columns must be finite; leave unknown items out, or carry a column that counts the known ones")
    labels = _cluster_ids(clusters, len(data))
    n_clusters = int(labels.max()) + 1 if len(labels) else 0
    totals = np.zeros((n_clusters, data.shape[1]))
    np.add.at(totals, labels, data)
    value = np.atleast_1d(statistic(totals.sum(axis=0)))
    if n_clusters < 2:
        return [Estimate(float(v), math.nan, math.nan, len(data), "no interval: fewer than 2 clusters") for v in value]
    resamples = min(resamples, max(1000, _MOST_DRAWS // n_clusters))
    draws = np.atleast_2d(statistic(_resampled(totals, resamples, seed)))
    tail = (1.0 - confidence) / 2.0
    if n_clusters >= BCA_BELOW:
        levels = np.tile([[tail], [1.0 - tail]], (1, len(value)))
        method = f"cluster bootstrap, percentile, B={resamples}"
    else:
        left_out = statistic(totals.sum(axis=0) - totals)
        levels = np.stack([_bca_levels(value[m], draws[:, m], left_out[:, m], tail) for m in range(len(value))], axis=1)
        method = f"cluster bootstrap, BCa, B={resamples}"
    estimates = []
    for m, centre in enumerate(value):
        usable = draws[:, m][~np.isnan(draws[:, m])]
        low, high = np.quantile(usable, levels[:, m]) if usable.size and not math.isnan(centre) else (math.nan, math.nan)
        estimates.append(Estimate(float(centre), float(low), float(high), len(data), method))
    return estimates


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """numerator / denominator; NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0.0))


def cluster_standard_error(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Standard error of a mean whose items are independent only between clusters.

    sqrt(C / (C - 1) * sum_c (S_c - mean n_c)^2) / n with S_c the sum and n_c the number of known items of cluster c of C. NaN for fewer
    than 2 clusters.
    """
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    labels = _cluster_ids(clusters, len(array))[known]
    array = array[known]
    present, labels = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return math.nan
    residuals = np.bincount(labels, weights=array - array.mean())
    return math.sqrt(len(present) / (len(present) - 1) * float((residuals**2).sum())) / len(array)


def wilson(successes: int, n: int) -> Estimate:
    """A single proportion of independent trials with its Wilson interval (`core.Count.interval`)."""
    count = Count(successes, n)
    low, high = count.interval()
    return Estimate(count.value, low, high, n, "Wilson")


def mcnemar_exact(first: Sequence[bool] | NDArray[np.bool_], second: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Two-sided p-value for "both are right equally often", from the items on which exactly one is right.

    p = min(1, 2 P(X <= min(b, c))) with X ~ Binomial(b + c, 1/2); 1 when they never differ (McNemar, Note on the sampling error of the
    difference between correlated proportions, 1947, in its exact form). Assumes independent items: for several items a problem use the
    paired bootstrap.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape:
        raise InputError(f"McNemar's test needs the same items on both sides, got {a.shape} and {b.shape}")
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def _cluster_ids(clusters: Sequence[Hashable] | None, n: int) -> NDArray[np.intp]:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise InputError(f"one cluster key an item is needed: {n} items but {len(clusters)} keys")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in clusters], dtype=np.intp)


def _resampled(totals: Floats, resamples: int, seed: int) -> Floats:
    """Column sums of `resamples` data sets of as many clusters, drawn with replacement: [B, K]. Depends on the seed and C only."""
    n_clusters = len(totals)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, totals.shape[1]))
    rows = max(1, _CHUNK // n_clusters)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, n_clusters, size=(size, n_clusters)) + n_clusters * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters)
        sums[start : start + size] = weights @ totals
    return sums


def _bca_levels(value: float, draws: Floats, left_out: Floats, tail: float) -> Floats:
    """The two quantile levels of the bias-corrected and accelerated bootstrap."""
    usable, jackknife = draws[~np.isnan(draws)], left_out[~np.isnan(left_out)]
    plain = np.array([tail, 1.0 - tail])
    if usable.size == 0 or jackknife.size < 2 or math.isnan(value):
        return plain
    below = float((usable < value).mean() + 0.5 * (usable == value).mean())
    spread = jackknife.mean() - jackknife
    scale = float((spread**2).sum()) ** 1.5
    if not 0.0 < below < 1.0 or scale == 0.0:
        return plain
    bias, acceleration = _NORMAL.inv_cdf(below), float((spread**3).sum()) / (6.0 * scale)
    shifted = [bias + _NORMAL.inv_cdf(level) for level in plain]
    return np.array([_NORMAL.cdf(bias + z / (1.0 - acceleration * z)) for z in shifted])
