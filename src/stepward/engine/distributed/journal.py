"""The journal of a distributed run: one process owns the file, the others reach it through Ray. Needs the `ray` extra."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from stepward.engine.batching import Batcher
from stepward.engine.entry import Entry, Row
from stepward.engine.journal import Journal

_GROUP = 16_384  # keys and entries that travel together at most


class JournalOwner:
    """What the owning process runs as a Ray actor, on the machine that the file is on. Entries travel as rows with their checksums.

    Both methods may be repeated: the first writer of a key wins, and a second write of the same entry finds the first.
    """

    def __init__(self, path: str) -> None:
        self._journal = Journal(path)

    async def get_many(self, keys: Sequence[str]) -> list[Row]:
        """The rows that are stored under these keys."""
        return [entry.to_row() for entry in (await self._journal.get_many(keys)).values()]

    async def put_many(self, rows: Sequence[Row]) -> list[Row]:
        """Store all; for each, the row now stored under its key."""
        return [entry.to_row() for entry in await self._journal.put_many([Entry.from_row(row) for row in rows])]

    async def close(self) -> None:
        """Commit and close the file."""
        self._journal.close()


class RemoteJournal:
    """A journal that another process owns; what awaits it at the same time shares a message. `owner` is the handle of a `JournalOwner` actor."""

    def __init__(self, owner: Any, *, run: str = "") -> None:
        self.run = run
        self._owner = owner
        self._gets: Batcher[tuple[str, ...], dict[str, Entry]] = Batcher(self._get, max_batch=_GROUP, weight=len, max_weight=_GROUP)
        self._puts: Batcher[tuple[Entry, ...], list[Entry]] = Batcher(self._put, max_batch=_GROUP, weight=len, max_weight=_GROUP)
        self._pending: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[Entry | Exception | None]]] = WeakKeyDictionary()

    async def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The stored entries among `keys`."""
        return await self._gets(tuple(keys))

    async def put_many(self, entries: Iterable[Entry]) -> list[Entry]:
        """Store all; for each, the entry now stored under its key. Returns when the owner has committed them."""
        asked = tuple(entries)
        return await self._puts(asked) if asked else []

    def pending(self) -> dict[str, asyncio.Future[Entry | Exception | None]]:
        """Results that are being computed on the running event loop, by key; see `recall`."""
        return self._pending.setdefault(asyncio.get_running_loop(), {})

    def close(self) -> None:
        """End the threads that carry messages; the owner stays."""
        self._gets.close()
        self._puts.close()

    def _get(self, requests: Sequence[tuple[str, ...]]) -> list[dict[str, Entry]]:
        import ray

        rows = ray.get(self._owner.get_many.remote([key for keys in requests for key in keys]))
        found = {entry.key: entry for entry in map(Entry.from_row, rows)}
        return [{key: found[key] for key in keys if key in found} for keys in requests]

    def _put(self, requests: Sequence[tuple[Entry, ...]]) -> list[list[Entry]]:
        import ray

        rows = [entry.to_row() for entries in requests for entry in entries]
        stored = iter([Entry.from_row(row) for row in ray.get(self._owner.put_many.remote(rows))])
        return [[next(stored) for _ in entries] for entries in requests]
