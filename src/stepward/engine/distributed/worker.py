"""A worker of a distributed run: one process with its own event loop, its own connections, and groups of items to work on."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from stepward.core import Usage, metered
from stepward.engine.concurrency import Failure, run_all
from stepward.engine.distributed.journal import RemoteJournal


class Job(Protocol):
    """What a worker needs to begin, small and picklable: specifications, not models. `open` builds policies and the like in the worker's process."""

    def open(self, journal: RemoteJournal | None) -> Callable[[Any], Awaitable[Any]]: ...


class Worker:
    """A Ray actor. `run` may be called many times at once; all calls share the event loop, so their requests join batches."""

    def __init__(self, job: Job, owner: Any | None) -> None:
        self._journal = None if owner is None else RemoteJournal(owner, run=f"worker {os.getpid()}")
        self._work = job.open(self._journal)

    async def pid(self) -> int:
        return os.getpid()

    async def run(self, items: Sequence[Any]) -> tuple[list[Any | Failure], Usage, Usage]:
        """The result or failure of every item, what they cost, and what was paid for them here."""
        with metered() as ledger:
            results = await run_all(items, self._work, limit=max(1, len(items)))
        return results, ledger.usage, ledger.paid
