"""The ASGI application: routes, who may use them, and what becomes of a request between its bytes and its answer. Listening and signals are in `server`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from stepward.core import InputError, MissingExtra, RewardModel, Trajectory, Usage
from stepward.core.usage import NO_USAGE
from stepward.serving import openrlhf, pooling
from stepward.serving.body import parse_json, read_body
from stepward.serving.desk import Desk, Place, Scored
from stepward.serving.metrics import CONTENT_TYPE, Meters
from stepward.serving.refusal import Refusal, encoded, invalid
from stepward.serving.schemas import ManyItems, TextItem, check_aggregates, item_scores, read_request
from stepward.serving.settings import ServeSettings

try:
    from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
    from fastapi.security import HTTPBearer
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
except ImportError as error:
    raise MissingExtra("fastapi", "serve") from error

from stepward.serving.gate import Guard, Telemetry
from stepward.serving.openapi import ErrorAnswer, ModelsAnswer, StatusAnswer, describe
from stepward.serving.pooling import PoolingAnswer
from stepward.serving.schemas import ScoreAnswer

Work = Callable[[Any, Place], Coroutine[Any, Any, dict[str, Any]]]

GONE = 499  # what the metrics count for a client that went away; nothing is sent
OPEN_ROUTES = ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")  # everything else asks for the token, where there is one
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning}
    for status, meaning in {
        400: "The body is not JSON",
        401: "The token is missing or wrong",
        408: "The body took longer than the server allows",
        413: "The body is too large",
        415: "The body is of another content type",
        422: "A field is wrong; `details` names each with the reason",
        429: "The queue is full; Retry-After says when to come back",
        503: "The model is loading, or the server is stopping",
        504: "The answer took longer than the server allows",
    }.items()
}
_JSON_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
_UNAUTHORIZED: dict[int | str, dict[str, Any]] = {401: {"content": _JSON_ERROR, "description": _ERRORS[401]["description"]}}
_NOT_SERVED: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": "Another model than the served one was named"}}


def create_app(load: Callable[[], RewardModel], settings: ServeSettings) -> FastAPI:
    """The application around the model that `load` makes, which is called in a thread when the application starts. `app.state.desk` is its desk."""
    meters = Meters()
    desk = Desk(load, settings, meters)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await desk.open()
        try:
            yield
        finally:
            await desk.close()

    app = FastAPI(title="stepward", version=version("stepward"), lifespan=life, redoc_url=None)
    app.state.desk = desk
    routes = Routes(desk, settings)
    guards = [Depends(Guard(settings.token)), Security(HTTPBearer(auto_error=False))] if settings.token is not None else []
    watched = [] if settings.open_metrics else guards

    app.include_router(_open_routes(desk))
    metrics = APIRouter(dependencies=watched)
    metrics.add_api_route("/metrics", _metrics_page(meters), methods=["GET"], response_class=PlainText, summary="Prometheus metrics", responses=_UNAUTHORIZED)
    app.include_router(metrics)
    scoring = APIRouter(dependencies=guards)
    scoring.add_api_route("/v1/models", routes.models, methods=["GET"], response_model=ModelsAnswer, summary="The served model", responses=_only(401, 503))
    post: dict[str, Any] = {"methods": ["POST"], "responses": _ERRORS}
    scoring.add_api_route("/v1/score", routes.score, response_model=ScoreAnswer, summary="Scores of every step of solutions", **post)
    scoring.add_api_route("/get_reward", routes.get_reward, response_model=openrlhf.RewardAnswer, summary="Rewards as OpenRLHF reads them", **post)
    post["responses"] = _ERRORS | _NOT_SERVED
    scoring.add_api_route("/pooling", routes.pooling, response_model=PoolingAnswer, summary="Step scores in vLLM's shape", **post)
    app.include_router(scoring)

    app.add_middleware(Telemetry, meters=meters)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused_by_router)
    app.add_exception_handler(Exception, _broken)
    app.openapi = lambda: describe(app, settings, desk)  # type: ignore[method-assign]
    return app


class Routes:
    """The handlers that score."""

    def __init__(self, desk: Desk, settings: ServeSettings) -> None:
        self._desk, self._settings = desk, settings

    async def models(self) -> Response:
        """What is served here, in OpenAI's shape, and how its scores read."""
        model = self._desk.model
        entry = {"id": self._settings.name, "object": "model", "created": 0, "owned_by": "stepward", "fingerprint": self._desk.fingerprint}
        entry |= {"scale": model.scale, "granularity": model.granularity, "aggregation": self._settings.aggregation}
        limits = {name: getattr(self._settings, name) for name in ("max_body_bytes", "max_items", "max_steps", "max_queue")}
        return Json({"object": "list", "data": [entry | {"limits": limits}]})

    async def score(self, request: Request) -> Response:
        """One solution (`problem` with `steps` or `text`) or many (`items`): one result for each, in order. What fails is data: null with its reason."""
        return await self._exchange(request, self._score)

    async def pooling(self, request: Request) -> Response:
        """Rendered conversations, text with step tags or token ids, as vLLM's /pooling takes them for process reward models."""
        return await self._exchange(request, self._pooling)

    async def get_reward(self, request: Request) -> Response:
        """One reward a query, as OpenRLHF's remote reward models answer."""
        return await self._exchange(request, self._get_reward)

    async def _score(self, value: Any, place: Place) -> dict[str, Any]:
        request = read_request(value, self._settings)
        aggregation = request.aggregation or self._settings.aggregation
        try:
            check_aggregates(aggregation, self._desk.model.scale)
        except InputError as error:
            raise Refusal(422, f"aggregation: {error}", field="aggregation") from error
        items = request.asked
        raw = [isinstance(item, TextItem) for item in items]
        made = [item.trajectory() for item in items] if not any(raw) else await asyncio.to_thread(lambda: [item.trajectory() for item in items])
        for index, trajectory in enumerate(made):
            if len(trajectory) > self._settings.max_steps:
                field = f"items.{index}.text" if isinstance(request, ManyItems) else "text"
                reason = f"{field}: {len(trajectory)} steps are more than this server's max_steps of {self._settings.max_steps}"
                raise Refusal(422, reason, field=field)
        place.accept(len(made))
        results = [
            item_scores(scored.scores, aggregation=aggregation, usage=scored.usage, paid=scored.paid, steps=trajectory.steps if split else None)
            for scored, trajectory, split in zip(await self._desk.score(made), made, raw, strict=True)
        ]
        return {"model": {"name": self._settings.name, "fingerprint": self._desk.fingerprint}, "aggregation": aggregation, "results": results}

    async def _pooling(self, value: Any, place: Place) -> dict[str, Any]:
        request = pooling.POOLING_REQUEST.validate_python(value, context=self._settings)
        if request.model not in (None, self._settings.name):
            raise Refusal(404, f"the model {request.model!r} is not served here; this is {self._settings.name!r}", field="model")
        tokenizer = getattr(self._desk.model, "tokenizer", None)
        made = await asyncio.to_thread(pooling.solutions, request, tokenizer, self._settings)
        scored = await self._score_known(made, place)
        activated = request.use_activation is not False
        rows = [pooling.unreadable(index) if done is None else pooling.pooled(index, done.scores, activated=activated) for index, done in enumerate(scored)]
        n_tokens = Usage.total(NO_USAGE if done is None else done.usage for done in scored).reward_tokens
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens, "completion_tokens": 0, "prompt_tokens_details": None}
        name = f"pool-{uuid.uuid4().hex}"
        return {"id": name, "object": "list", "created": int(time.time()), "model": self._settings.name, "data": rows, "usage": usage}

    async def _get_reward(self, value: Any, place: Place) -> dict[str, Any]:
        request = openrlhf.RewardRequest.model_validate(value, context=self._settings)
        made = await asyncio.to_thread(openrlhf.solutions, request, self._settings)
        return openrlhf.rewarded([None if done is None else done.scores for done in await self._score_known(made, place)], self._settings)

    async def _score_known(self, made: Sequence[Trajectory | None], place: Place) -> list[Scored | None]:
        """Scores of the trajectories, None where there is none."""
        known = [trajectory for trajectory in made if trajectory is not None]
        place.accept(len(known))
        scored = iter(await self._desk.score(known))
        return [None if trajectory is None else next(scored) for trajectory in made]

    async def _exchange(self, request: Request, work: Work) -> Response:
        """Body in, answer out: a place in the queue first, then the body within its limit, then `work`, dropped when the client goes away."""
        body: bytes | None = None
        with self._desk.place() as place:
            try:
                async with asyncio.timeout(self._settings.request_timeout_s) as limit:
                    body = await read_body(request.stream(), request.headers, self._settings.max_body_bytes)
                    place.hold()
                    return Json(await while_connected(request, work(parse_json(body), place)))
            except ValidationError as error:
                raise invalid(error) from None
            except ClientDisconnect:
                return Response(status_code=GONE)
            except TimeoutError:
                if not limit.expired():
                    raise
                if body is None:
                    raise Refusal(408, f"the body did not arrive within {self._settings.request_timeout_s:g} s", field="body") from None
                raise Refusal(504, f"the answer took longer than {self._settings.request_timeout_s:g} s; send fewer items a request") from None


