"""Judgement: what the oracle finds in every step of a solution, and the step labels that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from stepward.core.labels import NO_ERROR, StepLabels
from stepward.environments.deduction.statement import Statement


class ErrorType(StrEnum):
    """How a step goes wrong; `IRRELEVANT` and `REDUNDANT` steps are correct and only said to be so. The exact rules are in `oracle`."""

    INVALID_INFERENCE = "invalid_inference"
    MISSING_PREMISE = "missing_premise"
    WRONG_POLARITY = "wrong_polarity"
    CIRCULAR = "circular"
    PREMATURE_ANSWER = "premature_answer"
    UNREADABLE = "unreadable"
    IRRELEVANT = "irrelevant"
    REDUNDANT = "redundant"


HARMLESS = frozenset({ErrorType.IRRELEVANT, ErrorType.REDUNDANT})


@dataclass(frozen=True)
class StepJudgement:
    """`error`: what is wrong with the step itself, given what was stated before; IRRELEVANT and REDUNDANT are not wrong.

    `follows`: no such error (the local view). `true`: what it states holds in every world that the problem allows. `correct`: both.
    `statement`: what it concludes or retracts, None for a verdict or an unreadable step. `verdict`: true or false, if it gives the verdict.
    `repairs`: it takes back, or states the opposite of, something that was stated and is not true. `note`: the finding in words.
    """

    error: ErrorType | None
    true: bool
    statement: Statement | None = None
    verdict: bool | None = None
    repairs: bool = False
    note: str = ""

    @property
    def follows(self) -> bool:
        return self.error is None or self.error in HARMLESS

    @property
    def correct(self) -> bool:
        return self.follows and self.true


@dataclass(frozen=True)
class Judgement:
    """`steps`: one finding a step. `first_error`: index of the first step that does not follow, -1 for none.

    `answer`: the last verdict, None for none. `final_correct`: whether it is right; None without one.
    """

    steps: tuple[StepJudgement, ...]
    first_error: int
    answer: bool | None
    final_correct: bool | None

    def labels(self, semantics: Literal["local", "prefix"], *, source: Mapping[str, Any] | None = None) -> StepLabels:
        """Exact labels. local: the step follows from what it cites, which was stated before. prefix: every step up to this one does."""
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
            source=source or {"method": "oracle", "environment": "deduction"},
        )
