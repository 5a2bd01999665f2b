"""Usage: what a result cost. Ledger: where costs are summed, by whoever opened it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from stepward.core.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Compute behind a result. Token counts are of non-padding tokens; `flops` is 2 x parameters x tokens processed, plus attention.

    `wall_s` is seconds of wall clock. It is the one field that differs between reruns, so records of single results leave it at 0.
    """

    policy_tokens: int = 0  # written by the policy
    policy_prefill: int = 0  # prompt and prefix tokens that the policy processed
    policy_cached: int = 0  # prompt and prefix tokens that a cache spared it
    reward_tokens: int = 0  # processed by reward models
    reward_cached: int = 0  # spared by a cache
    reward_written: int = 0  # written by generative reward models
    calls: int = 0
    flops: int = 0
    wall_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        theirs = vars(other)
        return Usage(**{name: mine + theirs[name] for name, mine in vars(self).items()})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in _FIELDS)

    def as_reward(self) -> Usage:
        """The same cost with a policy's tokens counted as a reward model's: written, prefill and cached each under its `reward_` name."""
        return replace(
            self,
            policy_tokens=0,
            policy_prefill=0,
            policy_cached=0,
            reward_written=self.reward_written + self.policy_tokens,
            reward_tokens=self.reward_tokens + self.policy_prefill,
            reward_cached=self.reward_cached + self.policy_cached,
        )

    @staticmethod
    def total(usages: Iterable[Usage]) -> Usage:
        """The sum."""
        return sum(usages, Usage())

    def to_record(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Usage:
        unknown = set(record) - set(_FIELDS)
        if unknown:
            raise FormatError(f"unknown usage fields {sorted(unknown)}", field="usage")
        return cls(**record)


_FIELDS = tuple(field.name for field in fields(Usage))
NO_USAGE = Usage()


class Ledger:
    """Sums the usage of everything awaited inside `with metered() as ledger`; ledgers nest, and an inner cost counts in the outer too.

    `usage` is what the results cost when each is computed alone, the same on every rerun; `paid` is what this run really spent: nothing for a result
    replayed from the journal, and without the tokens that a cache or another request of the batch spared, which it counts as cached.
    """

    def __init__(self, parent: Ledger | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._usage = Usage()
        self._paid = Usage()

    @property
    def usage(self) -> Usage:
        return self._usage

    @property
    def paid(self) -> Usage:
        return self._paid

    def charge(self, usage: Usage, *, replayed: bool = False, paid: Usage | None = None) -> None:
        """Add a cost here and in every ledger around this one; `paid` where it differs from `usage`."""
        spent = NO_USAGE if replayed else usage if paid is None else paid
        ledger: Ledger | None = self
        while ledger is not None:
            with ledger._lock:
                ledger._usage = ledger._usage + usage
                ledger._paid = ledger._paid + spent
            ledger = ledger._parent


_current: ContextVar[Ledger | None] = ContextVar("stepward_ledger", default=None)


@contextmanager
def metered() -> Iterator[Ledger]:
    """Meter what the body awaits; tasks that it starts inherit the ledger."""
    ledger = Ledger(_current.get())
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)


@contextmanager
def metered_as_reward() -> Iterator[Ledger]:
    """Meter the body by itself and charge it outside as a reward model's cost (`Usage.as_reward`), also when it raises.

    For reward models that ask a policy: the policy charges its tokens as a policy's, whoever asks. The ledger holds them as charged.
    """
    ledger = Ledger()
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)
        charge(ledger.usage.as_reward(), paid=ledger.paid.as_reward())


def charge(usage: Usage, *, replayed: bool = False, paid: Usage | None = None) -> None:
    """Charge the innermost open ledger; without one, nothing happens. Policies and reward models call this once a request."""
    ledger = _current.get()
    if ledger is not None:
        ledger.charge(usage, replayed=replayed, paid=paid)
