"""Spare: step labels from one comparison of a solution with a reference solution. The prompt is in `tasks`."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from stepward.core import NO_ERROR, Environment, Example, Outcome, Problem, Semantics, StepLabels, Trajectory
from stepward.environments.episode import grade
from stepward.labeling.judges.asking import hear, with_task
from stepward.labeling.judges.labels import check_scale, findings
from stepward.labeling.judges.sheet import JudgeLabeler, JudgeSheet, Meaning
from stepward.labeling.judges.tasks import AlignedSteps, aligned
from stepward.rewards.generative.task import check_choice

BY_REFERENCE = "the step is part of the reference solution, word for word"


@dataclass(frozen=True, kw_only=True)
class Spare(JudgeLabeler):
    """One answer of the judge a solution: for every step the reference steps that it corresponds to, why, and whether it is right. SPARE: Single-Pass
    Annotation with Reference-Guided Evaluation for Automatic Process Supervision (2025).

    The last step of a trajectory that has ended takes its graded outcome, where that is known. An answer without a verdict on some step is asked for once more;
    what is then missing is unlabelled, or bad (`missing`="bad", the authors' strict way). The reference solution itself is all right and costs nothing.
    `evidence` names the reference steps (0-based). In which order the answer treats the steps does not matter, for it names them by number.

    Needs `problem.reference_steps`; without them every step is unlabelled. `judge` gives the policy and how it is sampled and read; its own prompt is not
    used. Semantics: *local* (each step by itself, the paper's) or *prefix*. Differences from the paper: the answer has a line a step instead of JSON, so
    that LaTeX needs no repair; a missing step is asked for again. Where a solution takes another valid way than the reference, labels are doubtful.
    """

    environment: Environment
    missing: Literal["unlabelled", "bad"] = "unlabelled"
    semantics: Meaning = "local"

    method: ClassVar[str] = "spare"

    def __post_init__(self) -> None:
        check_choice("Spare", "semantics", self.semantics, ("prefix", "local"))
        check_choice("Spare", "missing", self.missing, ("unlabelled", "bad"))
        check_scale(self.judge)
        with_task(self.judge, AlignedSteps())

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        reference = trajectory.problem.reference_steps
        if not reference:
            sheet.miss_all("the problem has no reference solution to compare with")
            return
        if tuple(step.text for step in trajectory.steps) == reference:
            for step in range(len(sheet)):
                sheet.good_or_bad(step, True, because=BY_REFERENCE, reference_steps=[step])
            return
        scores, outcome = await asyncio.gather(hear(with_task(self.judge, AlignedSteps()), trajectory), self._outcome(trajectory))
        sheet.rationales = list(scores.rationales)
        found = findings(scores)
        if self.missing == "bad":
            found = [replace(item, value=0.0, good=False, reason=None) if item.good is None else item for item in found]
        for step, words in enumerate(scores.rationales):
            at = aligned(words, len(reference))
            sheet.note(step, reference_steps=None if at is None else list(at))
        if outcome is not None and outcome.value is not None:
            found[-1] = replace(found[-1], value=outcome.value, good=outcome.correct, reason=None, confidence=math.nan)  # an outcome is no proof about one step
        sheet.write(found, self.semantics)

    async def _outcome(self, trajectory: Trajectory) -> Outcome | None:
        if not trajectory.ended:
            return None
        return trajectory.outcome if trajectory.outcome is not None else await grade(self.environment, trajectory)


def reference_example(problem: Problem, semantics: Semantics = "local") -> Example | None:
    """The reference solution as a labelled example, all right (SPARE adds them to its data); None where the problem has none."""
    steps = problem.reference_steps
    if not steps:
        return None
    labels = StepLabels.from_hard([True] * len(steps), semantics=semantics, first_error=NO_ERROR, source={"method": "reference"})
    return Example(Trajectory.from_texts(problem, steps, outcome=Outcome(1.0, problem.answer)), labels, source="reference")
