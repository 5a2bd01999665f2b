"""Metrics that training reports about a development set: pure functions on NumPy arrays. Benchmarks and their protocols are in `evaluation`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stepward.core.aggregation import Floats

Bools = NDArray[np.bool_]


def auroc(scores: Floats, good: Bools) -> float:
    """P(score of a good step > score of a bad one) + P(equal) / 2, by ranks; NaN when a class is missing. Both of shape [N]."""
    n_good = int(good.sum())
    n_bad = len(good) - n_good
    if n_good == 0 or n_bad == 0:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2.0
    return float((mid_ranks[inverse][good].sum() - n_good * (n_good + 1) / 2.0) / (n_good * n_bad))


def accuracy(predicted: Bools, good: Bools) -> float:
    """Share of equal entries; NaN without entries."""
    return float((predicted == good).mean()) if len(good) else math.nan


def balanced_accuracy(predicted: Bools, good: Bools) -> float:
    """Mean of the recalls of both classes; NaN when a class is missing."""
    if good.all() or not good.any():
        return math.nan
    return float((predicted[good].mean() + (~predicted[~good]).mean()) / 2.0)


def first_error_f1(predicted: Sequence[int], truth: Sequence[int]) -> float:
    """Harmonic mean of the shares found exactly among the solutions with an error and among those without (truth -1); 0 when both are 0, NaN when one
    kind is missing (ProcessBench: Identifying Process Errors in Mathematical Reasoning, 2024)."""
    pairs = np.array([*zip(predicted, truth, strict=True)], dtype=np.int64).reshape(-1, 2)
    hit, clean = pairs[:, 0] == pairs[:, 1], pairs[:, 1] == -1
    if clean.all() or not clean.any():
        return math.nan
    wrong, right = float(hit[~clean].mean()), float(hit[clean].mean())
    return 2.0 * wrong * right / (wrong + right) if wrong + right else 0.0


def expected_calibration_error(probs: Floats, targets: Floats, *, n_bins: int = 10) -> float:
    """sum_b (n_b / n) |mean prob - mean target| over bins of equal mass; targets may be soft. NaN without entries."""
    if not len(probs):
        return math.nan
    return float(np.abs(np.bincount(equal_mass_bins(probs, n_bins), weights=probs - targets)).sum()) / len(probs)


def equal_mass_bins(values: Floats, n_bins: int) -> NDArray[np.intp]:
    """The bin of every value, [N], from 0 for the lowest. Equal values share a bin, so there may be fewer than `n_bins`, and numbers may be left out."""
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins, method="lower")
    return np.searchsorted(np.unique(edges), values, side="left")
