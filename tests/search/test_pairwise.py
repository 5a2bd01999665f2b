"""Beams whose finalists are compared in pairs, the preferences that compare them, and selection near the maximum."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from stepward.core import CountMismatch, InputError, Problem, RequestFailed, Search, SearchResult, StepScores, Trajectory, Usage, charge
from stepward.rewards.generative import PairwiseJudge
from stepward.rewards.generative.scripted import ScriptedJudge
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.choose import pairwise_choice
from stepward.search.pairwise import PairwiseBeam
from stepward.search.preference import BradleyTerry, Preferred
from stepward.search.select import epsilon_greedy, near_max, softmax, top_k
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
POLICY = PlantedPolicy()
EVERY = PlantedPolicy(draws="in turn")
PROBLEMS = [WORLD.random(seed, depth=3, branching=3) for seed in range(20)]
NOISY = PlantedModel(noise=0.4)


@dataclass(frozen=True, kw_only=True)
class Compares:
    """P(a better than b) = 0.5 + (worth a - worth b + spread x a fixed error of the pair) / 4, worth the leaf's reward; fails on some pairs."""

    spread: float = 0.0
    fail_every: int = 0

    @property
    def fingerprint(self) -> str:
        return f"compares({self.spread},{self.fail_every})"

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Preferred:
        charge(Usage(reward_tokens=3, calls=1))
        seed = [int(a.key[:10], 16), int(b.key[:10], 16)]
        if self.fail_every and sum(seed) % self.fail_every == 0:
            raise RequestFailed("no verdict")
        leaves = WORLD.leaves(problem)
        error = self.spread * np.random.default_rng(sorted(seed)).normal() * np.sign(seed[1] - seed[0])
        gap = leaves[WORLD.answer(a) or ""] - leaves[WORLD.answer(b) or ""]
        return Preferred(min(1.0, max(0.0, 0.5 + (gap + error) / 4)))

    def price(self, problem: Problem, a: Trajectory, b: Trajectory) -> Usage:
        del problem, a, b
        return Usage(reward_tokens=3, calls=1)


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def beam(**changes: Any) -> PairwiseBeam:
    return PairwiseBeam(**{"policy": POLICY, "environment": WORLD, "model": NOISY, "preference": Compares(), "width": 3, "expansions": 3} | changes)


def reward(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([WORLD.leaves(result.tree.problem)[WORLD.answer(result.chosen) or ""] for result in found if result.chosen is not None])


def finalists(result: SearchResult) -> list[Any]:
    return [node for node in result.tree.ends if node.dropped is None]


# The beam


def test_a_comparison_by_scores_counts_as_two_calls() -> None:
    search = beam(preference=BradleyTerry(model=PlantedModel()))
    (free,) = results(search, PROBLEMS[:1])
    calls = 2 * (len(free.tree) - 1) + 2 * 3  # a draw and a score a node, and three pairs
    assert free.source["calls"] == calls
    for limit, compared in ((calls, 3), (calls - 1, 0)):
        (result,) = results(replace(search, budget=Budget(calls=limit)), PROBLEMS[:1])
        assert result.source["calls"] == calls - 2 * (3 - compared)
        assert sum(node.visits for node in finalists(result)) == 2 * compared


def test_a_width_that_holds_all_is_exhaustive() -> None:
    """27 prefixes for 27 leaves, every branch in its turn, none dropped: with error-free pairs the answer is the best leaf, whatever the reward model says."""
    worst = PlantedModel(noise=50.0)
    for result in results(beam(policy=EVERY, model=worst, width=27, expansions=1), PROBLEMS[:4]):
        assert all(node.dropped is None for node in result.tree)
        leaves = WORLD.leaves(result.tree.problem)
        assert {WORLD.answer(end.trajectory) for end in result.tree.ends} == set(leaves)
        assert leaves[WORLD.answer(result.chosen) or ""] == max(leaves.values())  # type: ignore[arg-type]


def test_the_answer_has_the_largest_mean_preference_of_the_finalists() -> None:
    preference = Compares(spread=0.3)
    for result in results(beam(preference=preference), PROBLEMS):
        ends = finalists(result)
        rows = [[asyncio.run(preference.compare(result.tree.problem, a.trajectory, b.trajectory)).value for b in ends] for a in ends]
        expected = pairwise_choice(rows)
        assert expected is not None
        assert result.source["chosen_node"] == ends[expected].index
        for index, end in enumerate(ends):
            assert end.visits == len(ends) - 1
            assert end.q == pytest.approx(np.mean([rows[index][j] for j in range(len(ends)) if j != index]))


def test_a_round_robin_beats_the_best_score_when_pairs_are_less_noisy_than_scores() -> None:
    """Same prefixes, same finalists; the reward of the answer, paired, 95 %. With noisier pairs than scores it is the other way round."""
    problems = [WORLD.random(seed, depth=3, branching=3) for seed in range(60)]
    score = PlantedModel(noise=0.5)
    by_score = reward(results(StepBeam(policy=POLICY, environment=WORLD, model=score, width=4, expansions=3, aggregation="last"), problems))
    by_pairs = reward(results(beam(model=score, width=4, preference=Compares(spread=0.1)), problems))
    by_noisy_pairs = reward(results(beam(model=PlantedModel(), width=4, preference=Compares(spread=4.0)), problems))
    by_exact = reward(results(StepBeam(policy=POLICY, environment=WORLD, model=PlantedModel(), width=4, expansions=3, aggregation="last"), problems))
    for better, worse in ((by_pairs, by_score), (by_exact, by_noisy_pairs)):
        difference = better - worse
        assert difference.mean() - 1.96 * difference.std(ddof=1) / math.sqrt(len(difference)) > 0


def test_the_models_own_preference_changes_no_answer() -> None:
    own = BradleyTerry(model=NOISY, aggregation="last")
    plain = results(StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=3, expansions=3, aggregation="last"), PROBLEMS)
    paired = results(beam(preference=own), PROBLEMS)
    for a, b in zip(plain, paired, strict=True):
        best = max((node for node in finalists(b)), key=lambda node: node.value)
        assert a.chosen is not None
        assert best.trajectory.key == b.chosen.key if b.chosen else False
        assert best.value <= max(end.value for end in a.tree.ends)


