"""Judges by stage, a check of what has ended, and the order of aggregations that beams choose between."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from stepward.core import InputError, Problem, RequestFailed, Search, SearchResult, StepScores, Trajectory, aggregate, canonical_json
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.evaluator import Scored
from stepward.search.load import load_search
from stepward.search.stages import FAILED_CHECK, UNCHECKED, Staged, StagedBeam
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
POLICY = PlantedPolicy()
PROBLEMS = [WORLD.random(seed, depth=3, branching=3, right=0.3) for seed in range(25)]
NOISY = PlantedModel(noise=0.5)
BLIND = PlantedModel(noise=50.0)


@dataclass(frozen=True, kw_only=True)
class Executes:
    """Says 1 or 0 by the leaf's reward; cannot judge one in `fail_every` solutions."""

    fail_every: int = 0
    refuses: bool = False
    granularity: Any = "outcome"
    scale: Any = "probability"

    @property
    def fingerprint(self) -> str:
        return f"executes({self.fail_every},{self.refuses})"

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[:6], 16) % self.fail_every == 0:
            raise RequestFailed("the sandbox is gone")
        passed = trajectory.finished and WORLD.leaves(trajectory.problem)[WORLD.answer(trajectory) or ""] > 0.5
        return StepScores(np.full(len(trajectory), float(passed and not self.refuses)))


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def beam(**changes: Any) -> StagedBeam:
    return StagedBeam(**{"policy": POLICY, "environment": WORLD, "model": NOISY, "width": 3, "expansions": 2, "aggregation": "last"} | changes)


def rewards(result: SearchResult) -> list[float]:
    leaves = WORLD.leaves(result.tree.problem)
    return [leaves[WORLD.answer(end.trajectory) or ""] for end in result.tree.ends]


def test_without_stages_and_check_it_is_the_step_beam() -> None:
    plain = results(StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=3, expansions=2, aggregation="last"), PROBLEMS)
    staged = results(beam(), PROBLEMS)
    assert [canonical_json(a.tree.to_record()) for a in plain] == [canonical_json(b.tree.to_record()) for b in staged]
    assert [a.chosen for a in plain] == [b.chosen for b in staged]


def test_each_stage_has_its_judge() -> None:
    exact, shifted = PlantedModel(), PlantedModel(shift=5.0)
    stages = (Scored(model=NOISY, aggregation="last"), Scored(model=exact, aggregation="last"))
    for result in results(beam(stages=stages, outcome_model=shifted), PROBLEMS[:5]):
        for node in result.tree:
            depth = len(node.trajectory)
            if node.ended:
                assert node.value == POLICY.value(node.trajectory) + 5.0
            elif depth >= 2:
                assert node.value == POLICY.value(node.trajectory)
            elif depth == 1:
                assert node.value == asyncio.run(NOISY.score(node.trajectory)).values[-1]


def test_with_an_exact_check_an_answer_is_right_wherever_any_end_is() -> None:
    """Accuracy = P(any end is right), though the model that ranks is blind; without the check it is far below."""
    checked, unchecked = results(beam(model=BLIND, check=Executes()), PROBLEMS), results(beam(model=BLIND), PROBLEMS)
    right = [WORLD.leaves(result.tree.problem)[WORLD.answer(result.chosen) or ""] for result in checked]  # type: ignore[arg-type]
    assert right == [max(rewards(result)) for result in checked]
    blind = [WORLD.leaves(result.tree.problem)[WORLD.answer(result.chosen) or ""] for result in unchecked]  # type: ignore[arg-type]
    assert sum(blind) < sum(right)


def test_judging_only_ends_needs_more_samples_for_the_same_accuracy() -> None:
    """At 6 draws a level, an exact judge of stages finds a right end more often than solutions that are judged at their end only; paired, 95 %."""
    problems = [WORLD.random(seed, depth=4, branching=3, right=0.04) for seed in range(120)]
    best = PlantedModel(knows="best")
    staged = np.array([max(rewards(result)) for result in results(beam(model=best, width=2, expansions=3), problems)])
    chains = np.array([max(rewards(result)) for result in results(StepBeam(policy=POLICY, environment=WORLD, model=BLIND, width=6, expansions=1), problems)])
    difference = staged - chains
    assert difference.mean() - 1.96 * difference.std(ddof=1) / math.sqrt(len(difference)) > 0


