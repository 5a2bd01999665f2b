"""StepJudgement: what the oracle finds in one step. What it makes of a whole solution is in `environments.judgement`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
