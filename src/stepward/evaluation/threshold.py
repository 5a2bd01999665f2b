"""Threshold: below which score a step counts as wrong, chosen on one set and reported on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import ABSTAINED, Floats, InputError
from stepward.evaluation.first_error import ScoredItem, f1_of_totals, right_between
from stepward.evaluation.statistics import RESAMPLES, Estimate, bootstrap, finite_or_none, paired_bootstrap, ratio

Criterion = Literal["f1", "balanced_accuracy"]


@dataclass(frozen=True, kw_only=True)
class ThresholdChoice:
    """`threshold` is the middle of (low, high], the widest range in which the criterion reaches its best `value` (percent) on the set that it was chosen on."""

    threshold: float
    low: float
    high: float
    value: float
    criterion: Criterion

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; NaN becomes null."""
        return {"threshold": self.threshold, "low": self.low, "high": self.high, "value": finite_or_none(self.value), "criterion": self.criterion}


def choose_threshold(items: Sequence[ScoredItem], criterion: Criterion = "f1") -> ThresholdChoice:
    """The threshold with the best criterion on these solutions, exactly.

    f1: ProcessBench's, of first errors; an unknown prediction counts as wrong. balanced_accuracy: the mean of the shares of good steps at or above the
    threshold and of bad steps below it, over the steps up to the first error; an abstention finds no error, a failure to score counts as wrong.

    Only finitely many ranges of thresholds differ, each between two neighbouring distinct scores (closed at the upper one, since a step is wrong *below* the
    threshold). Neighbouring ranges with the best value are joined; of several such ranges the widest is taken, of equally wide ones the lowest. For
    probabilities the outer ranges end at 0 and 1.

    Raises: InputError without solutions of both kinds, or for an unknown criterion.
    """
    check_criterion(criterion)
    wrong, low, high = right_ranges(items, criterion)
    probability = all(item.scores.scale == "probability" for item in items)
    return best_range(wrong, low, high, criterion, ends=(0.0, 1.0) if probability else None)