def test_pairs_that_fail_are_left_out_and_counted() -> None:
    n_failed = 0
    for result in results(beam(preference=Compares(fail_every=3)), PROBLEMS):
        missing = sum(len(finalists(result)) - 1 - end.visits for end in finalists(result)) // 2
        assert result.source.get("n_failed_requests", 0) == missing
        n_failed += missing
        assert result.chosen is not None
    assert n_failed > 0


def test_where_nothing_could_be_compared_the_value_answers() -> None:
    plain = results(StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=3, expansions=3, aggregation="last"), PROBLEMS)
    dumb = results(beam(preference=Compares(fail_every=1)), PROBLEMS)
    assert [a.chosen and a.chosen.key for a in plain] == [b.chosen and b.chosen.key for b in dumb]


def test_comparisons_count_in_the_budget_and_value_answers_where_they_do_not_fit() -> None:
    free = results(beam(), PROBLEMS[:6])
    for result, problem in zip(free, PROBLEMS, strict=False):
        pairs = len(finalists(result)) * (len(finalists(result)) - 1) // 2
        spent = result.source["calls"]
        (tight,) = results(beam(budget=Budget(calls=spent - 1)), [problem])
        assert tight.source["calls"] == spent - pairs
        assert "budget" in tight.source["stopped"]
        best = max(tight.tree.ends, key=lambda end: end.value)
        assert tight.source["chosen_node"] == best.index
        (tokens,) = results(beam(budget=Budget(reward_tokens=result.usage.reward_tokens)), [problem])
        assert tokens.usage.reward_tokens <= result.usage.reward_tokens


def test_a_judge_compares_in_both_orders() -> None:
    """A policy that answers "[[A]]" whatever it sees prefers nothing: all finalists are worth 0.5, and the first of them answers."""
    judge = ScriptedJudge(lambda asked: "<answer>[[A]]</answer>")
    (result,) = results(beam(preference=None, judge=judge), PROBLEMS[:1])
    assert [end.q for end in finalists(result)] == [0.5] * len(finalists(result))
    assert result.source["chosen_node"] == finalists(result)[0].index
    assert result.usage.reward_written > 0
    assert isinstance(beam(preference=None, judge=judge).comparer, PairwiseJudge)


def test_near_ties_are_kept_at_random_with_delta_and_by_the_best_without() -> None:
    """delta 0 grows and drops as the step beam does. A wide delta keeps other prefixes, and never one that is further than delta below the best."""

    def fates(found: list[SearchResult]) -> list[list[tuple[str, bool]]]:
        return [[(node.trajectory.key, node.dropped is None) for node in result.tree] for result in found]

    plain = results(StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=2, expansions=3, aggregation="last"), PROBLEMS)
    assert fates(plain) == fates(results(beam(width=2), PROBLEMS))
    near = results(beam(width=1, delta=0.2), PROBLEMS)
    moved = 0
    for result in near:
        first = result.tree.root.children
        (kept,) = [child for child in first if child.dropped is None]
        best = max(child.value for child in first)
        assert kept.value >= best - 0.2
        moved += kept.value < best
    assert moved > 0


def test_pairwise_beams_keep_their_promises() -> None:
    check_search(beam(delta=0.2), PROBLEMS[:3])
    agents = PlantedTree(interactive=True)
    check_search(beam(policy=PlantedPolicy(interactive=True), environment=agents), [agents.random(seed) for seed in range(3)])


