"""WorkerPool: a function of our own, called in processes that are killed when a call outgrows its limits. Safe from any thread or event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from stepward.core.errors import InputError
from stepward.engine.workers.crew import Crew
from stepward.engine.workers.limits import FAILED, Limits, Reply

__all__ = ["FAILED", "Limits", "Reply", "WorkerPool"]

DEFAULT_LIMITS = Limits()


class WorkerPool:
    """Calls `task` ("package.module:function", which maps one JSON-like dictionary to another) in at most `workers` processes.

    A call always comes back: with the task's reply, or with `{"failed": reason}` when it outlived its time or memory, crashed twice or the pool was
    closed. The task's module is imported once a process, before any limit runs; a function `prepare()` in it is called then. A task that has caught
    its own MemoryError or RecursionError adds `"exhausted": True` to its reply, and the process that sent it is replaced.

    Processes start when they are first needed and end on `close`, at garbage collection, at interpreter exit, and when this process dies. After a fork
    the child has its own. `work` names what is done, for the reasons of failures ("grading"). Pools can be pickled; processes are not sent along.
    """

    def __init__(self, task: str, *, workers: int = 2, limits: Limits = DEFAULT_LIMITS, work: str = "checking") -> None:
        if workers < 1:
            raise InputError(f"workers must be at least 1, got {workers!r}")
        if task.count(":") != 1:
            raise InputError(f"a worker's task is 'package.module:function', got {task!r}")
        self.task, self.workers, self.limits, self.work = task, workers, limits, work
        self._lock = threading.Lock()
        self._crew: Crew | None = None
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are alive."""
        crew = self._crew
        return [] if crew is None else crew.pids

    @property
    def closed(self) -> bool:
        return self._closed

    async def call(self, request: Reply) -> Reply:
        """The reply to one request, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(request))

    def submit(self, request: Reply) -> Future[Reply]:
        """The same for threads: a future whose result is a reply in every case."""
        with self._lock:
            if not self._closed and (self._crew is None or self._crew.owner != os.getpid()):
                self._crew = Crew(self.task, self.workers, self.limits, self.work)
                weakref.finalize(self, self._crew.close)
            crew = self._crew
        if crew is None or self._closed:
            future: Future[Reply] = Future()
            future.set_result({FAILED: f"{self.work}: the workers were closed"})
            return future
        return crew.submit(request)

    def close(self) -> None:
        """End every worker process; what still waits is answered with a failure."""
        with self._lock:
            self._closed = True
            crew, self._crew = self._crew, None
        if crew is not None:
            crew.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.task, self.workers, self.limits, self.work))


def _rebuild(task: str, workers: int, limits: Limits, work: str) -> WorkerPool:
    return WorkerPool(task, workers=workers, limits=limits, work=work)
