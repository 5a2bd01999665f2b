"""Labeling cost: what step labels are worth for the tokens they cost. Distance from exact values step by step is in `labels`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepward.core import CountMismatch, Floats, InputError, StepLabels
from stepward.evaluation.statistics import RESAMPLES, Estimate, finite_or_none, mean_estimate

_PLAIN = ("named", "step_accuracy", "stated", "earned", "width", "value_rmse", "tokens", "reward_tokens")


@dataclass(frozen=True, kw_only=True)
class LabelingCost:
    """One labeler on one set of trajectories. Means over trajectories, unless said otherwise; NaN where a labeler says nothing of the kind.

    first_error_accuracy: share whose first error is named exactly (unknown counts as wrong). named: share on which the labeler commits itself, to a first
    error or to none; first_error_precision: the share of those that it names exactly. step_accuracy: share of hard-labelled steps that agree with "no
    error so far". stated, earned: mean confidence of the steps that state one, and the share of those whose hard label is right; honest confidence has
    stated <= earned. coverage, width: of stated value intervals, graded last steps left out. value_rmse: root mean squared error of rolled-out value labels.
    tokens: policy tokens a trajectory; reward_tokens: those that judges and other reward models read or write.
    """

    first_error_accuracy: Estimate
    named: float
    first_error_precision: Estimate
    step_accuracy: float
    stated: float
    earned: float
    coverage: Estimate
    width: float
    value_rmse: float
    tokens: float
    reward_tokens: float
    n: int
    n_unlabelled: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; NaN becomes null."""
        plain = {name: finite_or_none(getattr(self, name)) for name in _PLAIN}
        estimates = {name: getattr(self, name).to_json() for name in ("first_error_accuracy", "first_error_precision", "coverage")}
        return {**estimates, **plain, "n": self.n, "n_unlabelled": self.n_unlabelled}


def labeling_cost(
    labels: Sequence[StepLabels],
    first_errors: Sequence[int],
    problems: Sequence[str],
    *,
    exact: Sequence[Floats] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> LabelingCost:
    """Compare labels with the true first errors (-1: none) and, where given, with exact values V of every step, [S] each.

    Values and intervals are compared for labels of *value* semantics only. Intervals of the estimates resample `problems`, one key a trajectory.

    Raises: CountMismatch for unequal lengths, InputError for no labels.
    """
    if not labels:
        raise InputError("labeling_cost needs at least one labelled trajectory")
    if not len(labels) == len(first_errors) == len(problems) == len(labels if exact is None else exact):
        raise CountMismatch(f"labeling_cost: {len(labels)} labels, {len(first_errors)} first errors, {len(problems)} problems")
    hits = [float(given.first_error is not None and given.first_error == first) for given, first in zip(labels, first_errors, strict=True)]
    named = [(hit, problem) for given, hit, problem in zip(labels, hits, problems, strict=True) if given.first_error is not None]
    right, stated, earned = [], [], []
    for given, first in zip(labels, first_errors, strict=True):
        for step, (good, sure) in enumerate(zip(given.hard, given.confidence, strict=True)):
            if good is None:
                continue
            right.append(good == (first < 0 or step < first))
            if given.semantics == "prefix" and not math.isnan(sure):
                stated.append(float(sure))
                earned.append(right[-1])
    rows = [] if exact is None else [row for given, values, problem in zip(labels, exact, problems, strict=True) for row in _values(given, values, problem)]
    bounded = [(inside, problem, width) for inside, problem, width, _ in rows if not math.isnan(width)]
    return LabelingCost(
        first_error_accuracy=mean_estimate(hits, problems, resamples=resamples, seed=seed),
        named=len(named) / len(labels),
        first_error_precision=mean_estimate([hit for hit, _ in named], [problem for _, problem in named], resamples=resamples, seed=seed),
        step_accuracy=_mean(right),
        stated=_mean(stated),
        earned=_mean(earned),
        coverage=mean_estimate([row[0] for row in bounded], [row[1] for row in bounded], resamples=resamples, seed=seed),
        width=_mean([row[2] for row in bounded]),
        value_rmse=math.sqrt(_mean([error**2 for *_, error in rows])) if rows else math.nan,
        tokens=_mean([given.usage.policy_tokens for given in labels]),
        reward_tokens=_mean([given.usage.reward_tokens + given.usage.reward_written for given in labels]),
        n=len(labels),
        n_unlabelled=sum(given.n_unlabelled for given in labels),
    )


def _values(given: StepLabels, exact: Floats, problem: str) -> list[tuple[float, str, float, float]]:
    """(covered, problem, width, error) of every rolled-out value label."""
    if len(given) != len(exact):
        raise CountMismatch(f"labeling_cost: {len(given)} labels but {len(exact)} exact values")
    if given.semantics != "value":
        return []
    found = []
    for value, bounds, count, truth in zip(given.values, given.bounds, given.counts, exact, strict=True):
        if count is not None and not math.isnan(value) and not math.isnan(truth):
            inside, width = (math.nan, math.nan) if bounds is None else (float(bounds[0] <= truth <= bounds[1]), bounds[1] - bounds[0])
            found.append((inside, problem, width, float(value - truth)))
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def tokens_to_reach(points: Sequence[tuple[float, float]], accuracy: float) -> float:
    """Fewest tokens at which a method reaches an accuracy, from its (tokens, accuracy) at several settings; NaN if it never does.

    Between two settings of the best frontier (more tokens, higher accuracy) the logarithm of tokens is interpolated linearly. The cheapest setting counts for
    every accuracy up to its own: nothing is extrapolated.

    Raises: InputError for tokens that are not positive.
    """
    if any(tokens <= 0.0 for tokens, _ in points):
        raise InputError(f"tokens_to_reach needs positive tokens, got {sorted(points)[0]}")
    frontier: list[tuple[float, float]] = []
    for tokens, reached in sorted(points):
        if not frontier or reached > frontier[-1][1]:
            frontier.append((tokens, reached))
    for index, (tokens, reached) in enumerate(frontier):
        if reached >= accuracy:
            if index == 0:
                return tokens
            before, low = frontier[index - 1]
            share = (accuracy - low) / (reached - low)
            return float(math.exp(math.log(before) + share * (math.log(tokens) - math.log(before))))
    return math.nan
