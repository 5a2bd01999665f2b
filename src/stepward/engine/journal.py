"""Journal: every paid-for result, durable under the key of what was asked before it is used.

The file below it is `journal_file`; who asks for what is `journaled`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from stepward.core.errors import InputError
from stepward.engine.batching import Batcher
from stepward.engine.entry import Entry, Row
from stepward.engine.journal_file import Durability, JournalError, JournalFile

__all__ = ["Durability", "Journal", "JournalError", "JournalReport", "JournalStats"]

_GROUP = 16_384  # entries and keys that share a transaction at most


@dataclass(frozen=True, kw_only=True)
class JournalStats:
    """`n_records` by kind, `n_quarantined` set aside ever, `n_bytes` of the file.

    Since opening: keys asked for and found, entries written, problems reported.
    """

    n_records: dict[str, int] = field(default_factory=dict)
    n_quarantined: int = 0
    n_bytes: int = 0
    n_asked: int = 0
    n_found: int = 0
    n_written: int = 0
    reports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JournalReport:
    """What `Journal.verify` found: good records, records set aside by it, and everything reported since opening."""

    n_good: int
    n_set_aside: int
    reports: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.n_set_aside == 0 and not self.reports


@dataclass(frozen=True)
class _Get:
    keys: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class _Put:
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        return len(self.entries)


class Journal:
    """A file of results. `run` names the run in the records that it pays for.

    Awaited reads and writes of many tasks share one transaction (group commit). A put returns when its transaction has been committed: from then on
    the entry survives kill -9 of the process, and with `Durability.POWER` a power failure too. Two processes may use one journal at once: the first
    writer of a key wins, and both get the winner's entry. Not for network file systems; not to be carried across a fork.

    Raises: JournalError for a file that is no journal, comes from a newer schema or cannot be written; a damaged one is repaired (see `JournalFile`).
    """

    def __init__(self, path: str | os.PathLike[str], *, run: str = "", durability: Durability = Durability.PROCESS, busy_timeout_s: float = 60.0) -> None:
        self.run = run
        self._file = JournalFile(path, durability=durability, busy_timeout_s=busy_timeout_s)
        self._batcher: Batcher[_Get | _Put, Any] = Batcher(self._serve, max_batch=_GROUP, weight=lambda request: request.size, max_weight=_GROUP)
        self._pending: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[Entry | Exception | None]]] = WeakKeyDictionary()
        self._n_asked = self._n_found = self._n_written = 0

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The stored entries among `keys`."""
        found: dict[str, Entry] = await self._batcher(_Get(tuple(keys)))
        return found

    async def get(self, key: str) -> Entry | None:
        """The entry stored under `key`."""
        return (await self.get_many((key,))).get(key)

    async def put_many(self, entries: Iterable[Entry]) -> list[Entry]:
        """Store all in one transaction; for each, the entry now stored under its key (another one where another writer was first).

        Raises: InputError for a payload that is not JSON-like; then none is stored.
        """
        stored: list[Entry] = await self._batcher(_Put(tuple(entries)))
        return stored

    async def put(self, entry: Entry) -> Entry:
        """Store one; see `put_many`."""
        return (await self.put_many((entry,)))[0]

    def pending(self) -> dict[str, asyncio.Future[Entry | Exception | None]]:
        """Results that are being computed on the running event loop, by key; see `recall`."""
        return self._pending.setdefault(asyncio.get_running_loop(), {})

    def stats(self) -> JournalStats:
        """Counts, for a run's summary."""
        kinds, n_quarantined = self._file.counts()
        return JournalStats(
            n_records=kinds,
            n_quarantined=n_quarantined,
            n_bytes=self._file.path.stat().st_size,
            n_asked=self._n_asked,
            n_found=self._n_found,
            n_written=self._n_written,
            reports=tuple(self._file.reports),
        )

    def verify(self) -> JournalReport:
        """Read every record and check it, and check the file's structure; a damaged file is repaired."""
        before = self._file.counts()[1]
        n_good = self._file.verify()
        return JournalReport(n_good=n_good, n_set_aside=self._file.counts()[1] - before, reports=tuple(self._file.reports))

    def quarantined(self) -> list[tuple[str, str, str]]:
        """(key, kind, reason) of every record set aside."""
        return self._file.quarantined()

    def close(self) -> None:
        """Wait for the running transaction and close the file."""
        self._batcher.close()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _serve(self, requests: Sequence[_Get | _Put]) -> list[Any]:
        """One group: all reads, then all writes in one transaction."""
        keys = [key for request in requests if isinstance(request, _Get) for key in request.keys]
        found = self._file.read(keys) if keys else {}
        rows: list[tuple[Entry, Row]] = []
        refused: dict[int, InputError] = {}
        for index, request in enumerate(requests):
            if isinstance(request, _Put):
                try:
                    rows.extend([(entry, entry.to_row()) for entry in request.entries])
                except InputError as error:
                    refused[index] = error
        stored = iter(self._file.write(rows) if rows else ())
        self._n_asked += len(keys)
        self._n_found += len(found)
        self._n_written += len(rows)
        results: list[Any] = []
        for index, request in enumerate(requests):
            if isinstance(request, _Get):
                results.append({key: found[key] for key in request.keys if key in found})
            else:
                results.append(refused.get(index) or list(islice(stored, request.size)))
        return results
