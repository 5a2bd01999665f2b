"""Retry: when and how often a failed request is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from stepward.core.errors import InputError, RequestFailed, RequestRetryable
from stepward.engine.noise import uniforms

Result = TypeVar("Result")


class RetriesExhausted(RequestFailed):
    """Every attempt failed; `history` has one reason an attempt, first to last."""

    def __init__(self, message: str, *, history: tuple[str, ...] = ()) -> None:
        self.history = history
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Exponential backoff: before attempt k + 1 (k = 1, 2, ...) wait min(max_s, first_s * factor^(k - 1)) * (1 + jitter * (2u - 1)) seconds.

    u in (0, 1) is a pure function of (seed, request key, k), so requests that failed together come back apart, and a rerun waits the same.
    A server's `retry_after_s` is honoured as a lower bound; one above `patience_s` ends the retries.
    """

    attempts: int = 5
    first_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.25
    patience_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError(f"Retry.attempts must be at least 1, got {self.attempts!r}")
        if self.first_s < 0.0 or self.max_s < 0.0 or self.factor < 1.0:
            raise InputError(f"Retry needs first_s >= 0, max_s >= 0 and factor >= 1, got {self.first_s!r}, {self.max_s!r}, {self.factor!r}")
        if not 0.0 <= self.jitter <= 1.0:
            raise InputError(f"Retry.jitter must lie in [0, 1], got {self.jitter!r}")

    def wait_s(self, attempt: int, *, key: str = "", retry_after_s: float | None = None) -> float:
        """Seconds to wait after the failure of `attempt` (1-based)."""
        backoff = min(self.max_s, self.first_s * self.factor ** min(attempt - 1, 64))
        spread = 1.0 + self.jitter * (2.0 * float(uniforms(self.seed, key, 0, attempt)[0]) - 1.0)
        return max(backoff * spread, retry_after_s or 0.0)


async def retrying(
    fn: Callable[[], Awaitable[Result]], retry: Retry | None = None, *, key: str = "", sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> Result:
    """`await fn()`, again after `RequestRetryable` as `retry` says (None: the defaults); every other exception propagates at once.

    `key` names the request in the jitter. `sleep` is what waits.

    Raises: RetriesExhausted (a RequestFailed) with the history of the attempts.
    """
    plan = Retry() if retry is None else retry
    history: list[str] = []
    for attempt in range(1, plan.attempts + 1):
        try:
            return await fn()
        except RequestRetryable as error:
            history.append(str(error))
            last = error
        if last.retry_after_s is not None and last.retry_after_s > plan.patience_s:
            history[-1] += f" (asked to wait {last.retry_after_s:g} s, more than patience_s = {plan.patience_s:g})"
            break
        if attempt < plan.attempts:
            await sleep(plan.wait_s(attempt, key=key, retry_after_s=last.retry_after_s))
    listed = "; ".join(f"attempt {number}: {reason}" for number, reason in enumerate(history, 1))
    raise RetriesExhausted(f"gave up after {len(history)} of {plan.attempts} attempts: {listed}", history=tuple(history)) from last
