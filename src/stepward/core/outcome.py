"""Outcome: how a finished trajectory ended, as its environment graded it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepward.core.errors import InputError
from stepward.core.record import check_header, header, record_kind, require


@record_kind("outcome")
@dataclass(frozen=True)
class Outcome:
    """`value` in [0, 1], or None with the `reason` why it is unscored. `answer` is the canonical answer that was graded (None: none found)."""

    value: float | None
    answer: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.value is None:
            if not self.reason:
                raise InputError("an unscored Outcome needs a reason")
        elif math.isnan(self.value) or not 0.0 <= self.value <= 1.0:
            raise InputError(f"Outcome.value must lie in [0, 1], got {self.value!r}; use Outcome.unscored(reason) for an unknown one")
        else:
            object.__setattr__(self, "value", float(self.value))

    @classmethod
    def unscored(cls, reason: str, *, answer: str | None = None) -> Outcome:
        """An outcome that is not known. It is not a zero."""
        return cls(value=None, answer=answer, reason=reason)

    @property
    def scored(self) -> bool:
        return self.value is not None

    @property
    def correct(self) -> bool | None:
        """True for value 1, False for less, None when unscored."""
        return None if self.value is None else self.value >= 1.0

    def to_record(self) -> dict[str, Any]:
        return header("outcome") | {"value": self.value, "answer": self.answer, "reason": self.reason}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome:
        check_header(record, "outcome")
        return cls(
            value=require(record, "value", (float, int, type(None))),
            answer=require(record, "answer", (str, type(None))),
            reason=require(record, "reason", (str, type(None))),
        )
