"""PathFinderLabels: three verdicts a step, on its mathematics, its consistency and its worth, kept where they agree with a label that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from stepward.core import ABSTAINED, InputError, Labeler, RewardModel, Semantics, StepScores, Trajectory
from stepward.labeling.judges.asking import drawn, hear, with_task
from stepward.labeling.judges.labels import check_scale
from stepward.labeling.judges.sheet import Finding, JudgeLabeler, JudgeSheet
from stepward.rewards.generative.rubric import Criterion, Rubric, RubricJudge

AXES = Rubric(
    (
        Criterion("math", "Every calculation, formula and inference in it is right."),
        Criterion("consistency", "It agrees with the problem and with all that was established before it."),
        Criterion("progress", "It is a good next step: sound, relevant, and on a way to the answer."),
    )
)
"""The paper's three dimensions, in our words."""
NAMES = tuple(criterion.name for criterion in AXES.criteria)
Rating = Literal[1, 0, -1]
_OF_RATING: dict[int, tuple[bool, bool, bool]] = {1: (True, True, True), 0: (True, True, False)}


@dataclass(frozen=True, kw_only=True)
class PathFinderLabels(JudgeLabeler):
    """A step is good iff its mathematics, its consistency and its worth (A, B, C) all are, by the judge; kept where `base` says the same, else unlabelled.
    Error Typing for Smarter Rewards: Improving Process Reward Models with Error-Aware Hierarchical Supervision (PathFinder-PRM, 2025).

    A step that `base` calls bad but whose three verdicts are all good is asked about again, up to `again` times, then discarded, as are steps that `base`
    calls good but one verdict is not, and steps with a verdict that cannot be read. `error_types`: the axes that failed, such as "math+progress".
    `evidence`: the three verdicts. Without `base` the verdicts alone decide. `base` should give *local* labels (the paper's are human ratings of steps,
    see `of_rating`, and Monte-Carlo labels). `judge` gives the policy and its sampling. Semantics: *local*.
    """

    base: Labeler | None = None
    again: int = 2

    method: ClassVar[str] = "pathfinder"
    semantics: ClassVar[Semantics] = "local"

    def __post_init__(self) -> None:
        if self.again < 0:
            raise InputError(f"PathFinderLabels.again must be at least 0, got {self.again}")
        check_scale(self.judge)
        drawn(self._asked, 1 + (self.again if self.base is not None else 0))

    @property
    def _asked(self) -> RewardModel:
        return with_task(self.judge, RubricJudge(AXES))

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        known = None if self.base is None else (await self.base.label(trajectory)).hard
        rounds = drawn(self._asked, 1 + (self.again if known is not None else 0))
        scores = await hear(rounds[0], trajectory)
        findings = [_finding(scores, step, None if known is None else known[step], known is not None) for step in range(len(trajectory))]
        words = list(scores.rationales)
        for judge in rounds[1:]:
            unsettled = [step for step in range(len(trajectory)) if known is not None and known[step] is False and (findings[step].evidence or {}).get("all")]
            if not unsettled:
                break
            scores = await hear(judge, trajectory)
            for step in unsettled:
                findings[step], words[step] = _finding(scores, step, False, True), scores.rationales[step]
        sheet.rationales = words
        sheet.write(findings, "local")
        for step, finding in enumerate(findings):
            failed = [name for name in NAMES if (finding.evidence or {}).get(name) is False]
            sheet.error_types[step] = "+".join(failed) if finding.good is False and failed else None


def of_rating(rating: Rating) -> tuple[bool, bool, bool] | None:
    """The three verdicts that a human rating of a step stands for: 1 (good) and 0 (right, no progress); None for -1, which the judge must type."""
    return _OF_RATING.get(rating)


def _finding(scores: StepScores, step: int, known: bool | None, filtered: bool) -> Finding:
    if math.isnan(scores.values[step]):
        return Finding(math.nan, None, scores.reasons[step])
    axes: dict[str, Any] = {name: bool(scores.aspects[name][step] >= 0.5) for name in NAMES if name in scores.aspects}
    good = all(axes.values()) if axes else bool(scores.values[step] >= scores.threshold)
    evidence = {**axes, "known": known, "all": good}
    if filtered and known is None:
        return Finding(math.nan, None, f"{ABSTAINED}: there is no label to compare with", evidence=evidence)
    if filtered and known is not good:
        return Finding(math.nan, None, f"{ABSTAINED}: the label says {_word(known)}, the three verdicts say {_word(good)}", evidence=evidence)
    return Finding(float(good), good, evidence=evidence)


def _word(good: bool | None) -> str:
    return "good" if good else "bad"
