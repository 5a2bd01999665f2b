"""ProcessBench: does a reward model find the earliest wrong step? The protocol, its metric and its threshold, for any labelled solutions.

Labels here say *correctness* of steps, not the chance of success: an exact value function does not reach 100.
Reference: ProcessBench: identifying process errors in mathematical reasoning (2024).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import ABSTAINED, CountMismatch, Example, InputError, RewardModel, StepScores, Usage
from stepward.evaluation.first_error import PERCENT, FirstErrorMetrics, ScoredItem, f1_of_totals, first_error_metrics, match_columns
from stepward.evaluation.statistics import Estimate, bootstrap_many, finite_or_none, rule_of_three
from stepward.evaluation.threshold import choose_threshold
from stepward.search.workbench import score_or_reason


@dataclass(frozen=True, kw_only=True)
class Own:
    """The threshold that the scores carry (`StepScores.threshold`): what their model calls wrong."""


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """One threshold for all subsets: a step counts as wrong when its score is below `value`."""

    value: float = 0.5


@dataclass(frozen=True, kw_only=True)
class TunedOn:
    """The threshold with the best F1 on the one named subset (`threshold.choose_threshold`), then kept for all others."""

    subset: str


Threshold = Own | Fixed | TunedOn
OWN = Own()


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
    """All subsets at one threshold. `tuned_on` names the subset that it was tuned on, None for another one.

    `threshold` is NaN where the scores carry their own and these differ (or nothing is scored).
    """

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
            "threshold": finite_or_none(self.threshold),
            "usage": self.usage.to_record(),
        }


async def evaluate_processbench(
    model: RewardModel,
    subsets: Mapping[str, Sequence[Example]],
    *,
    threshold: Threshold = OWN,
    on_scored: Callable[[], None] | None = None,
    seed: int = 0,
) -> ProcessBenchResult:
    """Score every solution of every subset and compare the first step below the threshold with the true first error.

    Abstentions are passed over (an abstaining verifier predicts -1); a failure to score makes the item unscored, which counts as wrong. Examples
    whose first error is unknown are left out and counted. `on_scored` is called once a solution, for progress bars. Without `threshold`
    each solution is judged at the threshold that its scores carry.

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
    threshold: Threshold = OWN,
    model: str = "",
    n_unlabelled: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ProcessBenchResult:
    """The protocol on scores that exist already.

    Raises: InputError for an empty subset, an unknown name in `TunedOn`, or a subset to tune on that lacks solutions with or without an error.
    """
    for name, items in subsets.items():
        if not items:
            raise InputError(f"subset {name!r} has no solution with a known first error; nothing can be measured on it")
    limit: float | None = None
    tuned_on: str | None = None
    if isinstance(threshold, TunedOn):
        if threshold.subset not in subsets:
            raise InputError(f"cannot tune the threshold on {threshold.subset!r}; the subsets are {', '.join(subsets)}")
        limit, tuned_on = choose_threshold(subsets[threshold.subset]).threshold, threshold.subset
    elif isinstance(threshold, Fixed):
        limit = threshold.value
    results = {}
    for name, items in subsets.items():
        predicted = tuple(item.scores.first_error(limit) for item in items)
        truth, problems = tuple(item.truth for item in items), tuple(item.problem for item in items)
        error, correct, f1 = bootstrap_many(match_columns(predicted, truth), f1_of_totals, problems, seed=seed)
        n_problems = [len({problem for problem, label in zip(problems, truth, strict=True) if (label >= 0) is wrong}) for wrong in (True, False)]
        error, correct = (rule_of_three(e, n, top=PERCENT) for e, n in zip((error, correct), n_problems, strict=True))
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
    return ProcessBenchResult(subsets=results, threshold=_common_threshold(subsets) if limit is None else limit, tuned_on=tuned_on, model=model, usage=Usage())


def _common_threshold(subsets: Mapping[str, Sequence[ScoredItem]]) -> float:
    """The one threshold that all scores carry, solutions without any score aside; NaN where there is no such one."""
    found = {item.scores.threshold for items in subsets.values() for item in items if item.scores.n_unscored < len(item.scores)}
    return found.pop() if len(found) == 1 else float("nan")


def subset_name(path: str | Path) -> str:
    """The name of a data file's subset: its stem without suffixes and without a leading "processbench_", e.g. gsm8k_dev."""
    return Path(path).name.split(".")[0].removeprefix("processbench_")


def _truth(example: Example) -> int | None:
    return None if example.labels is None else example.labels.first_error
