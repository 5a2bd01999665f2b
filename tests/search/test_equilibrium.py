"""Equilibrium refinement with rewriters whose fixed points and cycles are known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import (
    DEFAULT_SAMPLING,
    Environment,
    Node,
    Outcome,
    Problem,
    RequestFailed,
    Sampling,
    SearchResult,
    Step,
    StepScores,
    Trajectory,
    Until,
    Usage,
    charge,
)
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver
from stepward.search.budget import Budget
from stepward.search.equilibrium import Equilibrium, Report
from stepward.search.feedback import NO_FEEDBACK, Feedback
from stepward.search.workbench import Workbench
from stepward.testing import check_search

MAPS: dict[str, Callable[[int, int], int]] = {
    "contraction": lambda x, goal: goal + int((x - goal) / 2),  # towards the goal; the goal is its only fixed point
    "cycle": lambda x, goal: (x + 1) % 4 if x < 4 else x - 1,  # into 0 -> 1 -> 2 -> 3 -> 0
    "identity": lambda x, goal: x,
    "away": lambda x, goal: x + 1,
}


@dataclass(frozen=True)
class Numbers:
    """Solutions are one number. An environment, and a policy that draws the number to start from."""

    start: int = 100
    fingerprint: str = "numbers"
    interactive: bool = False

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        charge(Usage(policy_tokens=n, calls=1))
        return [number(prefix.problem, self.start)] * n

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.ended

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.text or None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome(float(trajectory.text == "7"))


def number(problem: Problem, x: int) -> Trajectory:
    return Trajectory(problem, (Step(str(x), n_tokens=1),), finished=True)


@dataclass(frozen=True)
class Mapped:
    """Rewrites a number by a map; what it was told shifts the goal: each report in the feedback names the goal from there on."""

    by: str
    goal: int = 7
    noisy: bool = False
    fail_at: int | None = None

    @property
    def fingerprint(self) -> str:
        return f"mapped/{self.by}/{self.goal}/{self.noisy}/{self.fail_at}"

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
        return 0

    def price(self, draft: Trajectory, feedback: Feedback, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        return Usage(policy_tokens=n, calls=1)

    async def revise(
        self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        x = int(draft.text)
        if x == self.fail_at:
            raise RequestFailed("the rewriter gave up")
        charge(self.price(draft, feedback, n))
        goal = int(feedback.critique.split()[-1]) if feedback.critique else self.goal
        return [number(draft.problem, MAPS[self.by](x, goal) + (draw if self.noisy else 0))] * n


@dataclass(frozen=True)
class Judge:
    """1 for the number 7 and less the farther away."""

    fails: bool = False
    granularity: Literal["step"] = field(default="step", init=False)
    scale: Literal["probability"] = field(default="probability", init=False)

    @property
    def fingerprint(self) -> str:
        return f"judge/{self.fails}"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=1, calls=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fails:
            raise RequestFailed("the judge is away")
        charge(self.price(trajectory))
        return StepScores(np.array([1.0 / (1.0 + abs(int(trajectory.text) - 7))] * len(trajectory)))


@dataclass(frozen=True)
class Goals:
    """A world that tells the true goal, and is content when it is reached."""

    goal: int

    async def report(self, bench: Workbench, node: Node) -> Report:
        x = int(node.trajectory.text)
        return Report(x == self.goal, f"the goal is {self.goal}", 1.0 / (1.0 + abs(x - self.goal)))


@dataclass(frozen=True)
class Grumbling:
    """A world that is never content and always says the same."""

    async def report(self, bench: Workbench, node: Node) -> Report:
        return Report(False, "no, 7", 0.5)


def settle(start: int, reviser: Mapped, **changed: Any) -> SearchResult:
    parts: dict[str, Any] = {"policy": Numbers(start), "environment": Numbers(), "model": Judge(), "inner": 50, "reviser": reviser}
    return asyncio.run(Equilibrium(**parts | changed).search(Problem("Find the number.")))


def text(result: SearchResult) -> str:
    assert result.chosen is not None
    return result.chosen.text


@pytest.mark.parametrize("start", [-1000, -3, 0, 7, 8, 64, 12345])
def test_a_contraction_leads_to_its_fixed_point_from_any_draft(start: int) -> None:
    result = settle(start, Mapped("contraction"), outer=1)
    assert text(result) == "7"
    assert result.source["notes"]["inner_loops"][0].startswith("fixed point after ")
    distance, passed = abs(start - 7), len(result.tree) - 2  # besides root and first draft
    assert passed == (math.floor(math.log2(distance)) + 2 if distance else 1), "one rewriting a halving, and one that changes nothing"


@pytest.mark.parametrize(("start", "after"), [(0, 4), (2, 4), (6, 7)])
def test_a_cycle_is_found_by_its_hash_with_its_length(start: int, after: int) -> None:
    result = settle(start, Mapped("cycle"), outer=1)
    assert result.source["notes"]["inner_loops"] == (f"cycle of 4 after {after}",)


def test_what_does_not_settle_ends_at_the_cap_with_the_last_draft() -> None:
    result = settle(0, Mapped("away"), inner=9, outer=1)
    assert result.source["notes"]["inner_loops"] == ("not settled after 9",)
    assert text(result) == "9"


def test_the_rewriter_is_a_function_even_where_it_draws() -> None:
    """Every rewriting takes draw 0, so equal drafts are rewritten equally, and a fixed point is one."""
    assert text(settle(500, Mapped("contraction", noisy=True), outer=1)) == "7"


def test_what_the_world_says_moves_the_fixed_point_until_the_world_is_content() -> None:
    result = settle(100, Mapped("contraction", goal=7), reporter=Goals(31))
    assert text(result) == "31"
    assert len(result.source["notes"]["inner_loops"]) == 2
    assert [node.trajectory.text for node in result.tree.ends if not math.isnan(node.value)] == ["7", "31"]


def test_a_fixed_point_that_comes_back_ends_the_outer_loop() -> None:
    result = settle(100, Mapped("contraction"), reporter=Grumbling(), outer=9)
    assert len(result.source["notes"]["inner_loops"]) == 2, "the second inner loop starts from the fixed point and stays there"
    assert text(result) == "7"


def test_the_reward_model_is_the_world_by_default() -> None:
    content = settle(100, Mapped("contraction"))
    assert len(content.source["notes"]["inner_loops"]) == 1
    assert text(content) == "7"


def test_the_best_report_wins_and_the_latest_of_equals() -> None:
    @dataclass(frozen=True)
    class Fickle:
        async def report(self, bench: Workbench, node: Node) -> Report:
            n = int(node.trajectory.text)
            return Report(False, f"the goal is {n + 10}", {7: 0.3, 17: 0.9, 27: 0.9}.get(n, 0.1))

    assert text(settle(0, Mapped("contraction"), reporter=Fickle(), outer=4)) == "27"


def test_a_failing_world_or_rewriter_leaves_the_last_draft_with_the_reason() -> None:
    silent = settle(100, Mapped("contraction"), model=Judge(fails=True))
    assert text(silent) == "7"
    assert "the judge is away" in silent.source["failure"]
    stuck = settle(100, Mapped("contraction", fail_at=30), outer=1)
    assert text(stuck) == "30"
    assert "gave up" in stuck.source["failure"]


def test_the_memory_of_reports_is_bounded() -> None:
    heard: list[str] = []

    @dataclass(frozen=True)
    class Noting(Mapped):
        async def revise(self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, **asked: Any) -> list[Trajectory]:
            heard.append(feedback.critique)
            return await super().revise(draft, feedback, n, **asked)

    @dataclass(frozen=True)
    class Onward:
        async def report(self, bench: Workbench, node: Node) -> Report:
            return Report(False, f"try {int(node.trajectory.text) + 3}", 0.5)

    settle(0, Noting("contraction"), reporter=Onward(), outer=6, memory=2)
    assert max(len(said.splitlines()) for said in heard) == 2
    assert heard[-1].splitlines()[-1].startswith("try ")


@pytest.mark.parametrize("limit", ["policy_tokens", "calls", "reward_tokens"])
def test_its_budget_is_never_exceeded_and_a_search_that_was_cut_off_has_the_last_draft(limit: str) -> None:
    for amount in range(1, 14):
        result = settle(100, Mapped("contraction"), reporter=None, budget=Budget(**{limit: amount}), model=Judge())
        spent = {"policy_tokens": result.usage.policy_tokens, "calls": result.source["calls"], "reward_tokens": result.usage.reward_tokens}
        assert spent[limit] <= amount
        assert result.chosen is not None
        if "stopped" in result.source and limit != "reward_tokens":
            assert text(result) == result.tree.ends[-1].trajectory.text


def test_it_keeps_the_promises_of_a_search_with_its_own_prompt() -> None:
    solver, world = ScriptedSolver(), GradeSchool()

    @dataclass(frozen=True)
    class Value(Judge):
        """The exact value of every prefix of the scripted solver."""

        async def score(self, trajectory: Trajectory) -> StepScores:
            charge(self.price(trajectory))
            return StepScores(np.array([solver.value(prefix) for prefix in trajectory.prefixes()]))

    search = Equilibrium(policy=solver, environment=world, model=Value(), inner=3, outer=2)
    check_search(search, list(world.problems(3, 3, split="dev")))
    check_search(replace(search, policy=Numbers(40), environment=Numbers(), model=Judge(), reviser=Mapped("contraction"), inner=20), [Problem("Find it.")])
    assert isinstance(Numbers(), Environment)


def test_a_rewriter_that_writes_nothing_leaves_the_draft() -> None:
    @dataclass(frozen=True)
    class Nothing(Mapped):
        async def revise(self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, **_: Any) -> list[Trajectory]:
            return []

    result = settle(100, Nothing("identity"), outer=1)
    assert text(result) == "100"
    assert result.source["notes"]["inner_loops"] == ("failed: the reviser wrote nothing",)
