"""Search strategies with exact scores, where their accuracy is known."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import InputError, Problem, RequestFailed, Sampling, Search, SearchResult, StepScores, Trajectory, Until
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.search import BestOfN, Majority, StepBeam, WeightedBestOfN
from stepward.search.budget import Budget
from stepward.search.load import load_search
from stepward.testing import check_search

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.1, lucky=0.0)


@dataclass(frozen=True)
class Exact:
    """A reward model that knows the exact value of every prefix; optionally behind a map, or failing on some trajectories."""

    transform: Any = None
    fail_every: int = 0
    fingerprint: str = "exact"
    granularity: Literal["step"] = "step"
    scale: Literal["logit"] = "logit"

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[:4], 16) % self.fail_every == 0:
            raise RequestFailed("no answer")
        values = np.array([SOLVER.value(prefix) for prefix in trajectory.prefixes()])
        return StepScores(self.transform(values) if self.transform else values, scale="logit")


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def right(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    async def run() -> list[float]:
        return [(await WORLD.grade(result.chosen)).value or 0.0 for result in found if result.chosen is not None]

    return np.array(asyncio.run(run()))


PROBLEMS = list(WORLD.problems(3, 150, split="dev"))


def test_best_of_n_with_the_exact_outcome_solves_what_any_sample_solves() -> None:
    """E[correct] = mean of 1 - (1 - V)^n, V the policy's chance on the bare problem."""
    n = 4
    search = BestOfN(policy=SOLVER, environment=WORLD, model=Exact(), n=n, aggregation="last")
    chance = np.array([1 - (1 - SOLVER.value(Trajectory(problem))) ** n for problem in PROBLEMS])
    found = right(results(search, PROBLEMS))
    assert abs((found - chance).mean()) < 3 * math.sqrt((chance * (1 - chance)).sum()) / len(PROBLEMS)


def test_one_sample_is_right_with_the_policys_own_chance() -> None:
    search = Majority(policy=SOLVER, environment=WORLD, n=1)
    chance = np.array([SOLVER.value(Trajectory(problem)) for problem in PROBLEMS])
    found = right(results(search, PROBLEMS))
    assert abs((found - chance).mean()) < 3 * math.sqrt((chance * (1 - chance)).sum()) / len(PROBLEMS)


def test_best_of_n_does_not_change_under_increasing_maps_of_the_scores() -> None:
    plain, mapped = (
        results(BestOfN(policy=SOLVER, environment=WORLD, model=Exact(transform), n=6, aggregation="last"), PROBLEMS[:40])
        for transform in (None, lambda values: 7.0 * values**3 - 2.0)
    )
    assert [a.chosen for a in plain] == [b.chosen for b in mapped]


def test_beam_with_exact_values_beats_best_of_n_at_equal_width() -> None:
    """Value-guided steps avoid errors that best-of-n must be lucky to avoid; 95 % interval of the paired difference above zero."""
    beam = right(results(StepBeam(policy=SOLVER, environment=WORLD, model=Exact(), width=2, expansions=2, aggregation="last"), PROBLEMS))
    sampled = right(results(BestOfN(policy=SOLVER, environment=WORLD, model=Exact(), n=4, aggregation="last"), PROBLEMS))
    difference = beam - sampled
    assert difference.mean() - 1.96 * difference.std(ddof=1) / math.sqrt(len(difference)) > 0


def test_a_beam_without_expansions_is_independent_chains() -> None:
    """width = k, expansions = 1: k chains; each first step is one of the k first draws, and no node has two children but the root."""
    for result in results(StepBeam(policy=SOLVER, environment=WORLD, model=Exact(), width=4, expansions=1, aggregation="last"), PROBLEMS[:20]):
        assert len(result.tree.root.children) == 4
        assert all(len(node.children) <= 1 for node in result.tree if node.parent is not None)
        assert len(result.tree.ends) == 4


def test_equal_siblings_of_a_beam_get_children_of_their_own() -> None:
    """Two equal first steps must not be extended by the same draws."""
    sure = ScriptedSolver(rates=ErrorRates(**dict.fromkeys(ErrorRates.__dataclass_fields__, 0.0) | {"arithmetic_slip": 0.5}), notice=0.0, lucky=0.0)
    found = 0
    for problem in PROBLEMS[:30]:
        result = results(StepBeam(policy=sure, environment=WORLD, model=Exact(), width=4, expansions=1, aggregation="last"), [problem])[0]
        first = [node for node in result.tree.root.children if node.trajectory.key == result.tree.root.children[0].trajectory.key and node.children]
        texts = {node.children[0].trajectory.text for node in first}
        found += len(first) > 1 and len(texts) > 1
    assert found > 0


def test_a_candidate_that_cannot_be_scored_never_wins_and_is_counted() -> None:
    for result in results(BestOfN(policy=SOLVER, environment=WORLD, model=Exact(fail_every=3), n=8, aggregation="last"), PROBLEMS[:30]):
        unscored = [node for node in result.tree.ends if math.isnan(node.value)]
        assert result.source["n_unscored"] == len(unscored)
        assert all("no answer" in (node.reason or "") for node in unscored)
        assert result.chosen is None or result.chosen.key not in {node.trajectory.key for node in unscored}


