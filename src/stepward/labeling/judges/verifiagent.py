"""VerifiAgent: exact tools where they decide, a judge where they do not, and a check of the whole for completeness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import InputError, RewardModel, Semantics, Trajectory
from stepward.labeling.consensus import filled_in
from stepward.labeling.judges.asking import hear, with_task
from stepward.labeling.judges.labels import JudgeLabels, check_scale
from stepward.labeling.judges.sheet import JudgeLabeler, JudgeSheet
from stepward.labeling.tools import ToolLabels
from stepward.rewards.generative.rubric import Criterion, Rubric, RubricJudge
from stepward.rewards.verifiers import Verifier

WHOLE = Rubric(
    (
        Criterion("complete", "It answers everything that the problem asks for, and leaves out no case or part."),
        Criterion("consistent", "Its parts do not contradict one another or the problem."),
    )
)
INCOMPLETE = "the solution is incomplete or inconsistent"


@dataclass(frozen=True, kw_only=True)
class VerifiAgent(JudgeLabeler):
    """Step labels in two stages: `verifiers` (a router picks the tools that a step's content calls for), then `judge` for each step on which no tool decides;
    and one question about the whole. VerifiAgent: a Unified Verification Agent in Language Model Reasoning (2025).

    A tool that cannot decide is no verdict: the judge is asked, and where it does not say either, the step is unlabelled. Exact verdicts are never
    overruled. `whole`: the judge is also asked whether the solution is complete and consistent; where it is not and no step is bad, the last step is
    ("incomplete"),
    unless a tool has settled it. Semantics: *local*. Difference from the paper: steps are labelled, not the answer alone; tools are verifiers of given
    steps, not programs that an agent writes.
    """

    verifiers: Sequence[Verifier]
    whole: bool = True

    method: ClassVar[str] = "verifiagent"
    semantics: ClassVar[Semantics] = "local"

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", tuple(self.verifiers))
        if not self.verifiers:
            raise InputError("VerifiAgent needs at least one verifier; without any, use JudgeLabels")
        check_scale(self.judge)
        if self.whole:
            _ = self._meta

    @property
    def _meta(self) -> RewardModel:
        return with_task(self.judge, RubricJudge(WHOLE, unit="solution"))

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        tools = await ToolLabels(verifiers=self.verifiers).label(trajectory)
        settled = [good is not None for good in tools.hard]
        labels = tools
        if not all(settled):
            labels = filled_in(tools, await JudgeLabels(judge=self.judge, semantics="local").label(trajectory), self.judge.fingerprint)
        for step, (value, good) in enumerate(zip(labels.values.tolist(), labels.hard, strict=True)):
            if math.isnan(value):
                sheet.miss(step, labels.reasons[step] or "neither tool nor judge decides")
            else:
                sheet.value(step, value, good)
                sheet.confidence[step] = labels.confidence[step]
            sheet.evidence[step] = labels.evidence[step]
            sheet.rationales[step], sheet.error_types[step] = labels.rationales[step], labels.error_types[step]
        if self.whole and not any(good is False for good in labels.hard):
            await self._judge_whole(sheet, trajectory, settled[-1])

    async def _judge_whole(self, sheet: JudgeSheet, trajectory: Trajectory, settled: bool) -> None:
        scores = await hear(self._meta, trajectory)
        last = len(trajectory) - 1
        found = {name: float(scores.aspects[name][last]) for name in ("complete", "consistent") if name in scores.aspects}
        found = found or {"complete": float(scores.values[last])}
        sheet.note(last, **found)
        if not settled and any(value < 0.5 for value in found.values()):
            sheet.value(last, min(value for value in found.values() if not math.isnan(value)), False)
            sheet.confidence[last], sheet.error_types[last], sheet.rationales[last] = math.nan, "incomplete", scores.rationales[last] or INCOMPLETE
