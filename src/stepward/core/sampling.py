"""Sampling: how a policy draws; Until: how far it goes in one request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from stepward.core.errors import FormatError, InputError


class Until(StrEnum):
    """STEP: write one step. END: write until the solution has ended, splitting it into steps."""

    STEP = "step"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature 0 is greedy. `top_k` 0 and `top_p` 1 are off. Limits: `max_step_tokens` a step, `max_tokens` and `max_steps` a trajectory.

    The noise of draw d from a prefix depends on (seed, prefix key, d, position) and on nothing else.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_step_tokens: int = 512
    max_tokens: int = 2048
    max_steps: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0.0 and math.isfinite(self.temperature)):
            raise InputError(f"Sampling.temperature must be finite and >= 0, got {self.temperature!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise InputError(f"Sampling.top_p must lie in (0, 1], got {self.top_p!r}; 1 switches it off")
        if self.top_k < 0:
            raise InputError(f"Sampling.top_k must be >= 0, got {self.top_k!r}; 0 switches it off")
        for name in ("max_step_tokens", "max_tokens", "max_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"Sampling.{name} must be at least 1, got {getattr(self, name)!r}")

    def to_record(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Sampling:
        unknown = set(record) - {field.name for field in fields(cls)}
        if unknown:
            raise FormatError(f"unknown sampling fields {sorted(unknown)}", field="sampling")
        return cls(**record)
