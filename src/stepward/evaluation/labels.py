"""Label quality: how far step labels are from an oracle's exact values and exact first errors. Where labels come from is `labeling`'s matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepward.core import CountMismatch, Floats, InputError, StepLabels
from stepward.evaluation.statistics import RESAMPLES, Estimate, cluster_standard_error, finite_or_none, mean_estimate, mean_estimates


@dataclass(frozen=True, kw_only=True)
class PositionQuality:
    """Label error at one step position (0-based)."""

    position: int
    n: int
    bias: float
    mean_abs_error: float
    hard_accuracy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelQuality:
    """Distance of labels from the truth. Steps without a label or without a truth are skipped and counted in `n_skipped`.

    `errors` [n]: label minus exact value of every compared step. `bias_se`: standard error of the bias, clustered by problem.
    `variance_ratio`: sum (v - V)^2 over sum V (1 - V) / rollouts, over rolled-out steps: 1 when the noise is binomial. `coverage`: share of rolled-out
    steps whose 95 % Wilson interval holds V. `confusion`: hard labels against "no error up to this step", good being positive. A value label
    marks a wrong step good wherever luck can still save the solution, so that table shows a difference in meaning as well as noise.
    """

    bias: Estimate
    bias_se: float
    mean_abs_error: Estimate
    first_error_accuracy: Estimate
    coverage: Estimate
    variance_ratio: float
    confusion: dict[str, int]
    by_position: tuple[PositionQuality, ...]
    n_steps: int
    n_skipped: int
    errors: Floats

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without the per-step errors; NaN becomes null."""
        return {
            "bias": self.bias.to_json(),
            "bias_se": finite_or_none(self.bias_se),
            "mean_abs_error": self.mean_abs_error.to_json(),
            "first_error_accuracy": self.first_error_accuracy.to_json(),
            "coverage": self.coverage.to_json(),
            "variance_ratio": finite_or_none(self.variance_ratio),
            "confusion": self.confusion,
            "by_position": [
                {
                    "position": row.position,
                    "n": row.n,
                    "bias": finite_or_none(row.bias),
                    "mean_abs_error": finite_or_none(row.mean_abs_error),
                    "hard_accuracy": finite_or_none(row.hard_accuracy),
                }
                for row in self.by_position
            ],
            "n_steps": self.n_steps,
            "n_skipped": self.n_skipped,
        }


def label_quality(
    labels: Sequence[StepLabels],
    exact: Sequence[StepLabels],
    problems: Sequence[str],
    *,
    first_errors: Sequence[int | None] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> LabelQuality:
    """Compare labels with exact ones of the same semantics, trajectory by trajectory.

    bias = mean(v - V), mean absolute error = mean |v - V| over labelled steps, with intervals that resample `problems` (one key a trajectory).
    `first_errors`: true first errors (default: those of `exact`); a label set that cannot name its first error counts as wrong there, a trajectory
    whose true first error is unknown is left out.

    Raises: InputError when semantics differ, since a value and a correctness are not comparable; CountMismatch for unequal lengths.
    """
    truths = [item.first_error for item in exact] if first_errors is None else list(first_errors)
    if not len(labels) == len(exact) == len(problems) == len(truths):
        raise CountMismatch(f"label_quality: {len(labels)} labels, {len(exact)} exact, {len(problems)} problems, {len(truths)} first errors")
    if not labels:
        raise InputError("label_quality needs at least one labelled trajectory")
    for index, (given, true) in enumerate(zip(labels, exact, strict=True)):
        if given.semantics != true.semantics:
            raise InputError(f"trajectory {index}: labels mean {given.semantics!r} but the exact ones {true.semantics!r}; compare like with like")
        if len(given) != len(true):
            raise CountMismatch(f"trajectory {index}: {len(given)} labels but {len(true)} exact values")
    errors = np.concatenate([given.values - true.values for given, true in zip(labels, exact, strict=True)])
    clusters = [problem for problem, given in zip(problems, labels, strict=True) for _ in range(len(given))]
    known = ~np.isnan(errors)
    found = [
        math.nan if truth is None else float(given.first_error is not None and given.first_error == truth) for given, truth in zip(labels, truths, strict=True)
    ]
    covered, squares, binomial = _against_counts(labels, exact)
    columns = np.stack([errors, np.abs(errors), np.array(covered)], axis=1)
    bias, mean_abs_error, coverage = mean_estimates(columns, clusters, resamples=resamples, seed=seed)
    return LabelQuality(
        bias=bias,
        bias_se=cluster_standard_error(errors, clusters),
        mean_abs_error=mean_abs_error,
        first_error_accuracy=mean_estimate(found, problems, resamples=resamples, seed=seed),
        coverage=coverage,
        variance_ratio=squares / binomial if binomial > 0.0 else math.nan,
        confusion=_confusion(labels, truths),
        by_position=_by_position(labels, exact, truths),
        n_steps=int(known.sum()),
        n_skipped=int((~known).sum()),
        errors=errors[known],
    )


def _against_counts(labels: Sequence[StepLabels], exact: Sequence[StepLabels]) -> tuple[list[float], float, float]:
    """A step each: does its Wilson interval hold the truth (NaN: not rolled out); squared errors and binomial variances, summed."""
    covered: list[float] = []
    squares = binomial = 0.0
    for given, true in zip(labels, exact, strict=True):
        for count, value in zip(given.counts, true.values, strict=True):
            if count is None or count.rollouts == 0 or math.isnan(value):
                covered.append(math.nan)
                continue
            low, high = count.interval()
            covered.append(float(low - 1e-12 <= value <= high + 1e-12))
            squares += (count.value - value) ** 2
            binomial += value * (1.0 - value) / count.rollouts
    return covered, squares, binomial


def _hard_pairs(given: StepLabels, truth: int | None) -> list[tuple[bool, bool] | None]:
    """(labelled good, no error so far) of every step; None where either is unknown."""
    if truth is None:
        return [None] * len(given)
    return [None if good is None else (good, truth < 0 or step < truth) for step, good in enumerate(given.hard)]


def _confusion(labels: Sequence[StepLabels], truths: Sequence[int | None]) -> dict[str, int]:
    table = {"true_good": 0, "false_good": 0, "true_bad": 0, "false_bad": 0}
    for given, truth in zip(labels, truths, strict=True):
        for pair in _hard_pairs(given, truth):
            if pair is not None:
                good, right = pair
                table[("true_" if good == right else "false_") + ("good" if good else "bad")] += 1
    return table


def _by_position(labels: Sequence[StepLabels], exact: Sequence[StepLabels], truths: Sequence[int | None]) -> tuple[PositionQuality, ...]:
    rows = []
    for position in range(max(len(given) for given in labels)):
        here = [index for index, given in enumerate(labels) if position < len(given)]
        errors = np.array([labels[index].values[position] - exact[index].values[position] for index in here])
        errors = errors[~np.isnan(errors)]
        pairs = [pair for index in here if (pair := _hard_pairs(labels[index], truths[index])[position]) is not None]
        rows.append(
            PositionQuality(
                position=position,
                n=len(errors),
                bias=float(errors.mean()) if len(errors) else math.nan,
                mean_abs_error=float(np.abs(errors).mean()) if len(errors) else math.nan,
                hard_accuracy=sum(good == right for good, right in pairs) / len(pairs) if pairs else math.nan,
            )
        )
    return tuple(rows)
