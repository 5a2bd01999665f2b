"""Concurrency: many items at once under a limit, with failures as values. Batching is elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

from stepward.core.errors import InputError, MissingExtra, StepwardError, StopRun

Item = TypeVar("Item")
Result = TypeVar("Result")


FATAL = (StopRun, MissingExtra)


@dataclass(frozen=True)
class Failure:
    """An item that failed: the `reason` in words, and the `error` itself. It is not a zero."""

    reason: str
    error: StepwardError


async def run_all(
    items: Iterable[Item], fn: Callable[[Item], Awaitable[Result]], *, limit: int, on_done: Callable[[int, Result | Failure], None] | None = None
) -> list[Result | Failure]:
    """`await fn(item)` for every item, at most `limit` at once; results in the order of the items.

    An item's StepwardError becomes a `Failure` in its place. `StopRun`, `MissingExtra` and every other exception (our own mistakes) cancel the
    rest and propagate. At most `limit` tasks exist at any time, and items are drawn from the iterable only when a task is free.
    `on_done(index, result)` is called as each item ends, in the order in which they end.

    Raises: InputError for a limit below 1.
    """
    if limit < 1:
        raise InputError(f"limit must be at least 1, got {limit!r}")
    results: dict[int, Result | Failure] = {}
    source = enumerate(items)
    n_workers = min(limit, len(items)) if isinstance(items, Sized) else limit
    workers = [asyncio.create_task(_work(source, fn, results, on_done)) for _ in range(n_workers)]
    try:
        if workers:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in workers:
                if worker in done:
                    worker.result()
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(results))]


async def _work(
    source: Iterator[tuple[int, Item]],
    fn: Callable[[Item], Awaitable[Result]],
    results: dict[int, Result | Failure],
    on_done: Callable[[int, Result | Failure], None] | None,
) -> None:
    for index, item in source:
        result: Result | Failure
        try:
            result = await fn(item)
        except FATAL:
            raise
        except StepwardError as error:
            result = Failure(f"{type(error).__name__}: {error}", error)
        results[index] = result
        if on_done is not None:
            on_done(index, result)
