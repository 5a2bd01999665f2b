"""ReST-MCTS*: inferred quality values on ladders, where distances and right routes are known. The formula itself is tested with the backups."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest

from stepward.core import DEFAULT_SAMPLING, InputError, RequestFailed, Sampling, Trajectory, Until
from stepward.environments.episode import complete, solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.trees import ReSTMCTS
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()
SURE = Climber(clean=0.95)


def right_solution(n_steps: int, name: str = "") -> Trajectory:
    ends = asyncio.run(complete(Climber(clean=1.0), LADDER, Trajectory(LADDER.problem(n_steps, name)), 1))
    return ends[0]


def test_a_right_chain_has_values_k_over_n() -> None:
    for n_steps in (1, 4, 9):
        labels = asyncio.run(ReSTMCTS(policy=SURE, environment=LADDER).label(right_solution(n_steps)))
        assert labels.values.tolist() == pytest.approx([(k + 1) / n_steps for k in range(n_steps)])
        assert labels.hard == (True,) * n_steps
        assert [items[0]["steps_to_success"] for items in labels.evidence] == list(range(n_steps - 1, -1, -1))


def test_values_rise_to_the_error_and_fall_by_the_formula_after_it() -> None:
    """8 steps, the error at step 4: the fourth prefix has v = 1/2 and m = 4, so each bad step takes (1 - v)/5."""
    labels = asyncio.run(ReSTMCTS(policy=SURE, environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(8), 4)))
    expected, v = [k / 8 for k in range(1, 5)], 0.5
    for _ in range(4):
        v = max(0.0, v - (1 - v) / 5)
        expected.append(v)
    assert labels.values.tolist() == pytest.approx(expected)
    assert labels.first_error == 4


def test_without_a_right_solution_there_is_no_distance() -> None:
    labeler = ReSTMCTS(policy=Climber(clean=0.0), environment=LADDER)
    labels = asyncio.run(labeler.label(LADDER.wrong_solution(LADDER.problem(5), 2)))
    assert labels.n_unlabelled == 5
    assert all((reason or "").startswith("abstained") for reason in labels.reasons)
    growth = asyncio.run(labeler.grow(LADDER.problem(5)))
    assert not growth.examples
    assert growth.reason


def test_grown_trees_label_prefixes_and_ends_alike() -> None:
    policy = Climber(clean=0.8, slip=0.15, routes=2)
    growth = asyncio.run(ReSTMCTS(policy=policy, environment=LADDER, rollouts=6, chains=4).grow(LADDER.problem(6)))
    rows = [
        (value, example.labels.hard[t], example.trajectory.prefix(t + 1))
        for example in growth.examples
        if example.labels
        for t, value in enumerate(example.labels.values.tolist())
        if not math.isnan(value)
    ]
    assert len(rows) > 20
    assert all(0.0 <= value <= 1.0 for value, _, _ in rows)
    ends = [(value, prefix.steps[-1].text) for value, _, prefix in rows if prefix.ended]
    assert {text for value, text in ends if value == pytest.approx(1.0)} == {"yes"}
    assert all(value < 1.0 for value, text in ends if text == "no")
    slipped = [hard for _, hard, prefix in rows if any(step.text.startswith("slip") for step in prefix.steps)]
    assert slipped
    assert not any(slipped), "errors are final: nothing below them is right"


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail at prefixes of one length."""

    policy: Climber
    length: int
    fingerprint: str = "failing"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        if len(prefix) == self.length:
            raise RequestFailed("the server is gone")
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_a_prefix_without_rollouts_is_unknown_and_so_is_all_after_it() -> None:
    policy = Failing(Climber(clean=0.95, routes=1_000_000), 5)
    labels = asyncio.run(ReSTMCTS(policy=policy, environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(8), 3, route=-1)))
    assert labels.hard == (True, True, True, False, None, None, None, None)
    assert "the server is gone" in (labels.reasons[4] or "")
    proven = asyncio.run(ReSTMCTS(policy=policy, environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(8), 6, route=-1)))
    assert proven.hard == (True,) * 6 + (False, False), "a success after the failed prefix speaks for it"


def test_the_labeler_keeps_its_promises() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    cases = [asyncio.run(solve(solver, world, problem, 1))[0] for problem in world.problems(5, 3)]
    check_labeler(ReSTMCTS(policy=solver, environment=world, rollouts=3), cases)
    with pytest.raises(InputError, match="rollouts"):
        ReSTMCTS(policy=solver, environment=world, rollouts=0)
