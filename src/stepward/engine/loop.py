"""Loop: the background event loop behind the synchronous face."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

from stepward.core.errors import StepwardError

Result = TypeVar("Result")

_PATIENCE_S = 5.0  # for tasks that clean up, and for code that holds the loop, when the process ends


class BackgroundLoop:
    """An event loop in a daemon thread, started by the first coroutine; after a fork the child starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result, awaited from synchronous code of any thread, also where another event loop is running.

        The coroutine sees the caller's context variables, so a ledger opened around the call is charged. On KeyboardInterrupt the coroutine is
        cancelled and waited for, then the interrupt goes on; a second one does not wait.

        Raises: StepwardError when called from a coroutine of this very loop, which would wait for itself.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise StepwardError("the synchronous face was called from inside a coroutine that it runs; await the async function there instead")
        outcome: Future[Result] = Future()
        context = copy_context()
        tasks: list[asyncio.Task[Result]] = []

        def start() -> None:
            task = loop.create_task(coroutine, context=context)
            tasks.append(task)
            task.add_done_callback(lambda done: _transfer(done, outcome))

        def cancel() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:  # interrupted before it could start
                coroutine.close()
                outcome.cancel()

        try:
            loop.call_soon_threadsafe(start)
            return outcome.result()
        except KeyboardInterrupt:
            if not outcome.done():
                loop.call_soon_threadsafe(cancel)
                try:
                    outcome.exception()
                except BaseException as error:  # the cancellation, or a second interrupt: the first one is what the caller sees
                    del error
            raise

    def close(self) -> None:
        """Cancel what is still running, let it clean up, and end the thread. A later coroutine starts another."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is None or thread is None or self._pid != os.getpid() or not thread.is_alive():
                return
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop)
        thread.join(2 * _PATIENCE_S)
        if not thread.is_alive():
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid() or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._loop.run_forever, name="stepward-loop", daemon=True)
                self._thread.start()
            return self._loop


def _transfer(task: asyncio.Task[Result], outcome: Future[Result]) -> None:
    if task.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
        return
    error = task.exception()
    if error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


async def _end_tasks() -> None:
    """Cancel all other tasks of this loop, wait for them, and stop it."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        done, _ = await asyncio.wait(rest, timeout=_PATIENCE_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # nobody waits for it, so that it is nobody's surprise
    asyncio.get_running_loop().stop()


_background = BackgroundLoop()
atexit.register(_background.close)  # a thread that still runs native code while the interpreter is taken down aborts the process


def run_sync(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the process's background loop and wait for its result; see `BackgroundLoop.run`."""
    return _background.run(coroutine)