async def while_connected(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The work's result; when the client goes away first, the work is cancelled. Raises: ClientDisconnect."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Json(Response):
    """JSON in ASCII; see `refusal.encoded`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encoded(content)


class PlainText(Response):
    """Prometheus' text format."""

    media_type = CONTENT_TYPE


def _open_routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    async def healthz() -> Response:
        """The process is alive and answers."""
        return Json({"status": "ok"})

    async def readyz() -> Response:
        """Requests are taken: the model is loaded and the server is not stopping."""
        return Json({"status": desk.state}, status_code=200 if desk.state == "ready" else 503)

    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": StatusAnswer, "description": "Loading, or stopping"}}
    router.add_api_route("/healthz", healthz, methods=["GET"], response_model=StatusAnswer, summary="Alive")
    router.add_api_route("/readyz", readyz, methods=["GET"], response_model=StatusAnswer, summary="Ready", responses=not_ready)
    return router


def _metrics_page(meters: Meters) -> Callable[[], Awaitable[Response]]:
    async def metrics() -> Response:
        """Requests, latency, queue, batches, tokens and unscored steps, in Prometheus' text format."""
        return PlainText(meters.page())

    return metrics


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in statuses}


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return Json(error.to_json(), status_code=error.status, headers=error.headers)


async def _refused_by_router(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.status_code, str(error.detail))
    return Json(refusal.to_json(), status_code=error.status_code, headers=dict(error.headers or {}))


async def _broken(_: Request, error: Exception) -> Response:
    del error  # the log has it
    return Json(Refusal(500, "a mistake in the server; its log says which").to_json(), status_code=500)
