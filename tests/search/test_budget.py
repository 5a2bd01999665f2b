"""Budgets: never exceeded, spent to the last token by a search that wants more, and refused where they cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from stepward.core import InputError, Problem, SearchResult, StepScores, Trajectory
from stepward.engine.loop import run_sync
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver
from stepward.search import BestOfN, Majority, StepBeam
from stepward.search.budget import Budget
from stepward.search.load import STRATEGIES
from stepward.search.strategy import Strategy
from stepward.testing.planted import PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughModel, RoughPolicy
from stepward.testing.search_trials import random_trial, run_trials, search_of, tokens_in

WORLD = GradeSchool()
SOLVER = ScriptedSolver()
PROBLEM = next(iter(WORLD.problems(3, 1, split="dev")))
N_TRIALS = 2000


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_random_search_breaks_its_budget_its_ledger_or_its_tree(strategy: str) -> None:
    """N_TRIALS searches over all strategies; `run_trial` says what is checked. benchmarks/search_budget.py runs 10,000."""
    n = N_TRIALS // len(STRATEGIES)
    happened = run_trials(range(n), seed=1, strategies=[strategy])
    assert happened["all: searches"] == n
    assert happened["all: chose"] > 0, happened
    assert happened["all: stopped by the budget"] > n // 20, happened


def test_random_searches_also_have_the_parts_that_strategies_could_do_without() -> None:
    """Each optional part is there in some trials and absent in others, the same ones every time; likewise critics that are asked."""
    for strategy, optional in {"magicore": {"orm", "refiner"}, "glore": {"locator", "refiner"}, "mcts-star": {"reflector"}}.items():
        trials = [random_trial(number, strategies=[strategy]) for number in range(30)]
        assert trials == [random_trial(number, strategies=[strategy]) for number in range(30)]
        for name in optional:
            assert {name in trial.given for trial in trials} == {True, False}
        assert all(trial.given <= optional for trial in trials)
        with_part = next(trial for trial in trials if trial.given == optional)
        assert all(getattr(search_of(with_part), name) is not None for name in optional)
    trials = [random_trial(number, strategies=["critique-refine"]) for number in range(30)]
    assert {trial.settings["criticise_by"] for trial in trials} == {"scores", "prompt"}


def found(search: Strategy, problem: Problem = PROBLEM) -> SearchResult:
    return run_sync(search.search(problem))


@pytest.mark.parametrize("tokens", [1, 2, 17, 100, 1234])
def test_a_search_that_wants_more_spends_a_token_budget_to_the_last_token(tokens: int) -> None:
    budget = Budget(policy_tokens=tokens)
    agents, tree = PlantedTree(interactive=True), PlantedTree(interactive=True).random(3, depth=4)
    for search, problem in (
        (Majority(policy=SOLVER, environment=WORLD, n=1000, budget=budget), PROBLEM),
        (BestOfN(policy=SOLVER, environment=WORLD, n=1000, model=RoughModel(), budget=budget), PROBLEM),
        (StepBeam(policy=SOLVER, environment=WORLD, model=RoughModel(), width=100, expansions=100, budget=budget), PROBLEM),
        (Majority(policy=PlantedPolicy(n_words=5, interactive=True), environment=agents, n=1000, budget=budget), tree),
    ):
        result = found(search, problem)
        assert result.usage.policy_tokens == tokens == tokens_in(result.tree)
        assert f"budget of {tokens:,} policy_tokens is spent" in result.source["stopped"]


def test_a_budget_of_calls_is_spent_to_the_last_call() -> None:
    for calls in (1, 7, 50):
        result = found(Majority(policy=SOLVER, environment=WORLD, n=1000, budget=Budget(calls=calls)))
        assert (result.source["calls"], len(result.tree.ends)) == (calls, calls)


def test_candidates_under_a_budget_are_the_first_ones_without_it() -> None:
    """Budgets change how much is drawn, never what: all ends but the last, cut one are those of the search without a budget."""
    free = found(Majority(policy=SOLVER, environment=WORLD, n=40))
    bound = found(Majority(policy=SOLVER, environment=WORLD, n=40, budget=Budget(policy_tokens=free.usage.policy_tokens // 2)))
    assert 3 < len(bound.tree.ends) < 40
    for one, other in zip(bound.tree.ends[:-1], free.tree.ends, strict=False):
        assert one.trajectory == other.trajectory
    last, whole = bound.tree.ends[-1].trajectory, free.tree.ends[len(bound.tree.ends) - 1].trajectory
    assert whole.text.startswith(last.text)


def test_what_a_budget_allowed_is_still_judged() -> None:
    """The budget of the policy ends in the middle of the draws; those that were made are scored, and one of them answers."""
    whole = found(BestOfN(policy=SOLVER, environment=WORLD, model=RoughModel(), n=16))
    result = found(BestOfN(policy=SOLVER, environment=WORLD, model=RoughModel(), n=16, budget=Budget(policy_tokens=whole.usage.policy_tokens // 2)))
    assert result.chosen is not None
    assert result.chosen.finished
    assert all(end.scores is not None for end in result.tree.ends)


def test_scores_that_a_budget_allowed_stay() -> None:
    alone = found(BestOfN(policy=SOLVER, environment=WORLD, model=RoughModel(), n=8))
    result = found(BestOfN(policy=SOLVER, environment=WORLD, model=RoughModel(), n=8, budget=Budget(reward_tokens=alone.usage.reward_tokens // 2)))
    scored = [end for end in result.tree.ends if end.reason is None]
    assert 1 <= len(scored) < 8
    assert result.chosen is not None
    assert result.chosen == max(scored, key=lambda end: end.value).trajectory
    assert all("not scored: the budget of" in (end.reason or "") for end in result.tree.ends if end.reason)


def test_a_budget_that_drawing_and_judging_share_leaves_room_for_both() -> None:
    """20 calls: 10 solutions, each of them scored. FLOPs: as long as they last, what was drawn is scored, but for the last draws."""
    result = found(BestOfN(policy=SOLVER, environment=WORLD, model=RoughModel(), n=1000, budget=Budget(calls=20)))
    assert (len(result.tree.ends), sum(end.scores is not None for end in result.tree.ends)) == (10, 10)
    costly = RoughPolicy(SOLVER)
    one = found(BestOfN(policy=costly, environment=WORLD, model=RoughModel(), n=1)).usage.flops
    result = found(BestOfN(policy=costly, environment=WORLD, model=RoughModel(), n=1000, budget=Budget(flops=20 * one)))
    assert sum(end.reason is None for end in result.tree.ends) >= 10
    assert result.chosen is not None


@dataclass(frozen=True)
class Silent:
    """A reward model without a price."""

    granularity: ClassVar[Literal["step"]] = "step"
    scale: ClassVar[Literal["probability"]] = "probability"
    fingerprint: str = "silent"

    async def score(self, trajectory: Trajectory) -> StepScores:
        raise AssertionError("asked")


def test_a_budget_that_cannot_be_kept_is_refused_before_anything_is_spent() -> None:
    counting = RoughPolicy(SOLVER)
    for budget in (Budget(reward_tokens=1000), Budget(flops=10**9)):
        Majority(policy=counting, environment=WORLD, budget=budget)
        with pytest.raises(InputError, match=r"silent cannot tell its price before it is asked.* give policy_tokens or calls instead"):
            BestOfN(policy=counting, environment=WORLD, model=Silent(), budget=budget)
    with pytest.raises(InputError, match="does not count FLOPs"):
        Majority(policy=SOLVER, environment=WORLD, budget=Budget(flops=10**9))
    for budget in (Budget(policy_tokens=100), Budget(calls=3), Budget(seconds=60.0)):
        BestOfN(policy=SOLVER, environment=WORLD, model=Silent(), budget=budget)
    with pytest.raises(InputError, match="policy_tokens must be positive and finite, got 0"):
        Budget(policy_tokens=0)
