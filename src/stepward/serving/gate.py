"""Gate: who is let in, and the count of who was answered how. What the routes do is in `app`."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from stepward.serving.metrics import Meters
from stepward.serving.refusal import Refusal

Message = MutableMapping[str, Any]
ASGI = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Guard:
    """Lets in who sends the token; the comparison takes the same time for every other one."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else hashlib.sha256(token.encode("ascii")).digest()

    async def __call__(self, request: Request) -> None:
        if self._digest is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(hashlib.sha256(given.strip().encode("utf-8", "surrogatepass")).digest(), self._digest)
        if scheme.lower() != "bearer" or not same:
            raise Refusal(401, "a valid token is needed: send Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"})


class Telemetry:
    """Counts answers and their seconds by route."""

    def __init__(self, app: ASGI, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._meters.answered(route, status, time.perf_counter() - start)
