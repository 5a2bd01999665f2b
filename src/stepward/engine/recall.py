"""Recall: a result from the journal, from a computation in flight, or computed now and written before it is used."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from stepward.core.errors import CountMismatch, InputError
from stepward.core.usage import Usage, charge, metered
from stepward.engine.entry import Entry

Result = TypeVar("Result")


class Keeper(Protocol):
    """Where paid-for results are kept: a `Journal`, or one that another process owns."""

    @property
    def run(self) -> str: ...

    async def get_many(self, keys: Sequence[str], /) -> dict[str, Entry]: ...

    async def put_many(self, entries: Sequence[Entry], /) -> list[Entry]: ...

    def pending(self) -> dict[str, asyncio.Future[Entry | Exception | None]]: ...


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A result before it is stored: JSON-like `payload`, `n_tokens` that the policy wrote for it if known, and whether to `keep` it.

    A result with failed parts is not kept, so that a rerun tries it again. `usage`: what it cost, where that is known of each result of its call.
    """

    payload: Any
    n_tokens: int | None = None
    keep: bool = True
    usage: Usage | None = None


async def recall(journal: Keeper, kind: str, keys: Sequence[str], compute: Callable[[Sequence[int]], Awaitable[Sequence[Draft]]]) -> list[Entry]:
    """The entry of every key, in order; `compute(positions)` makes the missing ones.

    `compute` gets the positions (indices into `keys`, ascending) that nobody has, and returns drafts for the first one or more of them; it is called
    until none is left. Each call's drafts are committed together before anything else happens. Equal keys asked for at the same time on one event
    loop are computed once; if the task that computes them is cancelled, one of the others takes over.

    Usage: `compute` charges the open ledgers itself, as every policy and reward model does; that cost is recorded with the entries, split over the
    drafts of the call where these do not know their own. Results that were not computed by this call are charged as replayed.
    """
    found: dict[str, Entry] = {}
    pending = journal.pending()
    loop = asyncio.get_running_loop()
    while True:
        mine: list[int] = []
        others: dict[str, asyncio.Future[Entry | Exception | None]] = {}
        claimed: set[str] = set()
        for position, key in enumerate(keys):
            if key in found or key in claimed:
                continue
            if key in pending:
                others[key] = pending[key]
            else:
                pending[key] = loop.create_future()
                claimed.add(key)
                mine.append(position)
        if mine:
            found |= await _settle(journal, kind, keys, mine, compute, pending)
        if others:
            await asyncio.wait(others.values())
        for key, future in others.items():
            result = future.result()
            if isinstance(result, Exception):
                raise result
            if result is not None:
                found[key] = result
                charge(result.usage, replayed=True)
        if len(found) == len(set(keys)):
            return [found[key] for key in keys]


async def _settle(
    journal: Keeper,
    kind: str,
    keys: Sequence[str],
    positions: list[int],
    compute: Callable[[Sequence[int]], Awaitable[Sequence[Draft]]],
    pending: dict[str, asyncio.Future[Entry | Exception | None]],
) -> dict[str, Entry]:
    """Look up or compute the keys that this task has claimed in `pending`, and tell whoever waits."""
    verdict: Exception | None = None  # what waiters learn about a key that this task leaves unsettled; None: try yourself
    try:
        found = await journal.get_many([keys[position] for position in positions])
        for key, entry in found.items():
            charge(entry.usage, replayed=True)
            pending.pop(key).set_result(entry)
        missing = [position for position in positions if keys[position] not in found]
        while missing:
            with metered() as ledger:
                drafts = await compute(missing)
            if not 1 <= len(drafts) <= len(missing):
                raise CountMismatch(f"{len(drafts)} results for {len(missing)} missing {kind!r} results")
            made, missing = missing[: len(drafts)], missing[len(drafts) :]
            known = [draft.usage for draft in drafts if draft.usage is not None]
            costs = known if len(known) == len(drafts) else split_usage(ledger.usage, [draft.n_tokens for draft in drafts])
            entries = [
                Entry(key=keys[position], kind=kind, payload=draft.payload, usage=cost, run=journal.run)
                for position, draft, cost in zip(made, drafts, costs, strict=True)
            ]
            paid = [entry for entry, draft in zip(entries, drafts, strict=True) if draft.keep]
            stored = await _to_the_end(journal.put_many(paid)) if paid else []  # who is cancelled now has paid already
            kept = {entry.key: entry for entry in stored}
            for entry in entries:
                final = kept.get(entry.key, entry)
                found[entry.key] = final
                pending.pop(entry.key).set_result(final)
        return found
    except Exception as error:
        verdict = error
        raise
    finally:
        for position in positions:
            future = pending.get(keys[position])
            if future is not None and not future.done():
                del pending[keys[position]]
                future.set_result(verdict)


async def _to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Its result; a task that is cancelled meanwhile ends after it, so that nobody closes the journal below it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def split_usage(usage: Usage, n_tokens: Sequence[int | None]) -> list[Usage]:
    """The cost of one request that made n results, as n costs that sum to it; wall time is left out.

    Written tokens go to the result that they belong to where `n_tokens` says so; everything else is split evenly, the remainder to the first results.
    """
    n = len(n_tokens)
    if n < 1:
        raise InputError("a cost cannot be split over no results")
    if n == 1:
        return [replace(usage, wall_s=0.0)]
    own = [count for count in n_tokens if count is not None]
    exact = len(own) == n and sum(own) == usage.policy_tokens
    shares: list[dict[str, Any]] = [{} for _ in range(n)]
    for name, value in vars(replace(usage, wall_s=0.0)).items():
        if exact and name == "policy_tokens":
            parts: Sequence[float] = own
        elif isinstance(value, int):
            parts = [value // n + (index < value % n) for index in range(n)]
        else:
            even = float(math.floor(value / n))
            parts = [value - even * (n - 1)] + [even] * (n - 1)
        for share, part in zip(shares, parts, strict=True):
            share[name] = part
    return [Usage(**share) for share in shares]
