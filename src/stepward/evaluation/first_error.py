"""First errors: predicted and true ones compared. Which threshold predicts them is in `threshold`, the benchmark's protocol in `processbench`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepward.core import ABSTAINED, CountMismatch, Floats, StepScores
from stepward.evaluation.statistics import finite_or_none, ratio

PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredItem:
    """One solution with its true first error, what a model said about it, and the problem it belongs to."""

    id: str
    problem: str
    truth: int
    scores: StepScores


@dataclass(frozen=True, kw_only=True)
class FirstErrorMetrics:
    """Accuracies and F1 in percent; NaN where a subset has no item of the kind. `n_unscored` predictions were unknown, and count as wrong."""

    error_accuracy: float
    correct_accuracy: float
    f1: float
    n_error: int
    n_correct: int
    n_unscored: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; NaN becomes null."""
        return {
            "error_accuracy": finite_or_none(self.error_accuracy),
            "correct_accuracy": finite_or_none(self.correct_accuracy),
            "f1": finite_or_none(self.f1),
            "n_error": self.n_error,
            "n_correct": self.n_correct,
            "n_unscored": self.n_unscored,
        }


def first_error_metrics(predicted: Sequence[int | None], truth: Sequence[int]) -> FirstErrorMetrics:
    """How often the predicted first error (-1: none, None: unknown) is exactly the true one.

    error accuracy a over items with an error, correct accuracy b over items without, F1 = 2ab / (a + b) (0 where a + b = 0), in percent.
    An unknown prediction counts as wrong and is counted.
    """
    values = f1_of_totals(match_columns(predicted, truth).sum(axis=0))
    error, correct, f1 = (float(value) for value in values)
    n_error = sum(label >= 0 for label in truth)
    return FirstErrorMetrics(
        error_accuracy=error,
        correct_accuracy=correct,
        f1=f1,
        n_error=n_error,
        n_correct=len(truth) - n_error,
        n_unscored=sum(prediction is None for prediction in predicted),
    )


def f1_of_totals(totals: Floats) -> Floats:
    """(error accuracy, correct accuracy, F1) in percent, [..., 3], from the sums [..., 4] of right and all error items, right and all correct items."""
    error, correct = ratio(totals[..., 0], totals[..., 1]), ratio(totals[..., 2], totals[..., 3])
    total = np.asarray(error + correct)
    harmonic = np.where(total == 0.0, 0.0, ratio(2.0 * error * correct, total))
    return np.stack([error, correct, np.where(np.isnan(total), np.nan, harmonic)], axis=-1) * PERCENT


def match_columns(predicted: Sequence[int | None], truth: Sequence[int]) -> Floats:
    """[n, 4]: right and error item, error item, right and correct item, correct item."""
    if len(predicted) != len(truth):
        raise CountMismatch(f"{len(truth)} true first errors but {len(predicted)} predictions")
    labels = np.array(truth, dtype=np.int64)
    right = np.array([prediction is not None and prediction == label for prediction, label in zip(predicted, truth, strict=True)], dtype=bool)
    error = labels >= 0
    return np.stack([right & error, error, right & ~error, ~error], axis=1).astype(np.float64)


def right_between(item: ScoredItem) -> tuple[float, float] | None:
    """Thresholds (low, high] at which the item's prediction is right; None where there are none."""
    values, reasons = item.scores.values, item.scores.reasons
    before = len(values) if item.truth < 0 else item.truth
    if any(reason is not None and not reason.startswith(ABSTAINED) for reason in reasons[:before]):
        return None
    high = float(np.min(values[:before], initial=math.inf, where=~np.isnan(values[:before])))
    if item.truth < 0:
        return -math.inf, high
    low = float(values[item.truth])
    return None if math.isnan(low) or low >= high else (low, high)
