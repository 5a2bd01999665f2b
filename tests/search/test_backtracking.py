"""Greedy search with backtracking on planted trees, where what can be reached is known."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import Problem, RequestFailed, Sampling, SearchResult, StepScores, Trajectory, Tree, Until, Usage, charge
from stepward.search.backtracking import Backtracking
from stepward.search.budget import Budget
from stepward.search.chain import standing
from stepward.search.helper import HelpAtRandom, HelperUnderBudget
from stepward.search.stepwise import RefineSteps
from stepward.search.strategy import Strategy
from stepward.testing import check_search
from stepward.testing.planted import PlantedPolicy, PlantedTree

WORLD = PlantedTree()
IN_TURN = PlantedPolicy(draws="in turn")
DEPTH, BRANCHING = 4, 3


@dataclass(frozen=True)
class Classes:
    """Every step is good (1), neutral (0.5) or bad (0), by chance; the same step has the same class in every search."""

    good: float = 0.2
    neutral: float = 0.3
    fail_every: int = 0
    seed: int = 0
    granularity: Literal["step"] = field(default="step", init=False)
    scale: Literal["probability"] = field(default="probability", init=False)

    @property
    def fingerprint(self) -> str:
        return f"classes/{self.good}/{self.neutral}/{self.fail_every}/{self.seed}"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=len(trajectory), calls=1)

    def of(self, prefix: Trajectory) -> float:
        u = int(prefix.key[self.seed : self.seed + 6], 16) / 16**6
        return 1.0 if u < self.good else 0.5 if u < self.good + self.neutral else 0.0

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[8:12], 16) % self.fail_every == 0:
            raise RequestFailed("no class")
        charge(self.price(trajectory))
        return StepScores(np.array([self.of(prefix) for prefix in trajectory.prefixes()]))


def problems(n: int, depth: int = DEPTH) -> list[Problem]:
    return [WORLD.random(seed, depth=depth, branching=BRANCHING) for seed in range(n)]


def search(model: Classes, **changed: Any) -> Backtracking:
    parts: dict[str, Any] = {"policy": IN_TURN, "environment": WORLD, "tries": BRANCHING, "backtracks": 10_000}
    return Backtracking(model=model, **parts | changed)


def results(strategy: Backtracking, given: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(strategy.search(problem) for problem in given)))

    return asyncio.run(run())


def bad_steps(model: Classes, trajectory: Trajectory) -> int:
    return sum(model.of(prefix) < 0.3 for prefix in trajectory.prefixes())


def reachable(model: Classes, problem: Problem) -> bool:
    """Brute force: whether some leaf is reached without a bad step."""
    return any(not bad_steps(model, WORLD.walk(problem, [int(i) for i in leaf.split(".")])) for leaf in WORLD.leaves(problem))


@pytest.mark.parametrize("seed", range(3))
def test_with_enough_tries_a_solution_without_bad_steps_is_found_exactly_where_there_is_one(seed: int) -> None:
    model, found = Classes(seed=seed), set[bool]()
    for problem, result in zip(problems(60), results(search(model), problems(60)), strict=True):
        assert result.chosen is not None
        possible = reachable(model, problem)
        assert (bad_steps(model, result.chosen) == 0) == possible, json.dumps(result.source["notes"])
        found.add(possible)
    assert found == {True, False}


@pytest.mark.parametrize("backtracks", [0, 1, 3, 8])
def test_a_bad_step_is_returned_only_when_the_backtracks_are_spent_or_nothing_else_is_left(backtracks: int) -> None:
    model, spent = Classes(good=0.15, neutral=0.25), 0
    for problem, result in zip(problems(60), results(search(model, backtracks=backtracks), problems(60)), strict=True):
        assert result.chosen is not None
        used = result.source["notes"]["backtracks"]
        assert used <= backtracks
        if bad_steps(model, result.chosen):
            assert used == backtracks or not reachable(model, problem)
            spent += used == backtracks
    assert spent > 5 or backtracks == 8


@pytest.mark.parametrize(("tries", "backtracks"), [(1, 0), (1, 4), (3, 0), (3, 2), (5, 7)])
def test_it_ends_within_tries_times_depth_plus_backtracks(tries: int, backtracks: int) -> None:
    """Every prefix that is extended lies on the final chain or was taken back, and gets at most `tries` steps."""
    policy = PlantedPolicy()
    worst = 0.0
    for result in results(search(Classes(good=0.1, neutral=0.1), policy=policy, tries=tries, backtracks=backtracks), problems(60)):
        expansions = len(result.tree) - 1
        assert expansions <= tries * (DEPTH + result.source["notes"]["backtracks"])
        assert all(len(node.children) <= tries for node in result.tree)
        worst = max(worst, expansions / (tries * DEPTH + backtracks))
    if (tries, backtracks) == (5, 7):
        assert worst > 1.0, "tries x depth + backtracks is no bound: every prefix gone back to may have to be left again"


def test_no_step_is_drawn_after_a_good_one_and_the_first_good_one_is_taken() -> None:
    model = Classes(good=0.4, neutral=0.3)
    for result in results(search(model), problems(60)):
        assert result.chosen is not None
        chain = [result.chosen.prefix(k).key for k in range(1, len(result.chosen) + 1)]
        for node in result.tree:
            values = [child.value for child in node.children]
            if node.trajectory.key in chain[:-1] or node.parent is None:
                taken = next(child for child in node.children if child.trajectory.key in chain)
                if taken.value < 1.0:
                    untaken = [child.value for child in node.children if not child.children and child is not taken]
                    assert taken.value >= max([value for value in untaken if value < 1.0], default=0.0)
            goods = [index for index, value in enumerate(values) if value >= 0.7]
            for index in goods[:-1]:
                assert node.children[index].dropped, "a second good step is drawn only after the first was taken back"


def test_all_steps_good_is_the_plain_chain_and_costs_one_step_a_level() -> None:
    for result in results(search(Classes(good=1.0, neutral=0.0)), problems(20)):
        assert len(result.tree) == DEPTH + 1
        assert WORLD.answer(result.chosen or Trajectory(result.tree.problem)) == "0.0.0.0"


def test_unscored_steps_are_taken_only_where_nothing_scored_is_left() -> None:
    model = Classes(good=0.3, neutral=0.3, fail_every=4)
    seen = 0
    for result in results(search(model, backtracks=2), problems(80)):
        for node in result.tree:
            children = [child for child in node.children if child.children]
            for child in children:
                if math.isnan(child.value):
                    seen += 1
                    assert all(math.isnan(other.value) or other.children for other in node.children if other is not child)
        if result.chosen is not None:
            end = next(node for node in result.tree.ends if node.trajectory.key == result.chosen.key)
            assert not math.isnan(end.value)
    assert seen > 0


def test_a_judge_that_never_answers_is_no_choice_with_the_reason() -> None:
    result = results(search(Classes(fail_every=1), backtracks=2), problems(1))[0]
    assert result.chosen is None
    assert "no class" in (result.reason or "")


@pytest.mark.parametrize("limit", ["policy_tokens", "calls", "reward_tokens"])
def test_its_budget_is_never_exceeded(limit: str) -> None:
    for amount in range(1, 60, 7):
        for result in results(replace(search(Classes()), budget=Budget(**{limit: amount})), problems(4)):
            spent = {"policy_tokens": result.usage.policy_tokens, "calls": result.source["calls"], "reward_tokens": result.usage.reward_tokens}
            assert spent[limit] <= amount


def test_it_keeps_the_promises_of_a_search_also_where_the_environment_answers() -> None:
    check_search(search(Classes(), backtracks=3), problems(3))
    acting = PlantedTree(interactive=True)
    check_search(search(Classes(), policy=PlantedPolicy(interactive=True), environment=acting, backtracks=3), problems(3))


@dataclass(frozen=True)
class Unsteady:
    """Every second request fails; or writes nothing at all."""

    mute: bool = False
    asked: list[int] = field(default_factory=list, compare=False)
    fingerprint: str = "unsteady"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        await asyncio.sleep(0)
        if self.mute:
            return [prefix] * n
        self.asked.append(draw)
        if len(self.asked) % 2:
            raise RequestFailed("try again")
        return await IN_TURN.sample(prefix, n, until=until, sampling=sampling, draw=draw)


@dataclass(frozen=True)
class CutFirst:
    """The first draw at every prefix is cut off by a limit; the later ones walk in turn."""

    always: bool = False
    fingerprint: str = "cut first"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        drawn = await IN_TURN.sample(prefix, n, until=until, sampling=sampling, draw=draw)
        return [replace(one, finished=False, truncated=True) if self.always or draw + i == 0 else one for i, one in enumerate(drawn)]


@pytest.mark.parametrize("always", [False, True])
def test_a_step_that_was_cut_off_is_taken_only_where_nothing_else_is_left(always: bool) -> None:
    """Every step is good, and so is one that was cut off; it ends the chain without an answer."""
    policy, model = CutFirst(always), Classes(good=1.0, neutral=0.0)
    parts: dict[str, Any] = {"policy": policy, "environment": WORLD, "model": model}
    chains: list[Strategy] = [
        search(model, policy=policy, backtracks=2),
        RefineSteps(**parts, revise_by="resume", n=2),
        RefineSteps(**parts, samples=2, revise_by="resume"),
        HelperUnderBudget(**parts, helper=policy, rule=HelpAtRandom(rate=1.0), help_samples=2),
    ]
    for chain in chains:
        result = asyncio.run(chain.search(problems(1)[0]))
        assert result.chosen is not None
        assert result.chosen.truncated == always
        assert (len(result.chosen) == DEPTH) != always


def test_of_the_ends_that_stand_one_that_was_cut_off_comes_last() -> None:
    tree = Tree(problems(1)[0])
    cut, whole = (tree.add(tree.root, replace(tree.root.trajectory.extend("x"), truncated=cut, finished=not cut)) for cut in (True, False))
    cut.value, whole.value = 0.9, 0.1
    assert standing(tree.ends) == 1
    whole.drop("another step was taken")
    assert standing(tree.ends) == 0
    cut.drop("another step was taken")
    assert standing(tree.ends) == 0
    cut.value = whole.value = math.nan
    assert standing(tree.ends) is None


def test_a_request_that_fails_is_a_try_and_does_not_end_the_search() -> None:
    model = Classes(good=1.0, neutral=0.0)
    (result,) = results(search(model, policy=Unsteady(), backtracks=0), problems(1))
    assert result.chosen is not None
    assert len(result.chosen) == DEPTH
    assert not any(node.dropped for node in result.tree)
    (lost,) = results(search(model, policy=Unsteady(), tries=1, backtracks=0), problems(1))
    assert (lost.chosen, "try again" in (lost.reason or "")) == (None, True)


@pytest.mark.parametrize("kind", ["backtracking", "refine-steps", "helper"])
def test_a_chain_whose_policy_writes_nothing_ends_with_the_reason(kind: str) -> None:
    parts: dict[str, Any] = {"policy": Unsteady(mute=True), "environment": WORLD, "model": Classes()}
    chains: dict[str, Callable[[], Strategy]] = {
        "backtracking": lambda: Backtracking(**parts),
        "refine-steps": lambda: RefineSteps(**parts, revise_by="resume"),
        "helper": lambda: HelperUnderBudget(**parts, helper=Unsteady(mute=True)),
    }

    async def run() -> SearchResult:
        return await asyncio.wait_for(chains[kind]().search(problems(1)[0]), 20)

    result = asyncio.run(run())
    assert result.chosen is None
    assert "neither wrote a step nor ended" in (result.reason or "")
