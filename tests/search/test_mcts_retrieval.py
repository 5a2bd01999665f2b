"""Retrieval-augmented MCTS: BM25 by hand, no index is plain MCTS, an oracle index helps; and the policy that reads a hint."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from stepward.core import Example, InputError, Outcome, Sampling, SearchResult, Trajectory, Until, Usage
from stepward.data import write_examples
from stepward.search.budget import Budget
from stepward.search.hinted import Hinted
from stepward.search.load import load_search
from stepward.search.mcts import MCTS
from stepward.search.retrieval import IndexFile, RetrievalMCTS, StepIndex
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
RANDOM = PlantedPolicy()
PROBLEMS = [WORLD.random(seed, depth=3, branching=4) for seed in range(20)]
SOLUTIONS = [WORLD.walk(problem, [int(choice) for choice in (problem.answer or "").split(".")]) for problem in PROBLEMS]


@dataclass(frozen=True)
class Follower:
    """Takes the branch that a hint names; walks at random without one."""

    fingerprint: str = "follower"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        named = re.search(r"place:\ntake (\d)$", prefix.problem.prompt)
        if named is None or until is Until.END:
            return await RANDOM.sample(prefix, n, until=until, sampling=sampling, draw=draw)
        every = await PlantedPolicy(draws="in turn").sample(prefix, 4)
        return [every[int(named[1])]] * n


@dataclass(frozen=True)
class Closed:
    """Knows no other prompts than the world's own."""

    fingerprint: str = "closed"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if "similar problem" in prefix.problem.prompt:
            raise InputError("not my language")
        return await RANDOM.sample(prefix, n, until=until, sampling=sampling, draw=draw)


@dataclass(frozen=True)
class Reading:
    """Keeps the prompts that it reads; asks a token for each of their letters."""

    seen: list[str] = field(default_factory=list, compare=False)
    fingerprint: str = "reading"

    def price(self, prefix: Trajectory, n: int = 1, **_: Any) -> Usage:
        return Usage(policy_tokens=len(prefix.problem.prompt), calls=n)

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        self.seen.append(prefix.problem.prompt)
        return await RANDOM.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def retrieving(**settings: Any) -> RetrievalMCTS:
    given: dict[str, Any] = {"policy": Follower(), "environment": WORLD, "model": PlantedModel(knows="best"), "expansions": 1, "iterations": 4} | settings
    return RetrievalMCTS(**given)


def found(search: MCTS, index: int) -> SearchResult:
    return asyncio.run(search.search(PROBLEMS[index]))


# The index


def test_scores_are_bm25_by_hand() -> None:
    """Of two contexts with the word once the shorter one wins; a rare word outweighs a frequent one."""
    index = StepIndex((("red red apple", "a"), ("red pear on a long green tree", "b"), ("red plum", "c"), ("blue", "d")))
    assert index.nearest("RED!", 4) == ["a", "c", "b"]
    assert index.nearest("pear red", 4)[0] == "b"
    lengths = [3, 7, 2, 1]
    mean = sum(lengths) / 4

    def score(f: int, n_with: int, length: int) -> float:
        return math.log(1 + (4 - n_with + 0.5) / (n_with + 0.5)) * f * 2.5 / (f + 1.5 * (0.25 + 0.75 * length / mean))

    assert index.scores("red") == pytest.approx({0: score(2, 3, 3), 1: score(1, 3, 7), 2: score(1, 3, 2)})
    assert index.scores("pear red")[1] == pytest.approx(score(1, 1, 7) + score(1, 3, 7))
    assert index.scores("plum plum") == pytest.approx({2: 2 * score(1, 1, 2)})


def test_nothing_in_common_is_nothing_found_and_equal_steps_are_one() -> None:
    index = StepIndex((("red apple", "same"), ("red pear", "same"), ("red plum", "other")))
    assert index.nearest("blue", 3) == []
    assert index.nearest("red", 3) == ["same", "other"]
    assert StepIndex().nearest("red", 3) == []
    assert index.nearest("red", 0) == []


def test_an_index_of_solutions_holds_every_step_with_what_stands_before_it() -> None:
    index = StepIndex.of(SOLUTIONS[:2])
    assert len(index) == 6
    assert index.entries[1] == (f"{PROBLEMS[0].prompt}\n{SOLUTIONS[0].steps[0].text}", SOLUTIONS[0].steps[1].text)
    assert index.fingerprint != StepIndex.of(SOLUTIONS[:3]).fingerprint


