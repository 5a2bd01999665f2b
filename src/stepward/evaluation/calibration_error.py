"""Expected calibration error with an interval, its paired difference between two sets of predictions, and what chance alone would give."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from stepward.core import Floats
from stepward.evaluation.statistics import RESAMPLES, Estimate, bootstrap, paired_bootstrap
from stepward.training.metrics import equal_mass_bins, expected_calibration_error

BINS = 10


def ece_estimate(
    predicted: Floats, target: Floats, clusters: Sequence[Hashable] | None = None, *, bins: int = BINS, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """sum_b |sum_{i in b} (p_i - y_i)| / n over equal-mass bins, with an interval from resampling clusters in the bins of the whole sample.

    An absolute value of noise is positive: estimate and interval lie too high, by about `ece_of_chance` where predictions are calibrated.
    """
    return bootstrap(_columns(predicted, target, bins), _ece, clusters, seed=seed, resamples=resamples)


def ece_difference(
    first: Floats,
    second: Floats,
    target: Floats,
    clusters: Sequence[Hashable] | None = None,
    *,
    bins: int = BINS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """ECE of the first predictions minus that of the second for the same targets, paired over resampled clusters."""
    a, b = (_padded(_columns(predicted, target, bins), bins) for predicted in (first, second))
    return paired_bootstrap(a, b, _ece, clusters, seed=seed, resamples=resamples)


def ece_of_chance(predicted: Floats, *, bins: int = BINS, draws: int = 200, seed: int = 0) -> float:
    """Mean ECE of these predictions if they were exactly calibrated and targets were independent draws: the part of an ECE that says nothing."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((draws, len(predicted))) < predicted).astype(np.float64)
    return float(np.mean([expected_calibration_error(predicted, target, n_bins=bins) for target in targets]))


def log_loss(predicted: Floats, target: Floats) -> Floats:
    """-y log p - (1 - y) log(1 - p) of every pair, probabilities taken as at least 1e-4 from 0 and 1, so that one sure error counts as 9.2."""
    p = np.clip(predicted, 1e-4, 1.0 - 1e-4)
    return np.asarray(-target * np.log(p) - (1.0 - target) * np.log1p(-p))


def _ece(totals: Floats) -> Floats:
    return np.asarray(np.abs(totals[..., :-1]).sum(axis=-1) / totals[..., -1])


def _columns(predicted: Floats, target: Floats, bins: int) -> Floats:
    """[n, bins + 1]: p - y in the column of its bin, and a column that counts."""
    index = equal_mass_bins(predicted, bins)
    columns = np.zeros((len(predicted), int(index.max(initial=0)) + 2))
    columns[np.arange(len(predicted)), index] = predicted - target
    columns[:, -1] = 1.0
    return columns


def _padded(columns: Floats, bins: int) -> Floats:
    """As many columns whatever the ties; the count stays last."""
    return np.concatenate([columns[:, :-1], np.zeros((len(columns), bins + 1 - columns.shape[1])), columns[:, -1:]], axis=1)
