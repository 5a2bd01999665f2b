"""StepJudgement: what the oracle finds in one step. What it makes of a whole solution is in `environments.judgement`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
