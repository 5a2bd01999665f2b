"""Server: an address that scores, what it says about itself, and the form in which it takes tokens. Knows no protocol's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from stepward.core import InputError, RequestFailed, Usage
from stepward.engine.retry import Retry
from stepward.policies.openai.choice import read_usage
from stepward.policies.openai.connection import Connection, NoSuchEndpoint, Refused

Sending = Literal["ids", "text"]
Ids = Sequence[int]
_HINT = "check the address, the model's name, and which endpoints the server was started with"
Body = Callable[[list[Any]], dict[str, Any]]


@dataclass(frozen=True)
class Facts:
    """What the server says about the model that it serves; None where it does not say."""

    name: str | None = None
    max_tokens: int | None = None


class Server:
    """A scoring server at `url` (with or without /v1 at its end), with retries, time-outs and at most `concurrency` requests in flight.

    `model_name` is the model's name there; where it is not given, the first one that the server lists is asked. `revision` says what the name does not.
    `send`: prompts go as token "ids", so that no difference between tokenizers can creep in, or as "text" to servers that take no ids. Then the text must
    give the same ids again with the local tokenizer; that the server's is the same cannot be seen from here.
    """

    def __init__(
        self,
        url: str,
        *,
        model_name: str = "",
        revision: str = "",
        api_key: str | None = None,
        timeout_s: float = 300.0,
        concurrency: int = 32,
        retry: Retry | None = None,
        send: Sending = "ids",
    ) -> None:
        if send not in get_args(Sending):
            raise InputError(f"send must be one of {', '.join(get_args(Sending))}, got {send!r}")
        self.model_name, self.revision = model_name, revision
        self._connection = Connection(
            url.rstrip("/").removesuffix("/v1"), api_key=api_key, timeout_s=timeout_s, concurrency=concurrency, retry=retry or Retry(), hint=_HINT
        )
        self.send = send
        self._facts: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Facts]] = WeakKeyDictionary()

    @property
    def url(self) -> str:
        return self._connection.base_url

    @property
    def identity(self) -> tuple[str, str]:
        """What names the model in fingerprints: its name and revision where a name was given, else the address."""
        return (self.model_name or self.url, self.revision)

    async def close(self) -> None:
        """Close this event loop's connections (the end of the event loop does it too)."""
        await self._connection.close()

    async def facts(self) -> Facts:
        """What `GET /v1/models` says, asked once an event loop; nothing where the server has no such list.

        Raises: RequestFailed when the server cannot be reached.
        """
        loop = asyncio.get_running_loop()
        asked = self._facts.get(loop)
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception() is not None)):
            asked = self._facts[loop] = loop.create_task(self._ask())
        return await asyncio.shield(asked)

    async def ask(self, path: str, prompts: Sequence[Ids], body: Body, tokenizer: Any, *, key: str) -> dict[str, Any]:
        """The answer to `body(prompts)`, where each prompt is a list of ids, or a text that gives these ids.

        Raises: ContextOverflow; RequestFailed.
        """
        name = self.model_name or (await self.facts()).name
        given = [list(prompt) for prompt in prompts] if self.send == "ids" else _texts(prompts, tokenizer)
        return await self._connection.post(path, ({} if name is None else {"model": name}) | body(given), key=key)

    async def _ask(self) -> Facts:
        try:
            rows = (await self._connection.get("v1/models")).get("data")
        except (NoSuchEndpoint, Refused):
            return Facts()
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        named = [row for row in listed if row.get("id") == self.model_name] or listed[:1]
        name, limit = (named[0].get("id"), named[0].get("max_model_len")) if named else (None, None)
        known = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
        return Facts(name if isinstance(name, str) else None, limit if known else None)


def spent_by(answers: Sequence[dict[str, Any]]) -> Usage:
    """What these answers cost by the server's own count, as usage of a reward model."""
    total = Usage.total(read_usage(answer) for answer in answers)
    return Usage(reward_tokens=total.policy_prefill, reward_cached=total.policy_cached, reward_written=total.policy_tokens, calls=total.calls)


def _texts(prompts: Sequence[Ids], tokenizer: Any) -> list[str]:
    """Each prompt as the text that a server's tokenizer turns into the same ids.

    Raises: RequestFailed where there is none, for then the server would score something else.
    """
    texts: list[str] = tokenizer.batch_decode([list(prompt) for prompt in prompts], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tokenizer(texts, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    for prompt, ids in zip(prompts, again, strict=True):
        if list(prompt) != list(ids):
            raise RequestFailed(
                "the server takes text only, and this text would be read as other tokens there (a step spells a special token, or its end melts into its "
                "marker); use a server that takes token ids"
            )
    return texts