def test_nothing_scored_is_no_choice_with_a_reason() -> None:
    result = results(BestOfN(policy=SOLVER, environment=WORLD, model=Exact(fail_every=1), n=4), PROBLEMS[:1])[0]
    assert result.chosen is None
    assert "no answer" in (result.reason or "")


@dataclass(frozen=True)
class Gone:
    """A policy whose server is gone."""

    fingerprint: str = "gone"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        raise RequestFailed("connection refused")


@pytest.mark.parametrize("strategy", ["majority", "best-of-n", "weighted", "beam"])
def test_a_policy_that_fails_gives_a_result_with_the_reason(strategy: str) -> None:
    search = load_search(strategy, policy=Gone(), environment=WORLD, model=Exact(), n=4)
    result = results(search, PROBLEMS[:1])[0]
    assert result.chosen is None
    assert "connection refused" in (result.reason or "")


@pytest.mark.parametrize("strategy", ["majority", "best-of-n", "weighted", "beam"])
def test_every_strategy_keeps_its_promises(strategy: str) -> None:
    check_search(load_search(strategy, policy=SOLVER, environment=WORLD, model=Exact(), n=4, width=2, aggregation="last"), PROBLEMS[:4])


def test_a_vote_without_a_reward_model_has_nothing_unscored() -> None:
    assert results(Majority(policy=SOLVER, environment=WORLD, n=4), PROBLEMS[:1])[0].source["n_unscored"] == 0


@dataclass(frozen=True)
class Tiring:
    """A policy that fails from the third step on."""

    fingerprint: str = "tiring"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if len(prefix) == 2:
            raise RequestFailed("out of breath")
        return await SOLVER.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_a_beam_that_broke_off_says_so_even_if_it_found_something() -> None:
    found = results(StepBeam(policy=Tiring(), environment=WORLD, model=Exact(), width=8, expansions=2, aggregation="last"), PROBLEMS[:40])
    broken = [result for result in found if any(len(node.trajectory) == 2 and not node.ended for node in result.tree)]
    assert all("out of breath" in result.source["failure"] for result in broken)
    assert any(result.chosen is not None for result in broken), "some premature answer must have ended before the failure"


def test_a_beam_that_met_its_limit_of_steps_names_it() -> None:
    search = StepBeam(policy=Endless(), environment=WORLD, model=Flat(), width=2, expansions=1, sampling=Sampling(max_steps=3))
    result = results(search, PROBLEMS[:1])[0]
    assert result.chosen is None
    assert "max_steps" in (result.reason or "")


@dataclass(frozen=True)
class Endless:
    """A policy that never comes to an end."""

    fingerprint: str = "endless"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        return [prefix.extend(f"and then {draw + index}. ") for index in range(n)]


@dataclass(frozen=True)
class Flat:
    """Every step is as good as every other."""

    fingerprint: str = "flat"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.full(len(trajectory), 0.5))


def test_usage_counts_every_written_token_once() -> None:
    result = results(WeightedBestOfN(policy=SOLVER, environment=WORLD, model=Exact(), n=5, aggregation="last"), PROBLEMS[:1])[0]
    assert result.usage.policy_tokens == sum(step.n_tokens or 0 for node in result.tree.ends for step in node.trajectory.steps)


def test_mistaken_requests_are_refused() -> None:
    with pytest.raises(InputError, match="unknown strategy 'beem'"):
        load_search("beem", policy=SOLVER, environment=WORLD)
    with pytest.raises(InputError, match="needs a reward model"):
        load_search("best-of-n", policy=SOLVER, environment=WORLD)
    with pytest.raises(InputError, match="multiple of 3"):
        load_search("beam", policy=SOLVER, environment=WORLD, model=Exact(), n=16, width=3)
    for strategy in ("best-of-n", "weighted", "beam"):
        with pytest.raises(InputError, match="unknown aggregation 'median'"):
            load_search(strategy, policy=SOLVER, environment=WORLD, model=Exact(), aggregation="median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        Majority(policy=SOLVER, environment=WORLD, n=0)


@dataclass(frozen=True)
class Hasty(Flat):
    """Likes what is short."""

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.full(len(trajectory), 1.0 / (1 + len(trajectory.text))))


def test_what_was_cut_off_answers_only_where_nothing_else_can() -> None:
    """A solution broken off by a limit states no answer; its score, however high, is not one of a solution."""
    n_tempted = 0
    for search in (
        BestOfN(policy=SOLVER, environment=WORLD, model=Hasty(), n=40, budget=Budget(policy_tokens=250)),
        BestOfN(policy=SOLVER, environment=WORLD, model=Hasty(), n=8, sampling=Sampling(max_tokens=60)),
        StepBeam(policy=SOLVER, environment=WORLD, model=Hasty(), width=8, expansions=1, budget=Budget(policy_tokens=400)),
    ):
        for result in results(search, PROBLEMS[:20]):
            ends = result.tree.ends
            answering = [end for end in ends if WORLD.answer(end.trajectory) is not None]
            if answering:
                assert result.source["chosen_node"] == max(answering, key=lambda end: end.value).index
                n_tempted += max(ends, key=lambda end: end.value) not in answering
    assert n_tempted > 0
    cut = results(BestOfN(policy=SOLVER, environment=WORLD, model=Hasty(), n=2, sampling=Sampling(max_tokens=5)), PROBLEMS[:1])[0]
    assert cut.chosen is not None, "the best so far"
    assert cut.chosen.truncated
