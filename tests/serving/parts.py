"""Models and servers for the tests of serving: scores that tell which text they belong to, batches that wait until a test lets them run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from stepward.core import RequestFailed, RewardModel, StepScores, Trajectory, Usage, charge
from stepward.engine.batching import Batcher
from stepward.serving.app import create_app
from stepward.serving.desk import Desk
from stepward.serving.settings import ServeSettings

PATIENCE_S = 30.0  # a test that waits longer has failed


class HashModel:
    """A probability a step that depends on the problem and on every step so far; through a batcher whose batches are kept in `batches`.

    A step with "unknown" abstains, one with "broken" fails, a solution with "explode" raises. While `gate` is closed, batches wait.
    """

    fingerprint = "test:hash"
    granularity = "step"
    scale = "probability"

    def __init__(self, *, max_batch: int = 1024, open_gate: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.n_asked = 0  # solutions that wait for a batch, or had one
        self.gate, self.entered = threading.Event(), threading.Event()
        if open_gate:
            self.gate.set()
        self._batcher: Batcher[Trajectory, StepScores] = Batcher(self._run, max_batch=max_batch)

    async def score(self, trajectory: Trajectory) -> StepScores:
        if "explode" in trajectory.text:
            raise RuntimeError("a mistake in the model")
        if "refuse" in trajectory.text:
            raise RequestFailed("no such luck")
        self.n_asked += 1
        scores = await self._batcher(trajectory)
        charge(scores.usage)
        return scores

    def _run(self, requests: Sequence[Trajectory]) -> list[StepScores]:
        self.batches.append([trajectory.text for trajectory in requests])
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        return [hash_scores(trajectory) for trajectory in requests]

    def close(self) -> None:
        self.gate.set()
        self._batcher.close()


def hash_scores(trajectory: Trajectory) -> StepScores:
    """What HashModel says, computed without it."""
    reasons = ["abstained: not sure" if "unknown" in step.text else "no luck" if "broken" in step.text else None for step in trajectory.steps]
    values = [np.nan if reason else _number(trajectory.keys[index + 1]) for index, reason in enumerate(reasons)]
    usage = Usage(reward_tokens=len(trajectory.text), calls=1, flops=3)
    return StepScores(np.array(values, dtype=np.float64), tuple(reasons), source={"model": "test:hash"}, usage=usage, aspects={"twice": np.array(values) * 2})


def _number(key: str) -> float:
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big") / (1 << 48)


@asynccontextmanager
async def application(model: RewardModel, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """A client of the application in this process, with the model loaded."""
    app = create_app(lambda: model, ServeSettings(**settings))
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(PATIENCE_S):
            await app.state.desk.settled()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=PATIENCE_S) as client:
            yield client, app


@contextmanager
def listening(model: RewardModel, **settings: Any) -> Iterator[tuple[str, Desk]]:
    """The address of a real server in a thread, and its desk."""
    app = create_app(lambda: model, ServeSettings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on", ws="none"))
    started = threading.Event()
    startup = server.startup

    async def tell(sockets: Any = None) -> None:
        await startup(sockets)
        await app.state.desk.settled()
        started.set()

    server.startup = tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.desk
    finally:
        server.should_exit = True
        thread.join()


async def until(condition: Any) -> None:
    """Let other tasks and threads run until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def item(problem: str = "What is 1 + 1?", *steps: str) -> dict[str, Any]:
    return {"problem": problem, "steps": list(steps or ("1 + 1 = 2.", "The answer is 2."))}
