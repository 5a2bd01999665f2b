"""Sheet: step labels while a method fills them in, one step at a time; what is not filled in stays unlabelled, with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepward.core import ABSTAINED, Count, Outcome, Semantics, StepLabels, Usage, first_bad

AFTER_ERROR = f"{ABSTAINED}: after the first error"


class Sheet:
    """Labels of `n_steps` steps to be filled in. A step is labelled by `good_or_bad`, `graded` or `value`, or missed for a reason."""

    def __init__(self, n_steps: int) -> None:
        self.values = np.full(n_steps, math.nan)
        self.hard: list[bool | None] = [None] * n_steps
        self.reasons: list[str | None] = ["not labelled"] * n_steps
        self.counts: list[Count | None] = [None] * n_steps
        self.confidence = np.full(n_steps, math.nan)
        self.bounds: list[tuple[float, float] | None] = [None] * n_steps
        self.evidence: list[tuple[Mapping[str, Any], ...]] = [()] * n_steps

    def __len__(self) -> int:
        return len(self.values)

    def value(
        self, step: int, value: float, hard: bool | None, *, count: Count | None = None, bounds: tuple[float, float] | None = None, **evidence: Any
    ) -> None:
        """A soft label in [0, 1] with its hard one."""
        self.values[step], self.hard[step], self.reasons[step] = value, hard, None
        self.counts[step], self.bounds[step] = count if count is not None else self.counts[step], bounds
        self.note(step, **evidence)

    def good_or_bad(self, step: int, good: bool, *, count: Count | None = None, **evidence: Any) -> None:
        """A label without shades: 1 or 0."""
        self.value(step, float(good), good, count=count, **evidence)

    def graded(self, step: int, outcome: Outcome) -> None:
        """The last step of a trajectory that has ended: its outcome, certain as far as the grader is; missed when that is not known."""
        if outcome.value is None:
            self.miss(step, outcome.reason or "the outcome is not known")
        else:
            self.value(step, outcome.value, outcome.correct, bounds=(outcome.value, outcome.value))
            self.confidence[step] = 1.0

    def miss(self, step: int, reason: str, *, count: Count | None = None) -> None:
        """No label, for this reason."""
        self.values[step], self.hard[step], self.reasons[step], self.bounds[step] = math.nan, None, reason, None
        self.counts[step] = count if count is not None else self.counts[step]

    def miss_all(self, reason: str) -> None:
        for step in range(len(self)):
            self.miss(step, reason)

    def note(self, step: int, **evidence: Any) -> None:
        """Add what a label rests on."""
        if evidence:
            self.evidence[step] = (*self.evidence[step], {name: _json(item) for name, item in evidence.items()})

    def labels(self, semantics: Semantics, source: Mapping[str, Any], usage: Usage) -> StepLabels:
        """The labels; the first error is the first bad step, unknown where an unlabelled one comes before it."""
        return StepLabels(
            self.values,
            semantics,
            tuple(self.hard),
            first_bad(self.hard),
            tuple(self.reasons),
            counts=tuple(self.counts),
            confidence=self.confidence,
            bounds=tuple(self.bounds),
            evidence=tuple(self.evidence),
            source=source,
            usage=usage,
        )


def _json(item: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(item, float | np.floating):
        return float(item) if math.isfinite(item) else None
    return item
