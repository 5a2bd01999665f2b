"""ScoreClient: `stepward serve` from Python, with sync and async faces. The reward model that labelers and searches take is `rewards.remote_stepward`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

from stepward.core import InputError, Problem, StepScores, Trajectory
from stepward.engine.loop import run_sync
from stepward.engine.retry import Retry
from stepward.rewards.remote_stepward import ServedModel, item_of

Solution = Trajectory | tuple[Problem | str, str | Sequence[str]]
_ITEMS = 32  # solutions of one request
_FRAME = 64  # bytes around an item, and around all of them


class ScoreClient:
    """`ScoreClient("http://127.0.0.1:8000", token=...)`: scores of solutions from a server.

    A solution is a trajectory, or (problem, steps), or (problem, text); a text is split into steps by the server. 429 and 503 are tried again after the
    server's Retry-After, as `retry` says. The plain methods block; those that begin with "a" are coroutines. As a context manager it closes its
    connections.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 300.0, concurrency: int = 16, retry: Retry | None = None) -> None:
        self.url = url
        self._token = token
        self._options: dict[str, Any] = {"timeout_s": timeout_s, "concurrency": concurrency, "retry": retry or Retry(attempts=8)}
        self._model: ServedModel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def model(self) -> ServedModel:
        """The served model, as a reward model for labelers and searches. Raises: RequestFailed when the server cannot be reached."""
        return run_sync(self.amodel())

    async def amodel(self) -> ServedModel:
        """`model` for coroutines."""
        if self._model is None:
            model = await ServedModel.connected(self.url, token=self._token, **self._options)
            if self._model is None:
                self._model = model
            else:  # another request of ours was first
                await model.aclose()
        return self._model

    def score(self, problem: Problem | str, solution: str | Sequence[str]) -> StepScores:
        """Scores of one solution, a list of steps or a raw text. Raises: RequestFailed after the retries."""
        return run_sync(self.ascore(problem, solution))

    async def ascore(self, problem: Problem | str, solution: str | Sequence[str]) -> StepScores:
        """`score` for coroutines."""
        return (await self.ascore_many([(problem, solution)]))[0]

    def score_many(self, solutions: Sequence[Solution]) -> list[StepScores]:
        """Scores of many solutions, in order; one that the server could not score has unscored steps with the reason.

        Raises: RequestFailed when a request as a whole failed for good.
        """
        return run_sync(self.ascore_many(solutions))

    async def ascore_many(self, solutions: Sequence[Solution]) -> list[StepScores]:
        """`score_many` for coroutines."""
        model = await self.amodel()
        parts = list(_parts([_item(solution) for solution in solutions], max_items=min(_ITEMS, model.max_items), max_bytes=model.max_body_bytes))
        return [scores for found in await asyncio.gather(*(model.score_items(part) for part in parts)) for scores in found]

    def close(self) -> None:
        """Close the connections."""
        run_sync(self.aclose())

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        if self._model is not None:
            await self._model.aclose()


def _parts(items: Sequence[dict[str, Any]], *, max_items: int, max_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """The items in requests that the server takes; one item that is too large by itself makes a request that the server refuses with the reason."""
    part: list[dict[str, Any]] = []
    size = 0
    for item in items:
        n_bytes = len(json.dumps(item, ensure_ascii=False, default=str).encode("utf-8", "replace")) + _FRAME
        if part and (len(part) == max_items or size + n_bytes > max_bytes - _FRAME):
            yield part
            part, size = [], 0
        part.append(item)
        size += n_bytes
    if part:
        yield part


def _item(solution: Solution) -> dict[str, Any]:
    if isinstance(solution, Trajectory):
        return item_of(solution)
    problem, written = solution
    known = problem if isinstance(problem, Problem) else Problem(problem)
    if isinstance(written, str):
        return {"problem": item_of(Trajectory(known))["problem"], "text": written}
    if not all(isinstance(step, str) for step in written):
        raise InputError("steps must be texts; for Step objects make a Trajectory")
    return item_of(Trajectory.from_texts(known, written))
