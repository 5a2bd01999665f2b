"""Batching: awaited single requests gather into batches that run in a worker thread. Order, retries and caches are not decided here."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from stepward.core.errors import CountMismatch, InputError, RequestFailed, RequestRetryable
from stepward.engine.concurrency import FATAL

Request = TypeVar("Request")
Result = TypeVar("Result")

_IDLE_TICKS = 8  # turns of the event loop without a new request after which it counts as idle: enough for a gather() or two to unwind


class Batcher(Generic[Request, Result]):
    """`await batcher(request)`: one request at a time outside, batches inside.

    Requests gather until the event loop is idle or the batch is full (`max_batch` requests, or `max_weight` as summed by `weight(request)`; a single
    request over the limit runs alone). `run` then gets them, in the order in which they were awaited, in one worker thread, so that the event loop
    goes on and gathers the next batch. `run` is never called twice at the same time.

    `run` returns one entry a request: its result, or an Exception, which is raised in that request only. When `run` itself raises, or returns
    another number of entries, every request of the batch fails with `RequestFailed` (`RequestRetryable` stays what it is). Requests that were cancelled before
    their batch ran are dropped from it.

    Requests of different event loops never share a batch, but share the worker thread; so one batcher may serve several threads, each with its own loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        weight: Callable[[Request], float] | None = None,
        max_weight: float | None = None,
    ) -> None:
        if max_batch < 1:
            raise InputError(f"Batcher max_batch must be at least 1, got {max_batch!r}")
        if (weight is None) != (max_weight is None):
            raise InputError("Batcher needs both weight and max_weight, or neither")
        self._run = run
        self.max_batch = max_batch
        self.max_weight = float("inf") if max_weight is None else max_weight
        self._weight = weight
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="stepward-batch")  # starts its thread with the first batch
        self.n_requests = 0
        self.n_batches = 0

    async def __call__(self, request: Request) -> Result:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            with self._lock:
                lane = self._lanes.setdefault(loop, _Lane(self))
        future: asyncio.Future[Result] = loop.create_future()
        lane.add(_Waiting(request, future, 0.0 if self._weight is None else self._weight(request)), loop)
        return await future

    def close(self) -> None:
        """Let the running batch end and stop the worker thread; a later request is refused."""
        self._worker.shutdown(wait=True)

    def _start(self, batch: list[_Waiting], lane: _Lane, loop: asyncio.AbstractEventLoop) -> None:
        self._worker.submit(self._work, batch, lane, loop)

    def _work(self, batch: list[_Waiting], lane: _Lane, loop: asyncio.AbstractEventLoop) -> None:
        self.n_requests += len(batch)
        self.n_batches += 1
        results: Sequence[Any]
        try:
            results = self._run([waiting.request for waiting in batch])
            if len(results) != len(batch):
                raise CountMismatch(f"the backend returned {len(results)} results for a batch of {len(batch)} requests")
        except BaseException as error:
            results = [_failure(error) for _ in batch]
        try:
            loop.call_soon_threadsafe(lane.deliver, batch, results, loop)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            return


class _Waiting(NamedTuple):
    request: Any
    future: asyncio.Future[Any]
    weight: float


class _Lane:
    """The waiting requests of one event loop; touched from that loop only."""

    def __init__(self, batcher: Batcher[Any, Any]) -> None:
        self._batcher = batcher
        self._queue: deque[_Waiting] = deque()
        self._weight = 0.0
        self._busy = False
        self._ticking = False
        self._n_added = 0
        self._n_seen = 0
        self._n_idle = 0

    def add(self, waiting: _Waiting, loop: asyncio.AbstractEventLoop) -> None:
        self._queue.append(waiting)
        self._weight += waiting.weight
        self._n_added += 1
        if self._busy:
            return
        if self._full():
            self._dispatch(loop)
        elif not self._ticking:
            self._watch(loop)

    def deliver(self, batch: list[_Waiting], results: Sequence[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._busy = False
        if self._full():
            self._dispatch(loop)  # first, so that the worker is busy while the results are taken
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(_failure(result) if isinstance(result, StopIteration) else result)
            else:
                waiting.future.set_result(result)
        if self._queue and not self._busy and not self._ticking:
            self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = True
        self._n_seen, self._n_idle = self._n_added, 0
        loop.call_soon(self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._busy or not self._queue:
            self._ticking = False
            return
        self._n_idle = self._n_idle + 1 if self._n_added == self._n_seen else 0
        self._n_seen = self._n_added
        if self._n_idle < _IDLE_TICKS:
            loop.call_soon(self._tick, loop)
            return
        self._ticking = False
        self._dispatch(loop)

    def _full(self) -> bool:
        return len(self._queue) >= self._batcher.max_batch or self._weight >= self._batcher.max_weight

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[_Waiting] = []
        weight = 0.0
        while self._queue and len(batch) < self._batcher.max_batch:
            waiting = self._queue[0]
            cancelled = waiting.future.done()
            if not cancelled and batch and weight + waiting.weight > self._batcher.max_weight:
                break
            self._queue.popleft()
            self._weight = self._weight - waiting.weight if self._queue else 0.0
            if not cancelled:
                batch.append(waiting)
                weight += waiting.weight
        if batch:
            self._busy = True
            try:
                self._batcher._start(batch, self, loop)
            except RuntimeError as error:  # closed
                self.deliver(batch, [_failure(error) for _ in batch], loop)


def _failure(error: BaseException) -> Exception:
    """A fresh exception for one request of a batch that failed as a whole."""
    if isinstance(error, FATAL):
        return error
    reason = f"{type(error).__name__}: {error}"
    failed = RequestRetryable(str(error), retry_after_s=error.retry_after_s) if isinstance(error, RequestRetryable) else RequestFailed(reason)
    failed.__cause__ = error
    return failed
