"""Limits of one call in a worker, and what a reply looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepward.core.errors import InputError

Reply = dict[str, Any]
FAILED = "failed"  # the key of a reply that stands for no answer; its value is the reason


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one call may cost: seconds of processor time, MiB of address space. A process retires after `recycle_after` calls.

    `time_limit_s` is processor time, so that the load of the machine decides nothing; on the clock a call may take `wire.patience_s(time_limit_s)`, plus
    starting a worker (once, at most `startup_limit_s`) and waiting for a free one.
    """

    time_limit_s: float = 3.0
    memory_limit_mb: int = 1024
    recycle_after: int = 1000
    startup_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if not 0.0 < self.time_limit_s < float("inf"):
            raise InputError(f"time_limit_s must be a positive number of seconds, got {self.time_limit_s!r}")
        if self.memory_limit_mb < 256:
            raise InputError(f"memory_limit_mb must be at least 256 (sympy alone needs about 200), got {self.memory_limit_mb!r}")
        if self.recycle_after < 1 or self.startup_limit_s <= 0:
            raise InputError(f"recycle_after and startup_limit_s must be positive, got {self.recycle_after!r}, {self.startup_limit_s!r}")
