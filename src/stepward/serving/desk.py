"""Desk: where requests wait and are scored: admission, the model's own event loop, cancelling and draining. It knows nothing of HTTP but refusals."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from stepward.core import FAILURES, CountMismatch, RewardModel, StepScores, Trajectory, Usage, metered
from stepward.serving.batches import BatchWatch
from stepward.serving.metrics import Meters
from stepward.serving.refusal import Refusal
from stepward.serving.schemas import check_aggregates
from stepward.serving.settings import ServeSettings

logger = logging.getLogger("stepward.serve")

State = Literal["loading", "ready", "draining", "failed"]
_LONGEST_WAIT_S = 60


@dataclass(frozen=True)
class Scored:
    """Scores with what they cost alone, and what was paid for them here."""

    scores: StepScores
    usage: Usage
    paid: Usage


class Place:
    """What one request takes of the queue: one place while its body is read, then one for each of its solutions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.n = 1

    def hold(self) -> None:
        """The body is here: a server that stops finishes this request. Raises: Refusal 503 when it stopped taking requests while the body came."""
        self._desk._hold(self)

    def accept(self, n: int) -> None:
        """The request is well-formed and brings n solutions. Raises: Refusal 429 when they do not all fit the queue."""
        self._desk._make_room(n - self.n)
        self._desk._take(n - self.n)
        self.n = n


class Desk:
    """Scores what it accepts, all requests together.

    The model lives on an event loop of its own in one thread. So whatever arrives while a batch runs joins the next one, no matter whose request it is,
    and neither tokenisation nor a model that computes at once keeps the server from answering. A cancelled `score` leaves the queue, and its solutions
    leave the batch if that has not begun. A solution that fails gives unscored steps with the reason; the others of its request do not notice.
    """

    def __init__(self, load: Callable[[], RewardModel], settings: ServeSettings, meters: Meters) -> None:
        self.settings, self.meters = settings, meters
        self.state: State = "loading"
        self.error: Exception | None = None  # why loading failed
        self.n_items = 0  # solutions accepted and not yet answered
        self._load = load
        self._model: RewardModel | None = None
        self._fingerprint = ""
        self._accepted: set[Place] = set()
        self._running: set[asyncio.Future[list[Scored]]] = set()
        self._ends: deque[float] = deque(maxlen=256)  # when the last solutions were done
        self._watch: BatchWatch | None = None

    async def open(self) -> None:
        """Begin to load the model, in the thread that it will live in."""
        self._server_loop = asyncio.get_running_loop()
        self._settled, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="stepward-desk", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stop the model's event loop. A batch that runs now ends in its own thread."""
        if self.state == "loading":
            return  # a daemon thread; there is no way to stop a model that loads
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 2.0)

    @property
    def model(self) -> RewardModel:
        """The model. Raises: Refusal 503 while it is not loaded."""
        if self._model is None:
            raise Refusal(503, "the model is still loading", headers={"Retry-After": "1"})
        return self._model

    @property
    def fingerprint(self) -> str:
        """The model's fingerprint, computed once."""
        return self._fingerprint if self.model else ""

    async def settled(self) -> State:
        """Wait until the model is loaded, or cannot be."""
        await self._settled.wait()
        return self.state

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue for the length of one request.

        Raises: Refusal 503 while loading or draining, 429 when the queue is full, both with Retry-After.
        """
        self._check_open()
        _ = self.model
        self._make_room(1)
        place = Place(self)
        self._take(1)
        try:
            yield place
        finally:
            self._take(-place.n)
            self._accepted.discard(place)
            if not self._accepted:
                self._idle.set()

    async def score(self, trajectories: Sequence[Trajectory]) -> list[Scored]:
        """One result a trajectory, in order, scored together with everybody else's. Raises: Refusal 503 when draining took too long."""
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._score_all(trajectories), self._loop))
        self._running.add(future)
        try:
            return await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Refusal(503, "the server stopped before this request was done", headers={"Retry-After": "1"}) from None
        finally:
            self._running.discard(future)

    async def drain(self, timeout_s: float) -> int:
        """Take no more requests, and wait until the accepted ones are done; return how many solutions were given up after `timeout_s`."""
        self.state = "draining"
        self.meters.ready.set(0)
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            given_up = sum(place.n for place in self._accepted)
            for future in list(self._running):
                future.cancel()
            return given_up
        return 0

    def _make_room(self, n: int) -> None:
        if n > 0 and self.n_items + n > self.settings.max_queue:
            reason = f"the queue is full: {self.n_items} solutions wait or are scored, at most {self.settings.max_queue} may"
            raise Refusal(429, reason, headers={"Retry-After": str(self._wait_s())})

    def _take(self, n: int) -> None:
        self.n_items += n
        self.meters.queue.set(self.n_items)

    def _check_open(self) -> None:
        if self.state == "draining":
            raise Refusal(503, "the server is stopping and takes no more requests", headers={"Retry-After": "1"})

    def _hold(self, place: Place) -> None:
        self._check_open()
        self._accepted.add(place)
        self._idle.clear()

    def _wait_s(self) -> int:
        """Whole seconds after which the queue should be empty, by the speed of the last solutions."""
        ends = tuple(self._ends)
        if len(ends) < 2 or ends[-1] <= ends[0]:
            return 1
        return max(1, min(_LONGEST_WAIT_S, math.ceil(self.n_items * (ends[-1] - ends[0]) / (len(ends) - 1))))

    def _live(self) -> None:
        """The model's thread: load it, then run its event loop until `close`."""
        try:
            model = self._load()
            fingerprint = model.fingerprint
            check_aggregates(self.settings.aggregation, model.scale)
        except Exception as error:
            self._tell(self._fail, error)
            return
        asyncio.set_event_loop(self._loop)
        self._tell(self._begin, model, fingerprint)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _tell(self, act: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the server has gone meanwhile
            self._server_loop.call_soon_threadsafe(act, *arguments)

    def _begin(self, model: RewardModel, fingerprint: str) -> None:
        self._model, self._fingerprint, self._watch = model, fingerprint, BatchWatch(model)
        if self.state == "loading":
            self.state = "ready"
            self.meters.ready.set(1)
        self._settled.set()

    def _fail(self, error: Exception) -> None:
        self.state, self.error = "failed", error
        self._settled.set()

    async def _score_all(self, trajectories: Sequence[Trajectory]) -> list[Scored]:
        return await asyncio.gather(*(self._score_one(trajectory) for trajectory in trajectories))

    async def _score_one(self, trajectory: Trajectory) -> Scored:
        model = self.model
        failure: Exception | None = None
        with metered() as ledger:
            try:
                scores = await model.score(trajectory)
                if len(scores) != len(trajectory):
                    raise CountMismatch(f"the model gave {len(scores)} scores for {len(trajectory)} steps")
            except FAILURES as error:
                failure = error
            except Exception as error:  # a mistake of ours or of the model's: the log has it, and the other requests go on
                logger.exception("scoring a solution of %d steps failed", len(trajectory))
                failure = error
        if failure is not None:
            self.meters.failed(failure)
            scores = StepScores.unscored(len(trajectory), f"{type(failure).__name__}: {failure}", scale=model.scale)
        self._ends.append(time.monotonic())
        self.meters.scored(scores, ledger.paid)
        if self._watch is not None:
            self.meters.batches(self._watch.sizes())
        return Scored(scores, ledger.usage, ledger.paid)