def test_mistakes_are_refused() -> None:
    for changes, words in (
        ({"preference": None}, "needs a judge"),
        ({"delta": -1.0}, "delta"),
        ({"answer_by": "vote"}, "answer_by"),
        ({"width": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            beam(**changes)
    judge = ScriptedJudge(lambda asked: "<answer>[[A]]</answer>")
    with pytest.raises(InputError, match="price"):
        beam(preference=None, judge=judge, budget=Budget(reward_tokens=100))


# Preferences


@dataclass(frozen=True)
class Fixed:
    """The same score for every step, by the first branch."""

    scores: tuple[float, ...]
    scale: Any = "probability"
    fingerprint: str = "fixed"
    granularity: Any = "step"

    async def score(self, trajectory: Trajectory) -> StepScores:
        score = self.scores[int(trajectory.steps[0].text.split()[-1])]
        if math.isnan(score):
            raise RequestFailed("no score")
        return StepScores(np.full(len(trajectory), score), scale=self.scale)


def test_bradley_terry_is_the_sigmoid_of_the_difference() -> None:
    problem = PROBLEMS[0]
    a, b = WORLD.walk(problem, [0]), WORLD.walk(problem, [1])

    def prefer(*scores: float, scale: str = "probability", temperature: float = 1.0) -> float:
        return asyncio.run(BradleyTerry(model=Fixed(scores, scale), temperature=temperature).compare(problem, a, b)).value

    assert prefer(0.8, 0.5) == pytest.approx(0.8)  # odds 4 against 1
    assert prefer(2.0, -1.0, scale="logit") == pytest.approx(1 / (1 + math.exp(-3.0)))
    assert prefer(2.0, -1.0, scale="logit", temperature=3.0) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert prefer(0.3, 0.9) + asyncio.run(BradleyTerry(model=Fixed((0.3, 0.9))).compare(problem, b, a)).value == pytest.approx(1.0)
    assert prefer(0.0, 1.0) < 1e-9
    unknown = asyncio.run(BradleyTerry(model=Fixed((0.3, math.nan))).compare(problem, a, b))
    assert math.isnan(unknown.value)
    assert unknown.reason == "scoring failed: no score"


# Selection


def test_near_max_takes_each_place_uniformly_among_those_near_the_best_left() -> None:
    """Keys 1.0, 0.95, 0.5: within 0.1 of the best are the first two; the third is only taken once they are gone."""
    grid = (np.arange(400) + 0.5) / 400
    first = Counter(near_max([1.0, 0.95, 0.5], 1, delta=0.1, uniforms=[u])[0] for u in grid)
    assert first == {0: 200, 1: 200}
    assert all(set(near_max([1.0, 0.95, 0.5], 2, delta=0.1, uniforms=[u, 0.9])) == {0, 1} for u in grid)
    everything = Counter(near_max([1.0, 0.95, 0.5, math.nan], 1, delta=math.inf, uniforms=[u])[0] for u in grid)
    assert set(everything) == {0, 1, 2}
    assert max(everything.values()) - min(everything.values()) <= 1


def test_near_max_edges() -> None:
    assert near_max([math.nan, 2.0, math.nan], 3, delta=0.0, uniforms=[0.0] * 3) == [1, 0, 2]
    assert near_max([1.0, 2.0], 5, delta=0.0, uniforms=[0.0] * 2) == [1, 0]
    assert near_max([], 2, delta=0.0, uniforms=[]) == []
    with pytest.raises(InputError, match="delta"):
        near_max([1.0], 1, delta=-0.1, uniforms=[0.5])
    with pytest.raises(CountMismatch, match="random numbers"):
        near_max([1.0, 2.0], 2, delta=0.1, uniforms=[0.5])


def test_epsilon_greedy_explores_with_chance_epsilon() -> None:
    keys = [0.1, math.nan, 0.7, 0.2]
    assert epsilon_greedy(keys, epsilon=0.0, uniforms=[0.0, 0.9]) == 2
    explored = Counter(epsilon_greedy(keys, epsilon=1.0, uniforms=[0.5, (i + 0.5) / 300]) for i in range(300))
    assert explored == {0: 100, 2: 100, 3: 100}
    assert epsilon_greedy([math.nan], epsilon=0.5, uniforms=[0.9, 0.1]) is None
    with pytest.raises(InputError, match="epsilon"):
        epsilon_greedy(keys, epsilon=1.5, uniforms=[0.1, 0.1])


def test_softmax_and_its_limits() -> None:
    keys = [1.0, math.nan, 2.0]
    assert softmax(keys) == pytest.approx([1 / (1 + math.e), 0.0, math.e / (1 + math.e)])
    assert softmax([5.0, 5.0 - 1000.0], temperature=0.1) == [1.0, 0.0]
    assert softmax([3.0, 3.0, 1.0], temperature=0.0) == [0.5, 0.5, 0.0]
    assert softmax([math.inf, 1.0]) == [1.0, 0.0]
    assert softmax([math.nan]) == [0.0]
    assert softmax([]) == []


def test_top_k_puts_unknown_keys_last_and_ties_first() -> None:
    assert top_k([math.nan, 1.0, 3.0, 1.0], 3) == [2, 1, 3]
