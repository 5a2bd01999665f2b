"""Walks that choose among a few candidates at every step: Q-guided, and with retries after failed episodes."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import InputError, Problem, RequestFailed, Sampling, SearchResult, StepScores, Trajectory, Until
from stepward.search.budget import Budget
from stepward.search.evaluator import Graded
from stepward.search.step_choice import QGuided, StepSelection, told
from stepward.search.strategy import Strategy
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
ALL = PlantedPolicy(draws="in turn")
RANDOM = PlantedPolicy(skew=1.0)
PROBLEMS = [WORLD.random(seed, depth=3, branching=3) for seed in range(30)]


@dataclass(frozen=True)
class Flat:
    """Every step is as good as every other."""

    fingerprint: str = "flat"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.full(len(trajectory), 0.5))


def q_guided(**settings: Any) -> QGuided:
    given: dict[str, Any] = {"policy": RANDOM, "environment": WORLD, "model": PlantedModel(knows="best"), "epsilon": 0.0}
    return QGuided(**given | settings)


def selecting(**settings: Any) -> StepSelection:
    given: dict[str, Any] = {"policy": RANDOM, "environment": WORLD, "model": PlantedModel(knows="best")}
    return StepSelection(**given | settings)


def found(search: Strategy, problem: Problem) -> SearchResult:
    return asyncio.run(search.search(problem))


def base(problem: Problem) -> Trajectory:
    """One walk of the policy alone, step by step."""
    trajectory = Trajectory(problem)
    while not trajectory.ended:
        (trajectory,) = asyncio.run(RANDOM.sample(trajectory, 1, sampling=Sampling()))
    return trajectory


def reward(result: SearchResult) -> float:
    return 0.0 if result.chosen is None else WORLD.leaves(result.chosen.problem)[WORLD.answer(result.chosen) or ""]


def test_one_candidate_is_the_policy_itself() -> None:
    assert all(found(q_guided(n=1, epsilon=0.1), problem).chosen == base(problem) for problem in PROBLEMS[:10])


def test_a_model_without_opinion_is_the_policy_itself() -> None:
    """Ties go to the first candidate."""
    assert all(found(search, problem).chosen == base(problem) for problem in PROBLEMS[:10] for search in (q_guided(model=Flat(), n=3), selecting(model=Flat())))


def test_exact_q_with_all_actions_is_optimal() -> None:
    for problem in PROBLEMS:
        result = found(q_guided(policy=ALL, n=3), problem)
        assert reward(result) == 1.0
        assert len(result.tree) == 1 + 3 * 3


def test_the_policys_own_q_improves_the_policy() -> None:
    """Policy improvement: acting greedily on V of the uniform policy beats it in expectation, on every problem."""
    for problem in PROBLEMS:
        assert reward(found(q_guided(policy=ALL, n=3, model=PlantedModel(knows="value")), problem)) >= ALL.value(Trajectory(problem))


def test_exploring_takes_another_candidate_as_often_as_it_says() -> None:
    """With all 3 branches among the candidates the best is left with chance 2 epsilon / 3; 3 standard errors."""
    epsilon, left, steps = 0.3, 0, 0
    for seed in range(12):
        for problem in PROBLEMS:
            tree = found(q_guided(policy=ALL, n=3, epsilon=epsilon, sampling=Sampling(seed=seed)), problem).tree
            for node in tree:
                taken = [child for child in node.children if child.dropped is None]
                if taken:
                    steps += 1
                    left += taken[0].value < max(child.value for child in node.children)
    chance = 2 * epsilon / 3
    assert abs(left / steps - chance) < 3 * math.sqrt(chance * (1 - chance) / steps)


def test_several_walks_are_independent_and_the_best_end_answers() -> None:
    result = found(q_guided(n=2, trajectories=5), PROBLEMS[0])
    walked = [end for end in result.tree.ends if not end.dropped]
    assert len(walked) == 5
    assert len(result.tree.root.children) == 10
    assert reward(result) == max(end.value for end in walked)
    for node in result.tree:
        taken = [child for child in node.children if not child.dropped]
        assert len(taken) == (5 if node.parent is None else 0 if node.ended or node.dropped else 1)


def test_the_outcome_decides_at_the_end_only_where_it_is_asked_for() -> None:
    """A model that is wrong about ends: "reward" corrects the last step, "q" does not ask the environment."""
    problem = WORLD.problem([0.1, 1.0])
    wrong = PlantedModel(shift=0.0, knows="value", noise=3.0)  # a fixed error a prefix
    said = {leaf: float(asyncio.run(wrong.score(WORLD.walk(problem, (leaf,)))).values[0]) for leaf in (0, 1)}
    trusted = found(q_guided(policy=ALL, n=2, model=wrong), problem)
    assert WORLD.answer(trusted.chosen or Trajectory(problem)) == str(max(said, key=lambda leaf: said[leaf]))
    told_so = found(q_guided(policy=ALL, n=2, model=wrong, final="reward"), problem)
    assert WORLD.answer(told_so.chosen or Trajectory(problem)) == "1"
    assert told_so.usage.reward_tokens == 0


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_independent_retries_succeed_as_often_as_the_formula_says(retries: int) -> None:
    """Single draws, success 1/4, a judge that knows: 1 - (1 - p)^(R + 1); 400 problems, 3 standard errors."""
    problems = [WORLD.problem([[1.0, 0.0], [0.0, 0.0]], name=str(number)) for number in range(400)]
    search = selecting(policy=PlantedPolicy(), n=1, model=Flat(), judge=Graded(), retries=retries)

    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    solved = sum(reward(result) for result in asyncio.run(run())) / len(problems)
    chance = 1 - 0.75 ** (retries + 1)
    assert abs(solved - chance) < 3 * math.sqrt(chance * (1 - chance) / len(problems))


def test_a_success_needs_no_retry() -> None:
    result = found(selecting(policy=ALL, n=3, retries=5), PROBLEMS[0])
    assert reward(result) == 1.0
    assert len(result.tree.root.children) == 3


@dataclass(frozen=True)
class Sage:
    """Writes lessons, and keeps what it was asked; `silent` when it cannot be asked."""

    silent: bool = False
    asked: list[str] = field(default_factory=list, compare=False)
    fingerprint: str = "sage"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if self.silent:
            raise RequestFailed("the sage is silent")
        self.asked.append(prefix.problem.prompt)
        return [prefix.extend(f"lesson {len(self.asked)}")] * n


@dataclass(frozen=True)
class Pupil:
    """Walks at random, and keeps the prompts that it reads."""

    prompts: list[str] = field(default_factory=list, compare=False)
    fingerprint: str = "pupil"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        self.prompts.append(prefix.problem.prompt)
        return await RANDOM.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_lessons_of_failed_attempts_are_read_in_the_next_ones() -> None:
    sage, pupil = Sage(), Pupil()
    result = found(selecting(policy=pupil, reflector=sage, n=1, accept=NEVER, retries=2), PROBLEMS[0])
    assert list(result.source["notes"]["lessons"]) == ["lesson 1", "lesson 2"]
    assert [prompt.removeprefix(PROBLEMS[0].prompt) for prompt in pupil.prompts] == [""] * 3 + ["\n\nlesson 1"] * 3 + ["\n\nlesson 1\n\nlesson 2"] * 3
    first = result.tree.ends[0].trajectory
    assert told(first) in sage.asked[0]
    assert all(end.trajectory.problem == PROBLEMS[0] for end in result.tree.ends)


NEVER = 2.0  # a threshold that no end reaches


def test_a_reflector_that_fails_leaves_the_retries() -> None:
    result = found(selecting(reflector=Sage(silent=True), n=1, accept=NEVER, retries=2), PROBLEMS[0])
    assert len(result.tree.root.children) == 3
    assert "the sage is silent" in result.source["failure"]
    assert result.chosen is not None


def test_what_an_agent_did_is_told_with_what_the_world_answered() -> None:
    assert told(PlantedTree(interactive=True).walk(PROBLEMS[0], (0, 1, 2))).splitlines() == [
        "take 0", "3 branches follow", "take 1", "3 branches follow", "take 2", "the end",
    ]  # fmt: skip


def test_candidates_without_a_value_are_not_taken() -> None:
    for problem in PROBLEMS[:10]:
        result = found(q_guided(n=3, model=PlantedModel(fail_every=3), trajectories=2), problem)
        assert all(node.dropped for node in result.tree if node.reason)
        assert result.chosen is None or any(end.trajectory == result.chosen and not math.isnan(end.value) for end in result.tree.ends)
    nothing = found(q_guided(n=3, model=PlantedModel(fail_every=1)), PROBLEMS[0])
    assert nothing.chosen is None


@pytest.mark.parametrize("limits", [{"policy_tokens": 15}, {"reward_tokens": 20}, {"calls": 9}])
def test_a_budget_is_never_exceeded(limits: dict[str, int]) -> None:
    for search in (q_guided(n=3, trajectories=3, budget=Budget(**limits)), selecting(accept=NEVER, retries=9, budget=Budget(**limits), reflector=Sage())):
        result = found(search, PROBLEMS[0])
        ((name, limit),) = limits.items()
        spent = {"policy_tokens": result.usage.policy_tokens, "reward_tokens": result.usage.reward_tokens, "calls": result.source["calls"]}
        assert spent[name] <= limit
        assert result.source["stopped"].startswith(f"the budget of {limit} {name}")


@pytest.mark.parametrize("interactive", [False, True])
def test_they_keep_the_promises_of_searches(interactive: bool) -> None:
    shared: dict[str, Any] = {"policy": PlantedPolicy(skew=1.0, interactive=interactive), "environment": PlantedTree(interactive=interactive)}
    check_search(q_guided(n=2, trajectories=2, epsilon=0.5, **shared), PROBLEMS[:3])
    check_search(selecting(n=2, retries=2, accept=NEVER, **shared), PROBLEMS[:3])


def test_mistakes_are_refused() -> None:
    for settings in ({"epsilon": 1.5}, {"n": 0}, {"trajectories": 0}, {"final": "outcome"}):
        with pytest.raises(InputError):
            q_guided(**settings)
    for settings in ({"retries": -1}, {"accept": math.nan}):
        with pytest.raises(InputError, match="StepSelection"):
            selecting(**settings)


@dataclass(frozen=True)
class Late:
    """Its first requests fail."""

    failing: int = 2
    asked: list[int] = field(default_factory=list, compare=False)
    fingerprint: str = "late"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        self.asked.append(draw)
        if len(self.asked) <= self.failing:
            raise RequestFailed("not yet")
        return await RANDOM.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_an_attempt_whose_requests_fail_leaves_the_retries() -> None:
    result = found(selecting(policy=Late(), retries=2), PROBLEMS[0])
    assert result.chosen is not None
    assert "not yet" in result.source["failure"]
    lost = found(selecting(policy=Late(failing=99), retries=2), PROBLEMS[0])
    assert (lost.chosen, "not yet" in (lost.reason or "")) == (None, True)
