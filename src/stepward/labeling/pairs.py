"""StepPair: two continuations of one prefix, the better one named. What preference methods train on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepward.core import FrozenDict, InputError, Step, Trajectory
from stepward.core.record import check_header, freeze, header, record_kind, require, thaw


@record_kind("step_pair")
@dataclass(frozen=True)
class StepPair:
    """`chosen` is better than `rejected` after `prefix`: one step each, or all steps to the end.

    `margin` in [0, 1]: by how much, in the value that decided. `source`: the method, and what it saw (values, counts).
    """

    prefix: Trajectory
    chosen: tuple[Step, ...]
    rejected: tuple[Step, ...]
    margin: float
    source: Mapping[str, Any] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chosen", tuple(self.chosen))
        object.__setattr__(self, "rejected", tuple(self.rejected))
        object.__setattr__(self, "source", freeze(self.source))
        if self.prefix.ended:
            raise InputError("StepPair.prefix has ended, so nothing can follow it; use prefix(k)")
        if not self.chosen or not self.rejected:
            raise InputError("StepPair needs at least one chosen and one rejected step")
        if math.isnan(self.margin) or not 0.0 <= self.margin <= 1.0:
            raise InputError(f"StepPair.margin must lie in [0, 1], got {self.margin!r}")

    __hash__ = None  # type: ignore[assignment]

    def swapped(self) -> StepPair:
        """The same pair with the opposite preference, for controls."""
        return StepPair(self.prefix, self.rejected, self.chosen, self.margin, self.source)

    def to_record(self) -> dict[str, Any]:
        return header("step_pair") | {
            "prefix": self.prefix.to_record(),
            "chosen": [step.to_record() for step in self.chosen],
            "rejected": [step.to_record() for step in self.rejected],
            "margin": self.margin,
            "source": thaw(self.source),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StepPair:
        check_header(record, "step_pair")
        return cls(
            prefix=Trajectory.from_record(require(record, "prefix", Mapping)),
            chosen=tuple(Step.from_record(step) for step in require(record, "chosen", (list, tuple))),
            rejected=tuple(Step.from_record(step) for step in require(record, "rejected", (list, tuple))),
            margin=float(require(record, "margin", (float, int))),
            source=require(record, "source", Mapping),
        )
