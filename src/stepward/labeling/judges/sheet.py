"""JudgeSheet: labels as a judge's verdicts fill them in, with its words; and what all labelers that ask judges share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from stepward.core import RewardModel, Semantics, StepLabels, Trajectory, Usage, canonical_json, content_hash, metered
from stepward.labeling.sheet import Sheet

Meaning = Literal["prefix", "local"]


@dataclass(frozen=True)
class Finding:
    """What judges make of one step: `value` in [0, 1] with `good`, both unknown (NaN, None) with a `reason`; how sure; what it rests on."""

    value: float
    good: bool | None
    reason: str | None = None
    confidence: float = math.nan
    evidence: Mapping[str, Any] | None = None


class JudgeSheet(Sheet):
    """A sheet that also keeps the judge's words and the types of errors."""

    def __init__(self, n_steps: int) -> None:
        super().__init__(n_steps)
        self.rationales: list[str | None] = [None] * n_steps
        self.error_types: list[str | None] = [None] * n_steps

    def write(self, findings: Sequence[Finding], meaning: Meaning) -> None:
        """Labels from a finding a step.

        *local*: each finding by itself. *prefix* (no error so far): bad from the first bad step on; good while every step so far is; unlabelled from a step
        without a finding to the first bad one. The value is then the smallest so far; the confidence that all steps so far are good is the product of
        theirs (as if independent), the confidence in an error so far that of the first bad step.
        """
        for step, finding in enumerate(findings if meaning == "local" else so_far(findings)):
            if finding.good is None and math.isnan(finding.value):
                self.miss(step, finding.reason or "the judge gave no verdict")
            else:
                self.value(step, finding.value, finding.good)
                self.confidence[step] = finding.confidence
            if evidence := findings[step].evidence:
                self.note(step, **evidence)

    def labels(self, semantics: Semantics, source: Mapping[str, Any], usage: Usage) -> StepLabels:
        made = super().labels(semantics, source, usage)
        return replace(made, rationales=tuple(self.rationales), error_types=tuple(self.error_types))


def so_far(findings: Sequence[Finding]) -> list[Finding]:
    """Findings "no error so far" from findings on single steps."""
    found: list[Finding] = []
    missing: Finding | None = None
    bad: Finding | None = None
    value, sure = 1.0, 1.0
    for finding in findings:
        if not math.isnan(finding.value):
            value = min(value, finding.value)
        if bad is None and finding.good is False:
            bad = finding
        elif finding.good is None:
            missing = missing or finding
        sure *= finding.confidence
        if bad is not None:
            found.append(replace(bad, value=value))
        elif missing is not None:
            found.append(replace(missing, value=math.nan))
        else:
            found.append(replace(finding, value=value, confidence=sure))
    return found


@dataclass(frozen=True, kw_only=True)
class JudgeLabeler(ABC):
    """A labeler that asks `judge`, a reward model. Subclasses fill in a sheet. The fingerprint names the method and all its parameters."""

    judge: RewardModel

    method: ClassVar[str]

    @abstractmethod
    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        """Label every step of a trajectory with at least one; what is left blank stays unlabelled."""

    @property
    def settings(self) -> dict[str, Any]:
        """All parameters, as JSON; models and environments by their fingerprints."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    @property
    def meaning(self) -> Semantics:
        """The semantics of the labels."""
        return getattr(self, "semantics", "prefix")

    @property
    def fingerprint(self) -> str:
        return f"{self.method}/{content_hash(canonical_json(self.settings))}"

    def describe(self) -> dict[str, Any]:
        return {"method": self.method, **self.settings}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        sheet = JudgeSheet(len(trajectory))
        with metered() as ledger:
            if len(trajectory):
                await self.fill(sheet, trajectory)
        return sheet.labels(self.meaning, self.describe(), ledger.usage)


def plain(value: Any) -> Any:
    """A parameter as JSON."""
    fingerprint = getattr(value, "fingerprint", None)
    if fingerprint is not None:
        return fingerprint
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
