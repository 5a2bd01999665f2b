from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from stepward.core.errors import StepwardError
from stepward.core.usage import Usage, charge, metered
from stepward.engine.loop import BackgroundLoop, run_sync


async def double(number: int) -> int:
    await asyncio.sleep(0)
    charge(Usage(calls=1))
    return 2 * number


def test_it_works_from_plain_code_and_where_a_loop_is_running() -> None:
    async def notebook_cell() -> int:
        return run_sync(double(21))

    assert run_sync(double(4)) == 8
    assert asyncio.run(notebook_cell()) == 42


def test_many_threads_share_the_one_background_thread() -> None:
    results: dict[int, int] = {}
    threads = [threading.Thread(target=lambda number=number: results.update({number: run_sync(double(number))})) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: 2 * number for number in range(20)}
    assert sum(thread.name == "stepward-loop" for thread in threading.enumerate()) == 1


def test_costs_reach_the_callers_ledger() -> None:
    with metered() as ledger:
        run_sync(double(1))
        run_sync(double(2))
    assert ledger.usage.calls == 2


def test_errors_come_back_as_they_are() -> None:
    async def broken() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        run_sync(broken())


def test_calling_it_from_a_coroutine_that_it_runs_is_refused_instead_of_hanging() -> None:
    async def nested() -> int:
        return run_sync(double(1))

    with pytest.raises(StepwardError, match="await the async function"):
        run_sync(nested())


def test_an_interrupt_cancels_the_coroutine_and_goes_on() -> None:
    seen: list[str] = []

    async def endless() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cleaned up")
            raise

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background has it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run_sync(endless())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["cleaned up"]
    assert run_sync(double(3)) == 6


def test_closing_lets_what_is_left_clean_up_and_the_next_coroutine_starts_anew() -> None:
    seen: list[str] = []
    own = BackgroundLoop()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    async def leave_behind() -> asyncio.Task[None]:
        left = asyncio.create_task(endless())
        await asyncio.sleep(0)
        return left

    left = own.run(leave_behind())
    own.close()
    assert (left.cancelled(), seen) == (True, ["cleaned up"])
    assert own.run(double(2)) == 4
    own.close()
    own.close()
