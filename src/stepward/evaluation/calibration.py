"""Calibration: do scores mean what they say? Fitting a calibrator is `rewards`' matter; here it is only measured."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError
from stepward.evaluation.statistics import RESAMPLES, Estimate, finite_or_none, mean_estimates
from stepward.training.metrics import auroc, equal_mass_bins


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Predictions in [low, high]: how many, their mean, and the mean of what they predict."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Of probabilities p against targets y: Brier mean (p - y)^2; positive Brier mean max(0, p - y)^2 (over-estimation only); bias mean(p - y);
    ECE sum_b n_b / n |mean p - mean y| over equal-mass bins; AUROC where targets are 0 and 1 (NaN else). `n_skipped` pairs were unknown."""

    brier: Estimate
    positive_brier: Estimate
    bias: Estimate
    ece: float
    auroc: float
    bins: tuple[ReliabilityBin, ...]
    n: int
    n_skipped: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; NaN becomes null."""
        return {
            "brier": self.brier.to_json(),
            "positive_brier": self.positive_brier.to_json(),
            "bias": self.bias.to_json(),
            "ece": finite_or_none(self.ece),
            "auroc": finite_or_none(self.auroc),
            "bins": [{"low": b.low, "high": b.high, "n": b.n, "predicted": b.predicted, "observed": b.observed} for b in self.bins],
            "n": self.n,
            "n_skipped": self.n_skipped,
        }


def calibration(
    predicted: ArrayLike, target: ArrayLike, clusters: Sequence[Hashable] | None = None, *, bins: int = 10, seed: int = 0, resamples: int = RESAMPLES
) -> Calibration:
    """Calibration of `predicted` [n] against `target` [n]: exact values, success rates or 0/1 outcomes, all in [0, 1].

    Pairs with an unknown side (NaN) are left out and counted. Equal predictions always share a bin, so there may be fewer bins than asked for.
    With rates from k rollouts as targets, Brier holds their noise as well, mean V (1 - V) / k.

    Raises: InputError for values outside [0, 1] or unequal shapes.
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1:
        raise InputError(f"calibration needs one target a prediction, got shapes {p.shape} and {y.shape}")
    known = ~(np.isnan(p) | np.isnan(y))
    for name, array in (("predictions", p), ("targets", y)):
        if array[known].size and not (array[known].min() >= 0.0 and array[known].max() <= 1.0):
            raise InputError(f"calibration needs {name} in [0, 1], got {array[known].min():.6g} to {array[known].max():.6g}; map other scales first")
    error = np.where(known, p - y, np.nan)
    rows = reliability(p[known], y[known], bins=bins)
    binary = bool(np.isin(y[known], (0.0, 1.0)).all())
    total = int(known.sum())
    columns = np.stack([error**2, np.maximum(error, 0.0) ** 2, error], axis=1)
    brier, positive_brier, bias = mean_estimates(columns, clusters, resamples=resamples, seed=seed)
    return Calibration(
        brier=brier,
        positive_brier=positive_brier,
        bias=bias,
        ece=sum(row.n * abs(row.predicted - row.observed) for row in rows) / total if total else math.nan,
        auroc=auroc(p[known], y[known] == 1.0) if binary else math.nan,
        bins=rows,
        n=total,
        n_skipped=int((~known).sum()),
    )


def reliability(predicted: Floats, target: Floats, *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Equal-mass bins of the predictions, lowest first; empty for no pairs."""
    if bins < 1:
        raise InputError(f"reliability needs at least 1 bin, got {bins}")
    if not predicted.size:
        return ()
    index = equal_mass_bins(predicted, bins)
    rows = []
    for number in np.unique(index):
        here = index == number
        p, y = predicted[here], target[here]
        rows.append(ReliabilityBin(low=float(p.min()), high=float(p.max()), n=len(p), predicted=float(p.mean()), observed=float(y.mean())))
    return tuple(rows)
