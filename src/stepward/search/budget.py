"""Budget: what one search may spend. What is left of it during a search is in purse.py, how a search stops in workbench.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from stepward.core import InputError, Usage


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one search, each None for no limit. They are never exceeded, and a search that is stopped by one answers with its best so far.

    policy_tokens: tokens that policies write. reward_tokens: tokens that reward models read, and those that generative ones write. calls: draws from a
    policy (in an environment that answers, steps) and trajectories scored, one each, however they are batched. flops: 2 x parameters x tokens processed,
    plus attention, of policy and reward model together. All four count what results cost when each is computed alone, so that a rerun from a journal or a
    warm cache stops at the same place. seconds: of wall clock, after which what is still running is abandoned (and what it had cost so far is not counted);
    the one limit by which two runs can differ.

    Limits are kept by asking for prices: a request is made only if the most that it may charge still fits. The last draw that a token or FLOP budget
    allows is cut off where the budget ends (a truncated candidate, which is not an answer), so that a search that wants more spends a budget of policy tokens
    to the last token.

    Raises: InputError for a limit that is not positive.
    """

    policy_tokens: int | None = None
    reward_tokens: int | None = None
    calls: int | None = None
    flops: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if not (limit > 0 and math.isfinite(limit)):
                raise InputError(f"Budget.{name} must be positive and finite, got {limit!r}; None is no limit")

    @property
    def limits(self) -> dict[str, float]:
        """Those that are set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    @property
    def counted(self) -> dict[str, float]:
        """Those that are kept by asking for prices: all but seconds."""
        return {name: limit for name, limit in self.limits.items() if name != "seconds"}

    def exceeded(self, spent: Mapping[str, float]) -> str | None:
        """The first limit that `spent` (see `costs`) breaks."""
        return next((name for name, limit in self.counted.items() if spent[name] > limit), None)

    def to_record(self) -> dict[str, Any]:
        return dict(self.limits)


NO_BUDGET = Budget()


def costs(usage: Usage, calls: int) -> dict[str, int]:
    """A usage in the units of a budget."""
    return {
        "policy_tokens": usage.policy_tokens,
        "reward_tokens": usage.reward_tokens + usage.reward_written,
        "calls": calls,
        "flops": usage.flops,
    }
