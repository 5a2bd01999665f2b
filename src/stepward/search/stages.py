"""Searches whose steps are stages with judges of their own, and whose ends must pass a check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepward.core import InputError, Node, RewardModel, Scale
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.workbench import Workbench

FAILED_CHECK = "failed the check of finished solutions"
UNCHECKED = "the check of finished solutions could not judge it"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """An evaluator a stage: stages[i] judges nodes of i + 1 steps, the last one also all longer ones; `ended`, where it is given, those that have ended.

    The stages' values are compared only where nodes of several stages compete (kept ends with open prefixes): give them one scale.

    Raises: InputError for no stage.
    """

    stages: tuple[Evaluator, ...]
    ended: Evaluator | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("Staged needs at least one evaluator in stages")

    @property
    def scale(self) -> Scale:
        return self.stages[0].scale

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        by_stage: dict[int, list[Node]] = {}
        for node in nodes:
            stage = -1 if self.ended is not None and node.ended else min(max(1, len(node.trajectory)), len(self.stages)) - 1
            by_stage.setdefault(stage, []).append(node)
        for stage, group in by_stage.items():
            judge = self.ended if stage < 0 and self.ended is not None else self.stages[stage]
            await judge.evaluate(bench, group)


@dataclass(frozen=True, kw_only=True)
class StagedBeam(StepBeam):
    """A step beam with a judge a stage, whose ends must pass a check before they are ranked: for work in stages, such as finding a fault and then mending it.

    stages[i] judges prefixes of i + 1 steps, the last one all longer ones; without stages `model` judges all. `outcome_model` judges what has ended. At last
    `check` is asked about every end: only those whose last score reaches its threshold can answer; where there are none, those that it could not judge; and
    where it refused all, any. Its requests count as scores. Cost for T steps of l tokens: width x expansions x T x l policy tokens, and one check an end.
    (Thinking Longer, Not Larger: Enhancing Software Engineering Agents via Scaling Test-Time Compute, 2025.) Default width and expansions: the step
    beam's. Differences: a stage is a step of the policy; the check is a reward model, for instance one that runs tests.
    """

    stages: tuple[Evaluator, ...] = ()
    outcome_model: RewardModel | None = None
    check: RewardModel | None = None

    name = "staged-beam"

    @property
    def evaluator(self) -> Evaluator:
        judges = self.stages or (super().evaluator,)
        ended = None if self.outcome_model is None else Scored(model=self.outcome_model, aggregation="last")
        return Staged(stages=judges, ended=ended)

    async def grow(self, bench: Workbench) -> None:
        await super().grow(bench)
        if self.check is None:
            return
        ends = bench.tree.ends
        for end, verdict in zip(ends, await bench.score(self.check, [end.trajectory for end in ends]), strict=True):
            passed = verdict.overall("last")
            if not passed >= verdict.threshold:
                end.closed, end.dropped = True, UNCHECKED if math.isnan(passed) else FAILED_CHECK

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        passed = [index for index, end in enumerate(ends) if end.dropped not in (FAILED_CHECK, UNCHECKED)]
        left = passed or [index for index, end in enumerate(ends) if end.dropped != FAILED_CHECK] or list(range(len(ends)))
        chosen = super().choose(bench, [ends[index] for index in left])
        return None if chosen is None else left[chosen]
