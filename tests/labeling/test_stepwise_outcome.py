"""Stepwise outcome labels: propagation, consistency of traces, and cheaper searches with the same labels."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from tests.labeling.chains import PROBLEM, WORLD, Ladder, by_length, chain, label, label_all, many

from stepward.core import InputError, Outcome, Step, Trajectory
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling import MonteCarlo, OracleLabels
from stepward.labeling.completer import Rollout
from stepward.labeling.stepwise_outcome import StepwiseOutcome, consistent, last_number, numbers
from stepward.policies.scripted import ErrorRates, ScriptedSolver

LENGTH = 7
NOISY = [0.2, 0.3, 0.15, 0.2, 0.25, 0.0, 0.0]  # errors are never repaired; good steps often show no success


def labeler(values: list[float], **settings: object) -> StepwiseOutcome:
    return StepwiseOutcome(policy=Ladder(by_length(values), len(values)), environment=WORLD, **{"consistency": "none", "n": 6, **settings})  # type: ignore[arg-type]


def test_labels_never_rise_and_propagation_only_corrects_where_errors_are_not_repaired() -> None:
    """Against the truth (the fifth step is the error): every change that propagation makes to the hard labels is a correction."""
    truth = [True] * 4 + [False] * 3
    cases = [chain(LENGTH, problem=problem) for problem in many(30)]
    plain = label_all(MonteCarlo(policy=Ladder(by_length(NOISY), LENGTH), environment=WORLD, n=6, estimate="hard"), cases)
    changed = 0
    for before, after in zip(plain, label_all(labeler(NOISY), cases), strict=True):
        assert list(after.hard) == sorted(after.hard, reverse=True), "labels never rise"
        for was, now, true in zip(before.hard, after.hard, truth, strict=True):
            assert was == now or now is True is true
            changed += was != now
    assert changed > 10


@pytest.mark.parametrize("lost", [0.0, 0.5])
def test_searching_backward_and_stopping_at_the_first_success_give_the_same_labels_for_less(lost: float) -> None:
    values = [0.6, 0.5, 0.4, 0.3, 0.2, 0.05, 0.05]
    cases = [chain(LENGTH, problem=problem) for problem in many(30)]
    full = replace(labeler(values, batch=None), policy=Ladder(by_length(values), LENGTH, lost))
    found = {name: label_all(method, cases) for name, method in {
        "full": full, "stopping": replace(full, batch=1), "backward": replace(full, batch=1, search="backward"),
    }.items()}  # fmt: skip
    hard = {name: [labels.hard for labels in made] for name, made in found.items()}
    assert hard["stopping"] == hard["full"]
    assert hard["backward"] == hard["full"]
    tokens = {name: sum(labels.usage.policy_tokens for labels in made) for name, made in found.items()}
    assert tokens["backward"] < tokens["stopping"] < tokens["full"]


def test_an_unknown_step_before_a_success_is_settled_by_it_and_one_after_is_not() -> None:
    unknown_first = StepwiseOutcome(policy=Vanishing(by_length([1.0] * 5), 5, gone=(1,)), environment=WORLD, consistency="none")
    assert label(unknown_first, chain(5)).hard == (True, True, True, True, False)
    unknown_last = StepwiseOutcome(policy=Vanishing(by_length([1.0] * 5), 5, gone=(4,)), environment=WORLD, consistency="none")
    labels = label(unknown_last, chain(5))
    assert labels.hard == (True, True, True, None, False)
    assert labels.first_error is None


class Vanishing(Ladder):
    """A ladder whose completions of some prefixes cannot be graded."""

    def __init__(self, value: object, length: int, gone: tuple[int, ...]) -> None:
        super().__init__(value, length)  # type: ignore[arg-type]
        object.__setattr__(self, "gone", gone)

    def one(self, prefix: Trajectory, sampling: object, draw: int) -> Trajectory:
        lost = 1.0 if len(prefix) in self.gone else 0.0  # type: ignore[attr-defined]
        return Ladder(self.value, self.length, lost).one(prefix, sampling, draw)  # type: ignore[arg-type]


def rollout(step: str, *later: str, right: bool = True) -> Rollout:
    end = Trajectory(PROBLEM, (Step("There are 7 boxes."), Step(step), *map(Step, later)), finished=True)
    return Rollout(end, Outcome(1.0 if right else 0.0), 2, 0)


def test_a_right_trace_that_ignores_the_step_is_no_evidence() -> None:
    assert consistent(rollout("3 * 4 = 12 apples", "12 + 5 = 17", "The answer is 17.")) is True
    assert consistent(rollout("3 * 4 = 13 apples", "Start over: 3 * 4 = 12.", "12 + 5 = 17")) is None
    assert consistent(rollout("3 * 4 = 13 apples", "13 + 5 = 18", right=False)) is False
    assert consistent(rollout("Let us think.", "12 + 5 = 17")) is True, "a step without a number cannot be checked"
    assert last_number("1,200 km and -3.50 more") == Decimal("-3.5")
    assert numbers("x2 = 1,200; 3.50 and 7%") == {Decimal(1200), Decimal("3.5"), Decimal(7)}


def test_consistency_makes_labels_of_wrong_steps_more_precise_where_the_policy_starts_over() -> None:
    """With a solver that repairs errors: of the steps labelled good, fewer come after the first error."""
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(1.5), notice=0.5, lucky=0.0)
    cases = [case for problem in world.problems(11, 90) for case in asyncio.run(solve(solver, world, problem)) if case.outcome and not case.outcome.correct]
    truth = label_all(OracleLabels(world), cases)
    precision = {}
    for consistency in ("none", "restated"):
        method = StepwiseOutcome(policy=solver, environment=world, n=4, consistency=consistency)  # type: ignore[arg-type]
        given = label_all(method, cases)
        kept = [(good, real) for a, b in zip(given, truth, strict=True) for good, real in zip(a.hard, b.hard, strict=True) if good]
        precision[consistency] = np.mean([real for _, real in kept])
    assert precision["restated"] > precision["none"] + 0.05, precision


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="backward"):
        labeler([0.5], search="sideways")
    with pytest.raises(InputError, match="n >= 1"):
        labeler([0.5], n=0)
