from __future__ import annotations

import asyncio

import pytest

from stepward.core import StopRun
from stepward.core.errors import ContextOverflow, InputError, MissingExtra, RequestFailed
from stepward.engine.concurrency import Failure, run_all


def test_results_come_in_the_order_of_the_items_and_never_more_than_limit_run() -> None:
    running = peak = 0
    ended: list[int] = []

    async def work(item: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(item % 5):
            await asyncio.sleep(0)
        running -= 1
        return -item

    results = asyncio.run(run_all(iter(range(100)), work, limit=7, on_done=lambda index, _: ended.append(index)))
    assert results == [-item for item in range(100)]
    assert peak == 7
    assert sorted(ended) == list(range(100))


def test_a_failed_item_becomes_a_value_with_its_reason() -> None:
    async def work(item: int) -> int:
        if item == 1:
            raise RequestFailed("server gone")
        if item == 2:
            raise ContextOverflow("5000 tokens")
        return item

    first, second, third, fourth = asyncio.run(run_all([0, 1, 2, 3], work, limit=2))
    assert (first, fourth) == (0, 3)
    assert isinstance(second, Failure)
    assert second.reason == "RequestFailed: server gone"
    assert isinstance(third, Failure)
    assert isinstance(third.error, ContextOverflow)


@pytest.mark.parametrize("error", [AssertionError("ours"), TypeError("ours"), StopRun("disk full"), MissingExtra("ray", "ray")])
def test_our_own_mistakes_and_hopeless_errors_stop_the_run_and_cancel_the_rest(error: Exception) -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        if item == 3:
            raise error
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def main() -> None:
        with pytest.raises(type(error)):
            await run_all(range(1000), work, limit=4)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert sorted(cancelled) == [0, 1, 2]


def test_cancelling_the_run_cancels_its_items() -> None:
    async def main() -> None:
        task = asyncio.create_task(run_all(range(50), lambda _: asyncio.Event().wait(), limit=10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_million_items_do_not_make_a_million_tasks() -> None:
    drawn = done = most_ahead = most_tasks = 0

    def items() -> object:
        nonlocal drawn
        for item in range(50_000):
            drawn += 1
            yield item

    async def work(item: int) -> None:
        nonlocal done, most_ahead, most_tasks
        if item % 1000 == 0:
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            await asyncio.sleep(0)
        most_ahead = max(most_ahead, drawn - done)
        done += 1

    asyncio.run(run_all(items(), work, limit=8))  # type: ignore[arg-type]
    assert done == 50_000
    assert most_tasks <= 9
    assert most_ahead <= 9


def test_no_items_and_no_room() -> None:
    async def work(item: int) -> int:
        return item

    assert asyncio.run(run_all([], work, limit=3)) == []
    with pytest.raises(InputError, match="limit"):
        asyncio.run(run_all([1], work, limit=0))