def criterion_at(items: Sequence[ScoredItem], threshold: float, criterion: Criterion = "f1", *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The criterion at a given threshold (chosen on other problems) in percent, with its interval from resampling problems."""
    columns, statistic = _columns(items, threshold, criterion), _STATISTICS[check_criterion(criterion)]
    return bootstrap(columns, statistic, [item.problem for item in items], seed=seed, resamples=resamples)


def criterion_difference(
    first: tuple[Sequence[ScoredItem], float],
    second: tuple[Sequence[ScoredItem], float],
    criterion: Criterion = "f1",
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Criterion of the first (scores, threshold) minus that of the second on the same solutions, percentage points, paired over resampled problems."""
    keys = [[(item.id, item.problem, item.truth) for item in items] for items, _ in (first, second)]
    if keys[0] != keys[1]:
        raise InputError("a paired difference needs the same solutions in the same order on both sides")
    columns = [_columns(items, threshold, criterion) for items, threshold in (first, second)]
    statistic = _STATISTICS[check_criterion(criterion)]
    return paired_bootstrap(columns[0], columns[1], statistic, [problem for _, problem, _ in keys[0]], seed=seed, resamples=resamples)


def check_criterion(criterion: Criterion) -> Criterion:
    """Raises: InputError listing the known criteria."""
    if criterion not in get_args(Criterion):
        raise InputError(f"unknown criterion {criterion!r}; choose one of {', '.join(get_args(Criterion))}")
    return criterion


def right_ranges(items: Sequence[ScoredItem], criterion: Criterion) -> tuple[np.typing.NDArray[np.bool_], Floats, Floats]:
    """(wrong, low, high), [U] each: unit u, of the wrong kind or not, is judged rightly at thresholds in (low, high]; both NaN where at none.

    A unit is a solution for f1, a step up to the first error for balanced accuracy.
    """
    units: list[tuple[bool, float, float]] = []
    for item in items:
        if criterion == "f1":
            units.append((item.truth >= 0, *(right_between(item) or (np.nan, np.nan))))
            continue
        for step, (value, reason) in enumerate(zip(item.scores.values, item.scores.reasons, strict=True)):
            wrong = step == item.truth
            if reason is not None:
                passed = reason.startswith(ABSTAINED) and not wrong
                units.append((wrong, -np.inf, np.inf) if passed else (wrong, np.nan, np.nan))
            else:
                units.append((True, float(value), np.inf) if wrong else (False, -np.inf, float(value)))
            if wrong:
                break
    table = np.array(units, dtype=np.float64).reshape(-1, 3)
    return table[:, 0] == 1.0, table[:, 1], table[:, 2]


def best_range(
    wrong: np.typing.NDArray[np.bool_], low: Floats, high: Floats, criterion: Criterion, *, ends: tuple[float, float] | None = None
) -> ThresholdChoice:
    """The choice from units that are right at thresholds in (low, high]; see `choose_threshold`. `ends`: where thresholds end, None for nowhere."""
    if wrong.all() or not wrong.any():
        raise InputError("choosing a threshold needs solutions with an error and without; give more labelled solutions")
    cuts = np.unique(np.concatenate([low, high]))
    cuts = cuts[np.isfinite(cuts)]
    if not cuts.size:
        cuts = np.array([0.5 if ends else 0.0])
    span = float(cuts[-1] - cuts[0]) or 1.0
    floor, top = ends if ends else (float(cuts[0]) - span, float(cuts[-1]) + span)
    lower, upper = np.concatenate([[min(floor, cuts[0])], cuts]), np.concatenate([cuts, [max(top, cuts[-1])]])
    counts = []
    for kind in (True, False):
        usable = (wrong == kind) & ~np.isnan(low)
        counts.append(_right_counts(low[usable], high[usable], np.append(cuts, np.inf)))
        counts.append(np.full(len(upper), float((wrong == kind).sum())))
    values = np.nan_to_num(_STATISTICS[criterion](np.stack(counts, axis=-1)), nan=0.0)
    if len(upper) > 1 and lower[-1] == upper[-1]:  # nothing lies above the highest score
        lower, upper, values = lower[:-1], upper[:-1], values[:-1]
    best = values >= values.max() - 1e-9
    begins = np.flatnonzero(best & ~np.concatenate([[False], best[:-1]]))
    finishes = np.flatnonzero(best & ~np.concatenate([best[1:], [False]]))
    widths = upper[finishes] - lower[begins]
    run = int(np.argmax(widths >= widths.max() - 1e-12))
    bottom, ceiling = float(lower[begins[run]]), float(upper[finishes[run]])
    middle = (bottom + ceiling) / 2.0
    if not bottom < middle:  # neighbouring floats, or an empty range at the lower end
        middle = ceiling
    return ThresholdChoice(threshold=middle, low=bottom, high=ceiling, value=float(values.max()), criterion=criterion)


def _right_counts(low: Floats, high: Floats, at: Floats) -> Floats:
    """How many of the ranges (low, high] hold each threshold."""
    return (np.searchsorted(np.sort(low), at, side="left") - np.searchsorted(np.sort(high), at, side="left")).astype(np.float64)


def _columns(items: Sequence[ScoredItem], threshold: float, criterion: Criterion) -> Floats:
    """[n, 4] a solution: right and all units of the wrong kind, right and all units of the other kind."""
    rows = []
    for item in items:
        wrong, low, high = right_ranges([item], criterion)
        right = (low < threshold) & (threshold <= high)
        rows.append([float((right & wrong).sum()), float(wrong.sum()), float((right & ~wrong).sum()), float((~wrong).sum())])
    return np.array(rows)


def _f1(totals: Floats) -> Floats:
    return f1_of_totals(totals)[..., 2]


def _balanced(totals: Floats) -> Floats:
    return np.asarray(50.0 * (ratio(totals[..., 0], totals[..., 1]) + ratio(totals[..., 2], totals[..., 3])))


_STATISTICS: dict[Criterion, Callable[[Floats], Floats]] = {"f1": _f1, "balanced_accuracy": _balanced}
