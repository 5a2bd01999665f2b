"""MASPRM: returns of agents' turns against exact values."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from stepward.core import DEFAULT_SAMPLING, InputError, Problem, RequestFailed, Sampling, Step, Trajectory, Until
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.trees import MASPRM
from stepward.labeling.trees.masprm import turn_ends
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()
TEAM = ("solver", "critic", "judge")


def values(labeler: MASPRM, cases: list[Trajectory]) -> list[list[float]]:
    async def run() -> list[list[float]]:
        return [labels.values.tolist() for labels in await asyncio.gather(*(labeler.label(case) for case in cases))]

    return asyncio.run(run())


def prefixes(policy: Climber, n: int, length: int, name: str) -> list[Trajectory]:
    """Open prefixes without a slip."""
    problems = [LADDER.problem(6, f"{name}/{i}") for i in range(n)]
    steps = [Step(f"rung {t} by -1", "\n", agent=policy.agents[t // policy.turn % len(policy.agents)], n_tokens=1) for t in range(length)]
    return [Trajectory(problem, tuple(steps)) for problem in problems]


@pytest.mark.parametrize("agents", [("",), TEAM])
def test_with_uniform_selection_the_mean_return_is_two_v_minus_one(agents: tuple[str, ...]) -> None:
    """All solutions have equally many turns; E[(q + 1)/2] = V at every prefix after full rounds of visits, within three standard errors.

    Three candidates: 3 and 12 simulations of two turns visit all nine ends once and twice, 9 of four turns every second turn once.
    """
    policy = Climber(clean=0.7, slip=0.12, repair=0.15, agents=agents, routes=4)
    for length, rollouts in ((4, 3), (4, 12), (2, 9)):
        labeler = MASPRM(policy=policy, environment=LADDER, c=1e9, patience=10_000, rollouts=rollouts, candidates=3)
        cases = prefixes(policy, 40, length, f"uniform/{agents}/{rollouts}")
        found = np.array([row[-1] for row in values(labeler, cases)])
        exact = policy.value(cases[0])
        assert abs(found.mean() - exact) < 3 * found.std() / math.sqrt(len(found)), f"{found.mean():.4f} found, {exact:.4f} exact"


def test_greedy_selection_looks_at_better_choices_than_the_policy_makes() -> None:
    policy = Climber(clean=0.7, slip=0.15, repair=0.05, routes=4)
    cases = prefixes(policy, 40, 2, "greedy")
    shares = {}
    for c in (0.0, 1e9):
        labeler = MASPRM(policy=policy, environment=LADDER, c=c, patience=10_000, rollouts=12, candidates=3)
        shares[c] = np.array([row[-1] for row in values(labeler, cases)])
    exact = policy.value(cases[0])
    assert shares[0.0].mean() > exact + 3 * shares[0.0].std() / math.sqrt(len(cases))
    assert shares[0.0].mean() > shares[1e9].mean() + 0.05


def test_turns_end_before_another_agent_and_after_every_step_without_one() -> None:
    def names(*agents: str) -> Trajectory:
        return Trajectory(Problem("toy"), tuple(Step(str(t), agent=agent) for t, agent in enumerate(agents)))

    assert turn_ends(names("a", "a", "b", "a")) == [1, 2, 3]
    assert turn_ends(names("", "", "b", "b")) == [0, 1, 3]
    assert turn_ends(names()) == []


def test_all_steps_of_a_turn_share_its_value_and_the_last_turn_is_graded() -> None:
    policy = Climber(clean=0.9, agents=TEAM, turn=2, routes=3)
    (solution,) = asyncio.run(solve(policy, LADDER, LADDER.problem(6, "turns"), 1))
    labels = asyncio.run(MASPRM(policy=policy, environment=LADDER, rollouts=8).label(solution))
    assert labels.values[0] == labels.values[1]
    assert labels.values[2] == labels.values[3]
    assert solution.outcome is not None
    assert labels.values[4] == labels.values[5] == solution.outcome.value
    assert [dict(items[0]) for items in labels.evidence[:4:2]] == [dict(items[0]) for items in labels.evidence[1:4:2]]


def test_a_level_of_the_tree_is_one_agents_turn() -> None:
    policy = Climber(clean=0.5, agents=TEAM, turn=2, routes=3)
    growth = asyncio.run(MASPRM(policy=policy, environment=LADDER, rollouts=12, root_window=1.0).grow(LADDER.problem(6, "levels")))
    assert {len(node.trajectory) for node in growth.tree} == {0, 2, 4, 6}
    for node in growth.tree:
        if node.parent is not None:
            added = node.trajectory.steps[len(node.parent.trajectory) :]
            assert len({step.agent for step in added}) == 1
            assert len(node.parent.children) == 4
    for example in growth.examples:
        assert example.labels is not None
        assert [t % 2 for t, value in enumerate(example.labels.values) if not math.isnan(value)].count(0) == 0, "turns are labelled at their last step"


def test_every_visit_is_an_end_below_with_its_reward() -> None:
    policy = Climber(clean=0.5, agents=TEAM, routes=3)
    growth = asyncio.run(MASPRM(policy=policy, environment=LADDER, rollouts=20, root_window=1.0, patience=1000).grow(LADDER.problem(5, "visits")))
    for node in growth.tree:
        if node.children:
            assert node.visits == sum(child.visits for child in node.children)
            assert node.value_sum == sum(child.value_sum for child in node.children)
        elif node.ended:
            assert node.trajectory.outcome is not None
            assert node.visits >= 1, "ends are graded as soon as they are found"
            assert node.q == (1.0 if node.trajectory.outcome.correct else -1.0)


def test_a_problem_that_is_too_easy_is_left_out_and_the_search_stops_early() -> None:
    growth = asyncio.run(MASPRM(policy=Climber(clean=1.0), environment=LADDER, rollouts=500, patience=5).grow(LADDER.problem(4)))
    assert not growth.examples
    assert "outside" in (growth.reason or "")
    assert growth.tree.root.visits < 100


@dataclass
class Recorded:
    """A policy that remembers which draws of which prefix it was asked for."""

    policy: Climber
    drawn: list[tuple[str, int]] = field(default_factory=list)
    broken: bool = False
    fingerprint: str = "recorded"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        if self.broken:
            raise RequestFailed("the server is gone")
        self.drawn += [(prefix.key, draw + index) for index in range(n)]
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_no_draw_is_asked_for_twice_and_equal_prefixes_take_different_draws() -> None:
    for routes in (1, 3):
        policy = Recorded(Climber(clean=0.5, agents=TEAM, turn=2, routes=routes))
        asyncio.run(MASPRM(policy=policy, environment=LADDER, rollouts=15).grow(LADDER.problem(7, "draws")))
        assert len(policy.drawn) > 50
        assert len(policy.drawn) == len(set(policy.drawn))
        by_prefix: dict[str, list[int]] = {}
        for key, draw in policy.drawn:
            by_prefix.setdefault(key, []).append(draw)
        assert all(sorted(draws) == list(range(len(draws))) for draws in by_prefix.values()), "always the next draw"


def test_failures_are_reasons() -> None:
    policy = Recorded(Climber(), broken=True)
    labels = asyncio.run(MASPRM(policy=policy, environment=LADDER).label(LADDER.wrong_solution(LADDER.problem(3), 1)))
    assert labels.hard == (None, None, False)
    assert "the server is gone" in (labels.reasons[0] or "")
    growth = asyncio.run(MASPRM(policy=policy, environment=LADDER).grow(LADDER.problem(3)))
    assert "the server is gone" in (growth.reason or "")


def test_ends_without_a_grade_are_left_out_not_counted_as_wrong() -> None:
    short = Sampling(max_steps=3)
    labels = asyncio.run(MASPRM(policy=Climber(clean=1.0), environment=LADDER, sampling=short).label(prefixes(Climber(), 1, 1, "cut")[0]))
    assert labels.n_unlabelled == 1
    assert "grade" in (labels.reasons[0] or "")


def test_the_labeler_keeps_its_promises() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    cases = [asyncio.run(solve(solver, world, problem, 1))[0] for problem in world.problems(5, 2)]
    check_labeler(MASPRM(policy=solver, environment=world, rollouts=3), cases)
    for settings in ({"c": math.inf}, {"candidates": 0}, {"root_window": 0.0}, {"patience": 0}):
        with pytest.raises(InputError):
            MASPRM(policy=solver, environment=world, **settings)  # type: ignore[arg-type]
