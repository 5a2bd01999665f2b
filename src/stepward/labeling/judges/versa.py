"""Versa: the first bad step, by a judge who knows the answer, in any domain. The prompt is in `tasks`; counterfactual errors are in `perturb`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Semantics, Trajectory
from stepward.labeling.judges.asking import hear, with_task
from stepward.labeling.judges.labels import check_scale, findings
from stepward.labeling.judges.sheet import JudgeLabeler, JudgeSheet
from stepward.labeling.judges.tasks import FirstBad


@dataclass(frozen=True, kw_only=True)
class Versa(JudgeLabeler):
    """One answer a solution names the first BAD step (wrong, not verifiable, off the topic, or derailing), -1 for none: steps before it are good, it and all
    behind it bad. VersaPRM: Multi-Domain Process Reward Model via Synthetic Reasoning Data (2025).

    The judge sees the reference answer. GOOD and OK count as right. Only the last box of the answer counts; one that holds no number, or none of a step, is
    no label: it is asked for once more, then every step is unlabelled. `judge` gives the policy and its sampling (the authors' is greedy); its own prompt
    is not used. Semantics: *prefix*.
    """

    method: ClassVar[str] = "versa"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        check_scale(self.judge)
        with_task(self.judge, FirstBad())

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        scores = await hear(with_task(self.judge, FirstBad(after_error="incorrect")), trajectory)
        sheet.rationales = list(scores.rationales)
        sheet.write(findings(scores), "prefix")
