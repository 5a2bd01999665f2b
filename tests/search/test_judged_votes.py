"""Votes on judgements: a judge that knows nothing changes nothing, a judge that knows helps, and meta-judges choose whom to believe."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from tests.search.exact import PROBLEMS, SOLVER, WORLD, Exact, results, right, standard_error

from stepward.core import InputError, RewardModel, SearchResult, StepScores, Trajectory
from stepward.engine.noise import uniforms
from stepward.search.budget import Budget
from stepward.search.judged_votes import MetaVote, SelfRerank, judgement
from stepward.search.sampled import Majority
from stepward.testing import check_search
from stepward.testing.noisy_judge import NoisyJudge

PARTS: dict[str, Any] = {"policy": SOLVER, "environment": WORLD}


@dataclass(frozen=True)
class CoinJudge:
    """Accepts a solution with one chance, whatever it says."""

    chance: float = 0.5
    fingerprint: str = "coin judge"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        good = uniforms(5, trajectory.key, 0, 0)[0] < self.chance
        return StepScores(np.full(len(trajectory), float(good)))


def test_a_useless_judge_is_the_majority_in_expectation() -> None:
    """Equal chances to accept right and wrong solutions: accuracy of the rerank minus that of a majority of as many accepted votes is zero on average."""
    n, chance = 5, 0.5
    reranked = results(SelfRerank(**PARTS, model=CoinJudge(chance), n=n), PROBLEMS[:100])
    votes = {size: right(results(Majority(**PARTS, n=size), PROBLEMS[:100])).mean() for size in range(1, n + 1)}
    sizes = Counter(result.source["notes"]["n_accepted"] or n for result in reranked)
    expected = sum(count * votes[size] for size, count in sizes.items()) / len(reranked)
    found = right(reranked)
    assert abs(found.mean() - expected) < 3 * math.sqrt(found.var() * 2 / len(found))


def test_a_perfect_judge_finds_the_right_solution_wherever_there_is_one() -> None:
    judge = NoisyJudge(WORLD, false_alarm=0.0, miss=0.0)
    found = results(SelfRerank(**PARTS, model=judge, n=6), PROBLEMS[:80])
    for result in found:
        accepted = [end for end in result.tree.ends if end.value == 1.0]
        assert result.source["notes"]["n_accepted"] == len(accepted)
        if any(SOLVER.value(end.trajectory) for end in accepted):
            assert result.chosen is not None
    plain = right(results(Majority(**PARTS, n=6), PROBLEMS[:80]))
    gain = right(found) - plain
    assert gain.mean() > 2 * standard_error(gain)


def test_where_nothing_is_accepted_all_vote_and_what_is_not_judged_is_not_accepted() -> None:
    plain = results(Majority(**PARTS, n=5), PROBLEMS[:20])
    for judge in (CoinJudge(0.0), Exact(fail_every=1)):
        found = results(SelfRerank(**PARTS, model=judge, n=5), PROBLEMS[:20])
        assert [result.chosen for result in found] == [result.chosen for result in plain]
        assert all(result.source["notes"]["n_accepted"] == 0 for result in found)


# Meta-judges


@dataclass(frozen=True)
class Grader:
    """Gives a whole number of 1 to 10 that is near the truth, or in seven draws of ten anything. It says which it is."""

    name: str = ""
    granularity: Literal["step"] = "step"
    scale: Literal["logit"] = "logit"

    @property
    def fingerprint(self) -> str:
        return f"grader {self.name}"

    def variant(self, name: str) -> RewardModel:
        return replace(self, name=name)

    async def score(self, trajectory: Trajectory) -> StepScores:
        noise = uniforms(1, f"{self.name} {trajectory.key}", 0, 0, 2)
        careless = noise[0] < 0.7
        truth = SOLVER.value(trajectory) if not trajectory.truncated else 0.0
        mark = 1 + int(10 * noise[1]) if careless else min(10, max(1, round(2 + 6 * truth + 2 * noise[1])))
        values = np.full(len(trajectory), float(mark))
        return StepScores(values, scale="logit", rationales=["I did not look" if careless else "I checked"] * len(trajectory))


@dataclass(frozen=True)
class Careful:
    """A meta-judge that trusts judgements which were checked."""

    fingerprint: str = "careful"
    granularity: Literal["outcome"] = "outcome"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.full(len(trajectory), float("I checked" in trajectory.text)))


def voting(**settings: Any) -> MetaVote:
    return MetaVote(**(PARTS | {"model": Grader(), "n": 6, "k": 4} | settings))


def test_trusting_all_judgements_is_the_plain_sum() -> None:
    one, other = results(voting(k_meta=4, meta=Careful()), PROBLEMS[:20]), results(voting(), PROBLEMS[:20])
    assert [[end.value for end in result.tree.ends] for result in one] == [[end.value for end in result.tree.ends] for result in other]
    for result in one:
        for end in result.tree.ends:
            marks = [_mark(f"draw {draw}", end.trajectory) for draw in range(4)]
            assert end.value == sum(marks)


def _mark(name: str, trajectory: Trajectory) -> float:
    import asyncio

    return float(asyncio.run(Grader(name).score(trajectory)).values[0])


def test_a_meta_judge_sums_the_judgements_that_it_trusts() -> None:
    """Chance that a right solution has a larger sum than a wrong one, problem by problem: 2 of 4 judgements, those that were checked, against all 4."""

    def told_apart(result: SearchResult) -> float:
        truth = np.array([SOLVER.value(end.trajectory) for end in result.tree.ends])
        sums = np.array([end.value for end in result.tree.ends])
        gaps = sums[truth == 1.0][:, None] - sums[truth == 0.0][None, :]
        return float(np.mean((gaps > 0) + 0.5 * (gaps == 0))) if gaps.size else math.nan

    plain, meta = (results(voting(**settings), PROBLEMS[:80]) for settings in ({}, {"meta": Careful(), "k_meta": 2}))
    gain = np.array([told_apart(one) - told_apart(other) for one, other in zip(meta, plain, strict=True)])
    gain = gain[~np.isnan(gain)]
    assert gain.mean() > 1.645 * standard_error(gain)  # one-sided 95 %


def test_ties_fall_with_the_number_of_judgements() -> None:
    def tied(k: int) -> float:
        found = [{end.trajectory.key: end.value for end in result.tree.ends} for result in results(voting(k=k), PROBLEMS[:60])]
        return float(np.mean([list(sums.values()).count(max(sums.values())) > 1 for sums in found if len(sums) > 1]))

    assert tied(1) > 2 * tied(6)


def test_a_judgement_is_read_as_a_step_behind_problem_and_solution() -> None:
    solution = Trajectory.from_texts("1 + 1?", ["It is 2.", "So 2."])
    read = judgement(solution, StepScores([0.5, 1.0], rationales=["fine", None]))
    assert read.problem.prompt == "1 + 1?\n\nIt is 2.\n\nSo 2."
    assert read.text == "fine\nScore of step 1: 0.5\nScore of step 2: 1"


@pytest.mark.parametrize("search", [SelfRerank(**PARTS, model=CoinJudge(), n=4), voting(meta=Careful())], ids=lambda search: search.name)
def test_judged_votes_keep_their_promises_and_their_budgets(search: Any) -> None:
    check_search(search, PROBLEMS[:3])
    for calls in (1, 5, 9, 20):
        for result in results(replace(search, budget=Budget(calls=calls)), PROBLEMS[:5]):
            assert result.source["calls"] <= calls


def test_mistaken_settings_are_refused() -> None:
    for settings, said in (
        ({"k_meta": 5}, "at most k"),
        ({"k_meta": 2}, "needs a meta-judge"),
        ({"k": 0}, "at least 1"),
        ({"model": Exact()}, "cannot be drawn"),
    ):
        with pytest.raises(InputError, match=said):
            voting(**settings)


def test_a_judge_that_only_abstains_has_accepted_nothing() -> None:
    for result in results(SelfRerank(**PARTS, model=Silent(), n=4), PROBLEMS[:3]):
        assert result.source["notes"]["n_accepted"] == 0
        assert result.source["n_unscored"] == len(result.tree.ends)


@dataclass(frozen=True)
class Silent:
    """Looks and never judges."""

    fingerprint: str = "silent"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores.unscored(len(trajectory), "abstained: nothing to check")


def test_judgements_that_a_budget_allowed_decide() -> None:
    """5 solutions with a judgement each; 6 with 3 rounds of 6 and two more: what was heard is scaled to a sum of k, and the best of it answers."""
    for settings in ({}, {"meta": Careful(), "k_meta": 4}, {"meta": Careful(), "k_meta": 2}):
        for calls, n_heard in ((10, [1, 1, 1, 1, 1]), (26, [4, 4, 3, 3, 3, 3])):
            (result,) = results(voting(**settings, budget=Budget(calls=calls)), PROBLEMS[:1])
            for end, n in zip(result.tree.ends, n_heard, strict=True):
                marks = [_mark(f"draw {draw}", end.trajectory) for draw in range(n)]
                assert math.isnan(end.value) if not n else end.value == pytest.approx(np.mean(marks) * settings.get("k_meta", 4)) or n == 4
            assert result.source["chosen_node"] == max((end for end in result.tree.ends if not math.isnan(end.value)), key=lambda end: end.value).index


def test_as_many_calls_as_solutions_do_not_draw_everything_and_judge_nothing() -> None:
    for search in (SelfRerank(**PARTS, model=CoinJudge(), n=6, budget=Budget(calls=6)), voting(k=1, budget=Budget(calls=6))):
        (result,) = results(search, PROBLEMS[:1])
        assert len(result.tree.ends) > sum(math.isnan(end.value) for end in result.tree.ends) == 0
