"""ServedModel: a reward model behind `stepward serve` on another machine, as if it were here. Other servers' protocols are in `rewards.remote`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, get_args

import numpy as np

from stepward.core import CountMismatch, Granularity, InputError, RequestFailed, Scale, StepScores, StepwardError, Trajectory, Usage, canonical_json, charge
from stepward.core.record import thaw
from stepward.engine.loop import run_sync
from stepward.engine.retry import Retry
from stepward.policies.openai.connection import Connection

_HINT = "is this the address of a `stepward serve`?"
_SPEC = "stepward:"
_ENDINGS = {(True, False): "finished", (False, True): "truncated", (False, False): "open"}


class ServedModel:
    """Scores of a model that `stepward serve` serves, equal to those of the model itself: problems and steps travel whole, numbers without rounding.

    `fingerprint`, `scale` and `granularity` are the served model's, so a journal finds its results whichever way the model was reached. Requests that a
    full queue or a stopping server turns away (429, 503) are tried again after its Retry-After. Up to `concurrency` requests are under way at once; the
    server batches. `max_items` and `max_body_bytes` are what the server takes in one request.
    """

    def __init__(
        self, connection: Connection, *, fingerprint: str, scale: Scale, granularity: Granularity, max_items: int = 1, max_body_bytes: int = 1 << 20
    ) -> None:
        self.fingerprint, self.scale, self.granularity = fingerprint, scale, granularity
        self.max_items, self.max_body_bytes = max_items, max_body_bytes
        self._connection = connection

    @classmethod
    def connect(cls, url: str, *, token: str | None = None, timeout_s: float = 300.0, concurrency: int = 64, retry: Retry | None = None) -> ServedModel:
        """The model at this address, for example http://127.0.0.1:8000. Asks the server what it serves.

        Raises: InputError for what is no address; RequestFailed when the server does not answer as `stepward serve` does, or refuses the token.
        """

        async def ask() -> ServedModel:
            async with await cls.connected(url, token=token, timeout_s=timeout_s, concurrency=concurrency, retry=retry) as model:
                return model  # closed for the loop that asked; whichever loop scores opens connections of its own

        return run_sync(ask())

    @classmethod
    async def connected(cls, url: str, *, token: str | None = None, timeout_s: float = 300.0, concurrency: int = 64, retry: Retry | None = None) -> ServedModel:
        """`connect` for coroutines."""
        connection = Connection(url, api_key=token, timeout_s=timeout_s, concurrency=concurrency, retry=retry or Retry(), hint=_HINT)
        try:
            return cls(connection, **_served(await connection.get("v1/models"), url))
        except BaseException:
            await connection.close()
            raise

    @classmethod
    def from_spec(cls, spec: str, *, token: str | None = None, **options: Any) -> ServedModel:
        """The model of `stepward:URL`. Raises: as `connect`."""
        return cls.connect(spec.removeprefix(_SPEC), token=token, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this event loop's connections (the end of the event loop does it too)."""
        await self._connection.close()

    async def score(self, trajectory: Trajectory) -> StepScores:
        """The server's scores, one a step, shape [S].

        Raises: InputError for what cannot be sent (images, a lone surrogate); CountMismatch; RequestFailed after the retries.
        """
        [scores] = await self.score_items([item_of(trajectory)], key=trajectory.key)
        return scores

    async def score_items(self, items: Sequence[dict[str, Any]], *, key: str = "") -> list[StepScores]:
        """Scores of many items of /v1/score (see `item_of`; a raw text has "text" instead of "steps"), in one request and in order.

        Raises: InputError for what cannot be sent; CountMismatch for another number of results than items, or of scores than steps; RequestFailed after the
        retries.
        """
        body = {"items": list(items)}
        try:
            canonical_json(body).encode("utf-8")
        except (TypeError, ValueError) as error:  # what JSON or UTF-8 does not have: objects, NaN, a lone surrogate
            raise InputError(f"this cannot be sent to a server: {error}; texts must be Unicode, numbers finite, and metadata JSON") from error
        answer = await self._connection.post("v1/score", body, key=key)
        try:
            read = [_read(result) for result in answer["results"]]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, StepwardError) as error:
            raise RequestFailed(f"{self._connection.base_url} answered what is no list of scores: {type(error).__name__}: {error}") from error
        if len(read) != len(items):
            raise CountMismatch(f"{self._connection.base_url} gave {len(read)} results for {len(items)} solutions")
        for item, (scores, _) in zip(items, read, strict=True):
            if "steps" in item and len(scores) != len(item["steps"]):
                raise CountMismatch(f"{self._connection.base_url} gave {len(scores)} scores for {len(item['steps'])} steps")
        for scores, paid in read:
            charge(scores.usage, paid=paid)
        return [scores for scores, _ in read]


def item_of(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as an item of /v1/score. Raises: InputError for a problem with images, which are not sent."""
    problem = trajectory.problem
    if problem.images:
        raise InputError(f"problem {problem.id!r} has images, which `stepward serve` does not take; remove them")
    sent = {"prompt": problem.prompt, "answer": problem.answer, "environment": problem.environment, "metadata": thaw(problem.metadata), "id": problem.id}
    steps = [
        {"text": step.text, "separator": step.separator, "observation": step.observation, "agent": step.agent, "action": thaw(step.action)}
        for step in trajectory.steps
    ]
    ending = _ENDINGS[trajectory.finished, trajectory.truncated]
    return {"problem": sent | {"reference_steps": list(problem.reference_steps)}, "steps": steps, "ending": ending}


def _served(answer: Mapping[str, Any], url: str) -> dict[str, Any]:
    """What /v1/models says of the model that is served."""
    try:
        entry = answer["data"][0]
        found = {name: entry[name] for name in ("fingerprint", "scale", "granularity")}
        limits = {name: int(entry["limits"][name]) for name in ("max_items", "max_body_bytes")}
    except (LookupError, TypeError, ValueError) as error:
        raise RequestFailed(f"{url}/v1/models does not say what is served; {_HINT}") from error
    if found["scale"] not in get_args(Scale) or found["granularity"] not in get_args(Granularity) or not isinstance(found["fingerprint"], str):
        what = f"a model of scale {found['scale']!r} and granularity {found['granularity']!r}"
        raise RequestFailed(f"{url} serves {what}, which this stepward does not know; upgrade it")
    return found | limits


def _read(result: Any) -> tuple[StepScores, Usage]:
    """Scores and what the server paid for them."""
    values = np.array(result["scores"], dtype=np.float64)
    if not len(values) == len(result["reasons"]) == len(result["rationales"]):
        raise CountMismatch(f"{len(values)} scores, {len(result['reasons'])} reasons and {len(result['rationales'])} rationales")
    scores = StepScores(
        values,
        tuple(result["reasons"]),
        result["scale"],
        result["threshold"],
        rationales=tuple(result["rationales"]),
        source=result["source"],
        usage=Usage.from_record(result["usage"]),
        aspects={name: np.array(column, dtype=np.float64) for name, column in result["aspects"].items()},
    )
    return scores, Usage.from_record(result["paid"])
