"""Judgement: what the oracle finds in every step of a solution, and the step labels that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from stepward.core.labels import NO_ERROR, StepLabels
from stepward.environments.grade_school.expressions import Number


class ErrorType(StrEnum):
    """How a step goes wrong; `REDUNDANT` steps are correct and only said to be so. The exact rules are in `oracle`."""

    ARITHMETIC_SLIP = "arithmetic_slip"
    WRONG_OPERAND = "wrong_operand"
    WRONG_OPERATION = "wrong_operation"
    SKIPPED_DEPENDENCY = "skipped_dependency"
    INVENTED_FACT = "invented_fact"
    PREMATURE_ANSWER = "premature_answer"
    CIRCULAR = "circular"
    UNREADABLE = "unreadable"
    REDUNDANT = "redundant"


@dataclass(frozen=True)
class StepJudgement:
    """`error`: what is wrong with the step itself, given what was stated before; REDUNDANT is not wrong.

    `follows`: no such error (the local view). `true`: the values that it states are the world's. `correct`: both. `quantity` and `value`:
    what it claims, as far as it could be read ("answer" for the final answer). `repairs`: it restores a quantity that was stated wrongly.
    `note`: the finding in words.
    """

    error: ErrorType | None
    true: bool
    quantity: str | None = None
    value: Number | None = None
    repairs: bool = False
    note: str = ""

    @property
    def follows(self) -> bool:
        return self.error is None or self.error is ErrorType.REDUNDANT

    @property
    def correct(self) -> bool:
        return self.follows and self.true


@dataclass(frozen=True)
class Judgement:
    """`steps`: one finding a step. `first_error`: index of the first step that does not follow, -1 for none.

    `answer`: the last final answer that was stated, None for none. `final_correct`: whether it is right; None without one.
    """

    steps: tuple[StepJudgement, ...]
    first_error: int
    answer: Number | None
    final_correct: bool | None

    def labels(self, semantics: Literal["local", "prefix"], *, source: Mapping[str, Any] | None = None) -> StepLabels:
        """Exact labels. local: the step follows from the problem and what was stated before. prefix: every step up to this one does."""
        if semantics == "local":
            hard = [step.follows for step in self.steps]
        else:
            hard = [self.first_error == NO_ERROR or index < self.first_error for index in range(len(self.steps))]
        return StepLabels.from_hard(
            hard,
            semantics=semantics,
            first_error=self.first_error,
            error_types=tuple(None if step.follows else str(step.error) for step in self.steps),
            rationales=tuple(step.note or None for step in self.steps),
            source=source or {"method": "oracle", "environment": "grade-school"},
        )
