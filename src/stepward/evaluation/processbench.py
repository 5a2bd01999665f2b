"""ProcessBench: does a reward model find the earliest wrong step? The protocol, its metric and its threshold, for any labelled solutions.

Labels here say *correctness* of steps, not the chance of success: an exact value function does not reach 100.
Reference: ProcessBench: identifying process errors in mathematical reasoning (2024).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import ABSTAINED, CountMismatch, Example, Floats, InputError, RewardModel, StepScores, Usage
from stepward.evaluation.statistics import Estimate, bootstrap_many, finite_or_none, ratio, rule_of_three
from stepward.search.evaluate import score_or_reason

_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """One threshold for all subsets: a step counts as wrong when its score is below `value`."""

    value: float = 0.5


@dataclass(frozen=True, kw_only=True)
class TunedOn:
    """The threshold that maximises F1 on the one named subset, then kept for all others."""

    subset: str


Threshold = Fixed | TunedOn
AT_ONE_HALF = Fixed()


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
    values = f1_of_totals(_match_columns(predicted, truth).sum(axis=0))
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
    return np.stack([error, correct, np.where(np.isnan(total), np.nan, harmonic)], axis=-1) * _PERCENT


@dataclass(frozen=True, kw_only=True, eq=False)
class SubsetResult:
    """One subset: its metrics with their intervals (resampling problems), and what was predicted for every item."""

    name: str
    metrics: FirstErrorMetrics
    intervals: Mapping[str, Estimate]
    ids: tuple[str, ...]
    problems: tuple[str, ...]
    predicted: tuple[int | None, ...]
    truth: tuple[int, ...]
    scores: tuple[StepScores, ...]
    tuned_here: bool = False
    n_unlabelled: int = 0

    @property
    def n_abstained(self) -> int:
        """Steps on which the model declined to judge."""
        return sum(reason is not None and reason.startswith(ABSTAINED) for scores in self.scores for reason in scores.reasons)

    @property
    def n_steps(self) -> int:
        return sum(len(scores) for scores in self.scores)

    @property
    def reasons(self) -> dict[str, int]:
        """How many items went unscored for which first reason."""
        counts: dict[str, int] = {}
        for scores, prediction in zip(self.scores, self.predicted, strict=True):
            if prediction is None:
                reason = next(reason for reason in scores.reasons if reason is not None and not reason.startswith(ABSTAINED))
                counts[reason] = counts.get(reason, 0) + 1
        return counts

    def to_json(self) -> dict[str, Any]:
        return self.metrics.to_json() | {
            "intervals": {name: [finite_or_none(e.low), finite_or_none(e.high)] for name, e in self.intervals.items()},
            "n_steps": self.n_steps,
            "n_abstained": self.n_abstained,
            "n_unlabelled": self.n_unlabelled,
            "threshold_tuned_here": self.tuned_here,
            "unscored_reasons": self.reasons,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ProcessBenchResult:
    """All subsets at one threshold. `tuned_on` names the subset that the threshold was tuned on, None for a fixed one."""

    subsets: Mapping[str, SubsetResult]
    threshold: float
    tuned_on: str | None
    model: str
    usage: Usage

    @property
    def average_f1(self) -> float:
        """Mean of the subsets' F1, in percent; NaN when any of them is."""
        return float(np.mean([subset.metrics.f1 for subset in self.subsets.values()]))

    def to_json(self) -> dict[str, Any]:
        """`{subsets: {name: {...}}, average_f1, threshold, usage}`; the tuned subset carries `threshold_tuned_here: true`."""
        return {
            "subsets": {name: subset.to_json() for name, subset in self.subsets.items()},
            "average_f1": finite_or_none(self.average_f1),
            "threshold": self.threshold,
            "usage": self.usage.to_record(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredItem:
    """One solution with its true first error, what a model said about it, and the problem it belongs to."""

    id: str
    problem: str
    truth: int
    scores: StepScores


async def evaluate_processbench(
    model: RewardModel,
    subsets: Mapping[str, Sequence[Example]],
    *,
    threshold: Threshold = AT_ONE_HALF,
    on_scored: Callable[[], None] | None = None,
    seed: int = 0,
) -> ProcessBenchResult:
    """Score every solution of every subset and compare the first step below the threshold with the true first error.

    Abstentions are passed over (an abstaining verifier predicts -1); a failure to score makes the item unscored, which counts as wrong. Examples
    whose first error is unknown are left out and counted. `on_scored` is called once a solution, for progress bars. Models whose scale is not
    "probability" need a threshold of their own: `Fixed(value=...)` or `TunedOn(subset=...)`.

    Raises: InputError for an unknown subset name or a subset without labels; CountMismatch when the model returns another number of scores.
    """
    started = time.perf_counter()
    labelled = {name: [example for example in examples if _truth(example) is not None] for name, examples in subsets.items()}

    async def item(example: Example) -> ScoredItem:
        trajectory = example.trajectory
        scores = await score_or_reason(model, trajectory)
        if len(scores) != len(trajectory):
            raise CountMismatch(f"example {example.id!r}: {len(trajectory)} steps but {model.fingerprint} returned {len(scores)} scores")
        if on_scored is not None:
            on_scored()
        truth = _truth(example)
        assert truth is not None
        return ScoredItem(id=example.id, problem=trajectory.problem.key, truth=truth, scores=scores)

    flat = await asyncio.gather(*(item(example) for examples in labelled.values() for example in examples))
    items, start = {}, 0
    for name, examples in labelled.items():
        items[name] = flat[start : start + len(examples)]
        start += len(examples)
    skipped = {name: len(examples) - len(labelled[name]) for name, examples in subsets.items()}
    result = evaluate_scored(items, threshold=threshold, model=model.fingerprint, n_unlabelled=skipped, seed=seed)
    usage = Usage.total(scored.scores.usage for scored in flat)
    return replace(result, usage=replace(usage, wall_s=time.perf_counter() - started))


def evaluate_scored(
    subsets: Mapping[str, Sequence[ScoredItem]],
    *,
    threshold: Threshold = AT_ONE_HALF,
    model: str = "",
    n_unlabelled: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ProcessBenchResult:
    """The protocol on scores that exist already.

    Raises: InputError for an empty subset or an unknown name in `TunedOn`.
    """
    for name, items in subsets.items():
        if not items:
            raise InputError(f"subset {name!r} has no solution with a known first error; nothing can be measured on it")
    if isinstance(threshold, TunedOn):
        if threshold.subset not in subsets:
            raise InputError(f"cannot tune the threshold on {threshold.subset!r}; the subsets are {', '.join(subsets)}")
        limit, tuned_on = tune_threshold(subsets[threshold.subset]), threshold.subset
    else:
        limit, tuned_on = threshold.value, None
    results = {}
    for name, items in subsets.items():
        predicted = tuple(item.scores.first_error(limit) for item in items)
        truth, problems = tuple(item.truth for item in items), tuple(item.problem for item in items)
        error, correct, f1 = bootstrap_many(_match_columns(predicted, truth), f1_of_totals, problems, seed=seed)
        n_problems = [len({problem for problem, label in zip(problems, truth, strict=True) if (label >= 0) is wrong}) for wrong in (True, False)]
        error, correct = (rule_of_three(e, n, top=_PERCENT) for e, n in zip((error, correct), n_problems, strict=True))
        results[name] = SubsetResult(
            name=name,
            metrics=first_error_metrics(predicted, truth),
            intervals={"error_accuracy": error, "correct_accuracy": correct, "f1": f1},
            ids=tuple(item.id for item in items),
            problems=problems,
            predicted=predicted,
            truth=truth,
            scores=tuple(item.scores for item in items),
            tuned_here=name == tuned_on,
            n_unlabelled=(n_unlabelled or {}).get(name, 0),
        )
    return ProcessBenchResult(subsets=results, threshold=limit, tuned_on=tuned_on, model=model, usage=Usage())


def tune_threshold(items: Sequence[ScoredItem]) -> float:
    """The threshold with the best F1 on these items, exactly; among equally good ones the one nearest to 0.5.

    Solution i is right for thresholds in an interval (low_i, high_i]: above the score of its wrong step, up to the smallest score before it
    (or of all steps, if it has no error). So one sweep over the interval ends finds every value that F1 takes.
    """
    spans = [(item.truth >= 0, _right_between(item)) for item in items]
    ends = sorted({end for _, span in spans if span is not None for end in span if math.isfinite(end)})
    if not ends:
        return 0.5
    candidates = np.array([*ends, *((a + b) / 2.0 for a, b in pairwise(ends)), ends[0] - 1.0, ends[-1] + 1.0, 0.5])
    counts = []
    for has_error in (True, False):
        lows, highs = (np.sort([span[side] for error, span in spans if span is not None and error is has_error]) for side in (0, 1))
        right = np.searchsorted(lows, candidates, side="left") - np.searchsorted(highs, candidates, side="left")
        counts += [right.astype(np.float64), np.full(len(candidates), float(sum(error is has_error for error, _ in spans)))]
    f1 = np.nan_to_num(f1_of_totals(np.stack(counts, axis=-1))[:, 2], nan=0.0)
    best = candidates[f1 >= f1.max() - 1e-9]
    return float(best[np.argmin(np.abs(best - 0.5))])


def subset_name(path: str | Path) -> str:
    """The name of a data file's subset: its stem without suffixes and without a leading "processbench_", e.g. gsm8k_dev."""
    return Path(path).name.split(".")[0].removeprefix("processbench_")


def _truth(example: Example) -> int | None:
    return None if example.labels is None else example.labels.first_error


def _match_columns(predicted: Sequence[int | None], truth: Sequence[int]) -> Floats:
    """[n, 4]: right and error item, error item, right and correct item, correct item."""
    if len(predicted) != len(truth):
        raise CountMismatch(f"{len(truth)} true first errors but {len(predicted)} predictions")
    labels = np.array(truth, dtype=np.int64)
    right = np.array([prediction is not None and prediction == label for prediction, label in zip(predicted, truth, strict=True)], dtype=bool)
    error = labels >= 0
    return np.stack([right & error, error, right & ~error, ~error], axis=1).astype(np.float64)


def _right_between(item: ScoredItem) -> tuple[float, float] | None:
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
