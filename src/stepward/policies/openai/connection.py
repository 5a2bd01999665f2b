"""Connection: JSON over HTTP with time-outs, retries and a limit on what is in flight. Knows no request's meaning."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from stepward.core import ContextOverflow, InputError, RequestFailed, RequestRetryable
from stepward.engine.retry import Retry, retrying

_TRANSIENT = frozenset({408, 409, 425, 429})
_OVERFLOW = (
    "context length", "context_length", "maximum context", "context window", "too many tokens",
    "max_tokens must be at least 1, got 0",  # vLLM where the prompt alone fills the context: nobody asked for 0
)  # fmt: skip
_EXCERPT = 300
_JSON = {"Content-Type": "application/json"}


class NoSuchEndpoint(RequestFailed):
    """The server does not know this path."""


class Refused(RequestFailed):
    """The server understood the request and will not do it (4xx); asking again is useless."""


class Connection:
    """One client an event loop, closed when that loop ends or by `close`. `hint` says what to check where the server does not know a path."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout_s: float,
        concurrency: int,
        retry: Retry,
        hint: str = "check base_url (it usually ends with /v1) and model_name",
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise InputError(f"base_url must start with http:// or https://, got {base_url!r}; for example http://localhost:8000/v1")
        if concurrency < 1 or timeout_s <= 0.0:
            raise InputError(f"a connection needs concurrency >= 1 and timeout_s > 0, got {concurrency!r} and {timeout_s!r}")
        try:
            httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise InputError(f"base_url {base_url!r} is not an address: {error}; for example http://localhost:8000/v1") from error
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s, self._concurrency, self._retry, self._hint = timeout_s, concurrency, retry, hint
        self._lives: WeakKeyDictionary[asyncio.AbstractEventLoop, _Life] = WeakKeyDictionary()

    async def post(self, path: str, body: dict[str, Any], *, key: str = "") -> dict[str, Any]:
        """The JSON object that the server answers, after retries.

        Raises: RequestFailed with the reason; NoSuchEndpoint for 404, 405 and 501, Refused for other 4xx that no retry can mend; ContextOverflow where the
        server says that the text is too long.
        """
        return await self._request("POST", path, body, key=key)

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at this path, after retries; raises as `post` does."""
        return await self._request("GET", path, None, key=path)

    async def _request(self, method: str, path: str, body: dict[str, Any] | None, *, key: str) -> dict[str, Any]:
        life = await self._life()

        async def attempt() -> dict[str, Any]:
            async with life.slots:
                return await self._attempt(life.client, method, path, body)

        return await retrying(attempt, self._retry, key=key)

    async def close(self) -> None:
        """Close this event loop's client; a later request opens another."""
        life = self._lives.pop(asyncio.get_running_loop(), None)
        if life is not None:
            await life.generator.aclose()

    async def _life(self) -> _Life:
        loop = asyncio.get_running_loop()
        life = self._lives.get(loop)
        if life is None:
            generator = self._opened()
            life = self._lives[loop] = _Life(generator, asyncio.Semaphore(self._concurrency))
            life.client = await generator.__anext__()  # never suspends before the first yield
        return life

    async def _opened(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """An open client; an event loop that ends closes its generators, and so the client."""
        limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        async with httpx.AsyncClient(headers=self._headers, timeout=httpx.Timeout(self._timeout_s, pool=None), limits=limits) as client:
            yield client

    async def _attempt(self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        url = f"{self.base_url}/{path}"
        data = b"" if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")  # a lone surrogate has no bytes
        try:
            async with asyncio.timeout(self._timeout_s):  # of the whole request; httpx's own is per read
                response = await client.request(method, url, content=data, headers=_JSON)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise RequestRetryable(f"{url} did not answer within {self._timeout_s:g} s; raise timeout_s or lower concurrency") from error
        except httpx.RequestError as error:
            raise RequestRetryable(f"{url}: {type(error).__name__}: {error}; is the server running?") from error
        status, text = response.status_code, response.text
        if status in _TRANSIENT or (status >= 500 and status != 501):
            raise RequestRetryable(f"{url} answered {status}: {text[:_EXCERPT]}", retry_after_s=_retry_after_s(response.headers.get("retry-after")))
        if status in (404, 405, 501):
            raise NoSuchEndpoint(f"{url} answered {status}: {text[:_EXCERPT]}; {self._hint}")
        if status >= 400:
            if status in (400, 413, 422) and any(sign in text.lower() for sign in _OVERFLOW):
                raise ContextOverflow(f"{url} answered {status}: {text[:_EXCERPT]}")
            raise Refused(f"{url} answered {status}: {text[:_EXCERPT]}")
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise RequestRetryable(f"{url} answered {status} with malformed JSON: {text[:_EXCERPT]!r}") from error
        if not isinstance(answer, dict):
            raise RequestRetryable(f"{url} answered {status} with {type(answer).__name__} instead of an object: {text[:_EXCERPT]!r}")
        return answer


class _Life:
    client: httpx.AsyncClient

    def __init__(self, generator: AsyncGenerator[httpx.AsyncClient, None], slots: asyncio.Semaphore) -> None:
        self.generator, self.slots = generator, slots


def _retry_after_s(header: str | None) -> float | None:
    """Seconds to wait: the header holds a number or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
