"""JudgeLabels: any judge as a labeler, its verdicts taken as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import InputError, RewardModel, StepScores, Trajectory
from stepward.labeling.judges.asking import hear
from stepward.labeling.judges.sheet import Finding, JudgeLabeler, JudgeSheet, Meaning
from stepward.rewards.generative.task import check_choice


@dataclass(frozen=True, kw_only=True)
class JudgeLabels(JudgeLabeler):
    """A step is good when the judge's score is not below the judge's own threshold; the judge's words are kept as rationales.

    `semantics`: *local*, every verdict by itself, for judges that judge each step by itself; *prefix* (no error so far), bad from the first bad step on, for
    judges that look for the first error and any other. Values: the scores (prefix: the smallest so far). `confidence`: with v > 1 votes behind a score,
    (m + 1) / (v + 2) for about m votes on the label's side; with one vote that was read from probabilities, the probability of the label; else unknown.
    `evidence`: the judge, its score, how many votes. A step that the judge did not score is unlabelled with the judge's reason.

    Works with any reward model on the probability scale; one that scores whole solutions labels the last step (*local*). "LLM-as-a-judge" for steps, as in
    The Lessons of Developing Process Reward Models in Mathematical Reasoning (2025) and ProcessBench (2024).
    """

    semantics: Meaning = "prefix"

    method: ClassVar[str] = "judge"

    def __post_init__(self) -> None:
        check_choice("JudgeLabels", "semantics", self.semantics, ("prefix", "local"))
        check_scale(self.judge)

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        scores = await hear(self.judge, trajectory)
        sheet.rationales = list(scores.rationales)
        sheet.write(findings(scores), self.semantics)


def check_scale(judge: RewardModel) -> None:
    """Labels are chances: refuse a judge whose scores are not. Raises: InputError."""
    if judge.scale != "probability":
        raise InputError(f"{judge.fingerprint} scores on the scale {judge.scale!r}; labels need probabilities (calibrate it, or take another judge)")


def findings(scores: StepScores) -> list[Finding]:
    """What scores say of every step."""
    votes = scores.aspects.get("votes")
    found = []
    for step, (value, reason) in enumerate(zip(scores.values.tolist(), scores.reasons, strict=True)):
        if math.isnan(value):
            found.append(Finding(math.nan, None, reason))
            continue
        good = bool(value >= scores.threshold)
        n = None if votes is None or math.isnan(votes[step]) else int(votes[step])
        evidence = {"judge": scores.source.get("model", "judge"), "score": value, "votes": n}
        found.append(Finding(value, good, confidence=confidence(value, good, n), evidence=evidence))
    return found


def confidence(value: float, good: bool, votes: int | None) -> float:
    """How sure a score in [0, 1] is of its label; NaN where it does not say."""
    share = value if good else 1.0 - value
    if votes is not None and votes > 1:
        return (share * votes + 1.0) / (votes + 2.0)
    return share if 0.0 < value < 1.0 else math.nan
