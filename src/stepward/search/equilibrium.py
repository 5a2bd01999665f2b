"""Equilibrium refinement: a draft is rewritten until the rewriting changes nothing, then again with what the world says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from stepward.core import InputError, Node, Policy, RewardModel
from stepward.search.chain import Revisions
from stepward.search.evaluator import set_value
from stepward.search.feedback import Feedback, ScoreCritic
from stepward.search.prompts import EQUILIBRIUM
from stepward.search.revise import PromptReviser, Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.watching import announce
from stepward.search.workbench import Workbench


@dataclass(frozen=True)
class Report:
    """What the world says of a solution. `value`: how good it is, NaN where that is not known (for `reason`); `done`: nothing is left to improve."""

    done: bool
    text: str = ""
    value: float = math.nan
    reason: str = "the world did not say"


class Reporter(Protocol):
    """The world of the outer loop. What it asks of models goes through the workbench, as an evaluator's does."""

    async def report(self, bench: Workbench, node: Node) -> Report: ...


@dataclass(frozen=True, kw_only=True)
class ScoreReporter:
    """A reward model as the world: done when no step is scored below `threshold` (none: the model's own); value = the lowest step score. One score a report."""

    model: RewardModel
    threshold: float | None = None

    async def report(self, bench: Workbench, node: Node) -> Report:
        (scores,) = await bench.score(self.model, [node.trajectory])
        node.scores = scores
        told = ScoreCritic(threshold=self.threshold).read(scores)
        reason = next((reason for reason in scores.reasons if reason), "there is no step to score")
        return Report(scores.first_error(self.threshold) == -1 and len(scores) > 0, told.critique, scores.overall("min"), reason)


@dataclass(frozen=True, kw_only=True)
class Equilibrium(Strategy):
    """Rewrites a draft until it is a fixed point of the rewriting; then adds what the world says of it to the prompt, and rewrites on from there.

    Inner loop: x <- reviser(x, feedback), a function of its arguments (always the same draw), until x stays as it is, comes back to an earlier draft (a cycle,
    found by its hash), or `inner` rewritings were made. Outer loop: the world reports on x; stop when it is done, when x is a fixed point that was reported on
    before, or after `outer` reports; else its last `memory` reports are the feedback. Answer: the reported draft of largest value, the latest of equals;
    without any, the last draft. `source["notes"]` says how every inner loop ended.

    The world is `reporter`, or the reward model (done when no step is below `threshold`). `refiner` rewrites (none: the policy); `reviser` is one of your own.
    Cost: at most 1 + outer x inner solutions, outer scores.
    Defaults: inner 20, memory 4 (the authors' repository), outer 5 (there: no limit unless given). Differences: theirs samples the first draft from the top 10
    tokens and has no cycle detection; it finetunes the model to be such a rewriter.
    (Closed-Loop Long-Horizon Robotic Planning via Equilibrium Sequence Modeling, 2024.)
    """

    model: RewardModel
    refiner: Policy | None = None
    inner: int = 20
    outer: int = 5
    memory: int = 4
    threshold: float | None = None
    reporter: Reporter | None = None
    reviser: Reviser | None = None

    name = "equilibrium"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, inner=self.inner, outer=self.outer)
        if self.memory < 0:
            raise InputError(f"Equilibrium.memory is a number of reports, at least 0, got {self.memory}")

    async def grow(self, bench: Workbench) -> None:
        world = self.reporter or ScoreReporter(model=self.model, threshold=self.threshold)
        revisions, told, seen = Revisions(bench), list[str](), set[str]()
        ways: list[str] = bench.notes.setdefault("inner_loops", [])
        (draft,) = await bench.complete([bench.root], 1)
        for _ in range(self.outer):
            draft, way = await self._settle(bench, revisions, draft, Feedback(critique="\n".join(told)))
            ways.append(way)
            if draft.trajectory.key in seen:
                return
            seen.add(draft.trajectory.key)
            report = await world.report(bench, draft)
            set_value(draft, report.value, report.reason)
            announce(bench.tree)
            if report.done:
                return
            told = [*told, report.text][-self.memory :] if self.memory else []

    async def _settle(self, bench: Workbench, revisions: Revisions, draft: Node, feedback: Feedback) -> tuple[Node, str]:
        """The fixed point that this draft leads to, or where the inner loop ended otherwise, and how."""
        reviser = self.reviser or PromptReviser(policy=self.refiner or self.policy, environment=self.environment, template=EQUILIBRIUM)
        passed = [draft.trajectory.key]
        for count in range(1, self.inner + 1):
            n_failed = len(bench.failures)
            (made,) = await revisions.of(reviser, [draft], feedback, draw=0)
            if not made:
                return draft, f"failed: {next(iter(bench.failures[n_failed:]), 'the reviser wrote nothing')}"
            key = made[0].trajectory.key
            if key == passed[-1]:
                made[0].drop(f"the same as node {draft.index}: a fixed point")
                return draft, f"fixed point after {count}"
            if key in passed:
                return made[0], f"cycle of {len(passed) - passed.index(key)} after {count}"
            draft = made[0]
            passed.append(key)
        return draft, f"not settled after {self.inner}"

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        del bench
        reported = [index for index, end in enumerate(ends) if not math.isnan(end.value)]
        if reported:
            return max(reported, key=lambda index: (ends[index].value, index))
        return next((index for index in reversed(range(len(ends))) if not ends[index].dropped), None)
