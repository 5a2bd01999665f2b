"""Rates: how often the scripted solvers err, by type of error."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from stepward.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """Chance per step, while everything stated so far is right, of each type of error.

    `redundant` is decided first and is not an error: the chance of repeating an earlier step, never twice in a row; the other rates apply to the
    steps that are left. Their sum is at most 1.
    """

    arithmetic_slip: float = 0.06
    wrong_operand: float = 0.04
    wrong_operation: float = 0.03
    skipped_dependency: float = 0.02
    invented_fact: float = 0.02
    premature_answer: float = 0.02
    circular: float = 0.01
    redundant: float = 0.03

    def __post_init__(self) -> None:
        _check(self, self.total, "redundant")

    @classmethod
    def scaled(cls, factor: float) -> ErrorRates:
        """The default rates times a factor."""
        return cls(**{name: rate * factor for name, rate in asdict(cls()).items()})

    @property
    def misstating(self) -> float:
        """Chance of stating the next quantity wrongly."""
        return self.arithmetic_slip + self.wrong_operand + self.wrong_operation + self.invented_fact + self.circular

    @property
    def total(self) -> float:
        """Chance of any error."""
        return self.misstating + self.skipped_dependency + self.premature_answer


@dataclass(frozen=True, kw_only=True)
class InferenceRates:
    """Chance per step of the scripted reasoner, while everything concluded so far is right, of each type of error.

    `irrelevant` is decided first and is not an error: the chance of a right derivation that leads nowhere, where the problem has one left; the
    other rates apply to the steps that are left. Their sum is at most 1.
    """

    invalid_inference: float = 0.06
    missing_premise: float = 0.05
    wrong_polarity: float = 0.04
    circular: float = 0.02
    premature_answer: float = 0.03
    irrelevant: float = 0.05

    def __post_init__(self) -> None:
        _check(self, self.total, "irrelevant")

    @classmethod
    def scaled(cls, factor: float) -> InferenceRates:
        """The default rates times a factor."""
        return cls(**{name: rate * factor for name, rate in asdict(cls()).items()})

    @property
    def misleading(self) -> float:
        """Chance of concluding something that leads to the wrong verdict by rules of the problem."""
        return self.invalid_inference + self.missing_premise + self.circular

    @property
    def total(self) -> float:
        """Chance of any error."""
        return self.misleading + self.wrong_polarity + self.premature_answer


def _check(rates: ErrorRates | InferenceRates, total: float, harmless: str) -> None:
    for field in fields(rates):
        rate = getattr(rates, field.name)
        if not (math.isfinite(rate) and 0.0 <= rate <= 1.0):
            raise InputError(f"{type(rates).__name__}.{field.name} must lie in [0, 1], got {rate!r}")
    if total > 1.0 + 1e-12:
        raise InputError(f"the rates of all errors but {harmless} add up to {total:.6g}; lower them to 1 or less")
