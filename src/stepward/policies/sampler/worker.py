"""Worker: the thread that drives a pool. Coroutines hand it jobs; it sleeps when there are none and ends after a while of that.

No such thread outlives the interpreter: one that is inside torch while that is taken down would abort the process.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from weakref import WeakSet

import torch

from stepward.core import RequestFailed
from stepward.engine.reader.query import Query, Reading
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.request import Draw, Request


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """Queries of one request, to be read together."""

    queries: tuple[Query, ...]
    future: Future[list[Reading]] = field(default_factory=Future)


class Worker:
    """`make_pool` and `read` run in the worker's thread only, so that the model is used by one thread."""

    def __init__(self, make_pool: Callable[[], Pool], read: Callable[[Sequence[Query]], Sequence[Reading]], *, linger_s: float = 5.0) -> None:
        self._make_pool, self._read, self._linger_s = make_pool, read, linger_s
        self._condition = threading.Condition()
        self._incoming: deque[Request | Wanted] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stopped = False
        self.pool: Pool | None = None

    async def sample(self, request: Request) -> list[Draw]:
        """The request's draws, in order."""
        self._submit(request)
        return await asyncio.wrap_future(request.future)

    async def read(self, *queries: Query) -> list[Reading]:
        """One reading a query, in order; what is asked for at the same time is read together."""
        wanted = Wanted(queries=queries)
        self._submit(wanted)
        return await asyncio.wrap_future(wanted.future)

    def close(self) -> None:
        """Finish what is running and end the thread; later requests fail."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join()

    def stop(self) -> None:
        """Abandon what is running, after the pass that it is in, and end the thread; later requests fail, and so far unanswered ones stay so."""
        with self._condition:
            self._stopped = True
        self.close()

    def _submit(self, job: Request | Wanted) -> None:
        with self._condition:
            if self._closed:
                raise RequestFailed("the policy was closed; make a new one")
            self._incoming.append(job)
        asyncio.get_running_loop().call_soon(self._wake)  # after the coroutines that are about to ask as well

    def _wake(self) -> None:
        with self._condition:
            if self._incoming and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stepward-sampler", daemon=True)
                self._thread.start()
                _started.add(self)
            self._condition.notify()

    def _run(self) -> None:
        with torch.inference_mode():
            while (jobs := self._next()) is not None:
                try:
                    self._work(jobs)
                except Exception as error:
                    self._give_up(jobs, error)

    def _next(self) -> list[Request | Wanted] | None:
        """What came in; waits when there is nothing else to do, None to end the thread."""
        with self._condition:
            if self._stopped:
                self._thread = None
                return None
            if self.pool is None or self.pool.idle:
                self._condition.wait_for(lambda: bool(self._incoming) or self._closed, timeout=self._linger_s)
                if not self._incoming:
                    self._thread = None
                    return None
            jobs = list(self._incoming)
            self._incoming.clear()
            return jobs

    def _work(self, jobs: Sequence[Request | Wanted]) -> None:
        if self.pool is None:
            self.pool = self._make_pool()
        for job in jobs:
            if isinstance(job, Request):
                self.pool.add(job)
        waiting = [job for job in jobs if isinstance(job, Wanted) and job.future.set_running_or_notify_cancel()]
        if waiting:
            readings = iter(self._read([query for wanted in waiting for query in wanted.queries]))
            for wanted in waiting:
                wanted.future.set_result(list(islice(readings, len(wanted.queries))))
        self.pool.advance()

    def _give_up(self, jobs: Sequence[Request | Wanted], error: Exception) -> None:
        """A failed pass fails what it carried; the model stays usable for what comes next."""
        reason = RequestFailed(f"the local model failed: {type(error).__name__}: {error}")
        for job in jobs:
            if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
                job.future.set_exception(reason)
        if self.pool is not None:
            self.pool.fail(reason)
            self.pool = None


_started: WeakSet[Worker] = WeakSet()


def _stop_all() -> None:
    for worker in list(_started):
        worker.stop()


atexit.register(_stop_all)  # behind torch's own, so before them
os.register_at_fork(after_in_child=_started.clear)  # a child has none of the threads