def test_an_index_from_a_file_holds_the_right_solutions(tmp_path: Path) -> None:
    right, wrong = (SOLUTIONS[number].graded(Outcome(value)) for number, value in ((0, 1.0), (1, 0.0)))
    write_examples([Example(right), Example(wrong)], tmp_path / "mixed.jsonl")
    assert IndexFile(path=str(tmp_path / "mixed.jsonl")).fingerprint == StepIndex.of([right]).fingerprint
    write_examples([Example(wrong)], tmp_path / "wrong.jsonl")
    with pytest.raises(InputError, match="no solution that is known to be right"):
        IndexFile(path=str(tmp_path / "wrong.jsonl")).nearest("Choose", 1)


def test_the_strategy_and_its_index_have_names(tmp_path: Path) -> None:
    write_examples([Example(solution.graded(Outcome(1.0))) for solution in SOLUTIONS], tmp_path / "solved.jsonl")
    settings = {"index": f"file:path={tmp_path / 'solved.jsonl'}", "retrieve": "2"}
    search = load_search("retrieval-mcts", policy=Follower(), environment=WORLD, model=PlantedModel(knows="best"), settings=settings)
    assert isinstance(search, RetrievalMCTS)
    assert search.retrieve == 2
    assert any(node.kind == "retrieve" for node in found(search, 0).tree)


# The search


def test_an_empty_index_is_plain_mcts() -> None:
    for number in range(4):
        settings: dict[str, Any] = {"policy": RANDOM, "environment": WORLD, "model": PlantedModel(), "expansions": 3, "iterations": 8}
        plain = found(MCTS(**settings), number)
        for index in (StepIndex(), None):
            empty = found(RetrievalMCTS(**settings, index=index), number)
            assert plain.tree.to_record() == empty.tree.to_record()
            assert plain.chosen == empty.chosen


def test_an_oracle_index_raises_the_best_first_step_and_the_answer() -> None:
    """The index of right solutions, and one free draw a node: with it every problem is solved, without it few are."""
    with_index = [found(retrieving(index=StepIndex.of(SOLUTIONS)), number) for number in range(20)]
    without = [found(retrieving(), number) for number in range(20)]

    def best(result: SearchResult) -> float:
        return max(child.value for child in result.tree.root.children if not math.isnan(child.value))

    def right(results: list[SearchResult]) -> int:
        return sum(result.chosen is not None and WORLD.answer(result.chosen) == problem.answer for result, problem in zip(results, PROBLEMS, strict=True))

    assert all(best(helped) == 1.0 for helped in with_index)
    assert sum(map(best, without)) < 19.0
    assert right(with_index) > right(without) + 5


def test_retrieved_children_are_marked_and_as_many_as_asked_for() -> None:
    result = found(retrieving(index=StepIndex.of(SOLUTIONS), retrieve=2, iterations=2), 0)
    for node in result.tree:
        kinds = [child.kind for child in node.children]
        assert kinds.count("retrieve") <= 2
    assert [child.kind for child in result.tree.root.children][:1] == ["sample"]
    assert any(node.kind == "retrieve" for node in result.tree)


def test_a_policy_that_cannot_read_hints_searches_without_them() -> None:
    result = found(retrieving(policy=Closed(), index=StepIndex.of(SOLUTIONS)), 0)
    assert result.chosen is not None
    assert "not my language" in result.source["failure"]
    assert all(node.kind == "sample" for node in result.tree)


def test_budgets_and_promises_hold() -> None:
    index = StepIndex.of(SOLUTIONS)
    result = found(retrieving(index=index, iterations=50, budget=Budget(policy_tokens=21)), 0)
    assert result.usage.policy_tokens <= 21
    check_search(retrieving(index=index), PROBLEMS[:3])
    with pytest.raises(InputError, match=r"\{step\}"):
        retrieving(hint="look!")


# The policy that reads a hint


def test_a_hint_stands_after_the_prompt_and_leaves_no_trace() -> None:
    prefix = WORLD.walk(PROBLEMS[0], (1,))
    reading = Reading()
    policy = Hinted(reading, "take care")
    (made,) = asyncio.run(policy.sample(prefix))
    assert reading.seen == [f"{PROBLEMS[0].prompt}\n\ntake care"]
    assert made.problem == PROBLEMS[0]
    assert made.prefix(1) == prefix
    assert policy.price(prefix).policy_tokens == len(reading.seen[0])
    assert policy.fingerprint not in ("reading", replace(policy, hint="other").fingerprint)


def test_an_empty_hint_is_the_policy_itself() -> None:
    prefix = Trajectory(PROBLEMS[0])
    assert Hinted(RANDOM, "").fingerprint == RANDOM.fingerprint
    assert asyncio.run(Hinted(RANDOM, "").sample(prefix, 3)) == asyncio.run(RANDOM.sample(prefix, 3))