def test_what_failed_the_check_says_so_and_does_not_answer() -> None:
    for result in results(beam(check=Executes(fail_every=4)), PROBLEMS):
        for end, reward in zip(result.tree.ends, rewards(result), strict=True):
            unjudged = int(end.trajectory.key[:6], 16) % 4 == 0
            assert (end.dropped == UNCHECKED) == unjudged
            assert (end.dropped == FAILED_CHECK) == (reward < 0.5 and not unjudged)
        chosen = result.tree.nodes[result.source["chosen_node"]]
        states = {end.dropped for end in result.tree.ends}
        if states - {FAILED_CHECK, UNCHECKED}:
            assert chosen.dropped not in (FAILED_CHECK, UNCHECKED)
        elif UNCHECKED in states:
            assert chosen.dropped == UNCHECKED


def test_where_the_check_refuses_all_the_best_of_them_answers() -> None:
    plain, refused = results(beam(), PROBLEMS), results(beam(check=Executes(refuses=True)), PROBLEMS)
    assert [a.chosen for a in plain] == [b.chosen for b in refused]


def test_checks_count_in_the_budget() -> None:
    (free,) = results(beam(check=Executes()), PROBLEMS[:1])
    for calls in (3, 10, free.source["calls"] - 1):
        (result,) = results(beam(check=Executes(), budget=Budget(calls=calls)), PROBLEMS[:1])
        assert result.source["calls"] <= calls


def test_staged_beams_keep_their_promises() -> None:
    check_search(beam(check=Executes(), stages=(Scored(model=BLIND), Scored(model=NOISY))), PROBLEMS[:3])
    check_search(load_search("staged-beam", policy=POLICY, environment=WORLD, model=NOISY, n=4, width=2), PROBLEMS[:3])
    with pytest.raises(InputError, match="at least one evaluator"):
        Staged(stages=())


# Aggregation: what a beam's value is made of


def test_aggregations_of_probabilities_are_ordered() -> None:
    """product <= min <= geometric <= mean <= max, and min <= softmin <= mean; all equal for one step. 2,000 random score lists."""
    numbers = np.random.default_rng(0)
    for _ in range(2000):
        scores = numbers.random(int(numbers.integers(1, 12))) ** numbers.choice([0.2, 1.0, 5.0])
        product, low, geometric, soft, mean, high = (aggregate(scores, how) for how in ("product", "min", "geometric", "softmin", "mean", "max"))
        slack = 1e-12
        assert product <= low + slack <= geometric + 2 * slack <= mean + 3 * slack <= high + 4 * slack
        assert low - slack <= soft <= mean + slack
        if len(scores) == 1:
            assert max(product, low, geometric, soft, mean, high) - min(product, low, geometric, soft, mean, high) < slack


def test_false_negatives_of_steps_ruin_products_of_long_solutions_and_not_means() -> None:
    """A right step scores 0.95, or 0.1 with chance e = 0.1. P(product > 0.3) is (1 - e)^T as long as 0.95^T > 0.3; P(mean > 0.5) does not fall with T."""
    numbers, n, e = np.random.default_rng(1), 4000, 0.1
    means = []
    for n_steps in (1, 5, 10, 20):
        scores = np.where(numbers.random((n, n_steps)) < e, 0.1, 0.95)
        kept = np.mean([aggregate(row, "product") > 0.3 for row in scores])
        chance = (1 - e) ** n_steps
        assert abs(kept - chance) < 4 * math.sqrt(chance * (1 - chance) / n)
        means.append(np.mean([aggregate(row, "mean") > 0.5 for row in scores]))
    assert means[-1] > means[0] > 0.85
