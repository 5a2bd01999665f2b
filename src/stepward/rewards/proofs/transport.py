"""Transports: messages to a proof assistant and back, over a process, a socket, or a recording. What the messages mean is elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from stepward.core.errors import RequestFailed

_MAX_MESSAGE = 1 << 24


class Transport(Protocol):
    """One message at a time, in order; a message is text as the other side frames it. Raises: RequestFailed when the other side is gone."""

    async def send(self, message: str) -> None: ...

    async def receive(self) -> str: ...

    async def close(self) -> None: ...


class Process:
    """A program that reads messages from standard input, each ended by an empty line, and answers likewise (the REPL of Lean 4).

    Started when it is first needed, in a session of its own, with at most `memory_limit_mb` of address space (None: unlimited); killed with all it
    started on `close`.
    """

    def __init__(self, argv: Sequence[str], *, folder: str | None = None, memory_limit_mb: int | None = 16384) -> None:
        self._argv, self._folder, self._memory_limit_mb = tuple(argv), folder, memory_limit_mb
        self._process: asyncio.subprocess.Process | None = None

    async def send(self, message: str) -> None:
        process = await self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(message.strip().encode() + b"\n\n")
            await process.stdin.drain()
        except (OSError, ConnectionError) as error:
            raise RequestFailed(f"{self._argv[0]} is gone: {error}") from error

    async def receive(self) -> str:
        process = await self._started()
        assert process.stdout is not None
        lines: list[bytes] = []
        size = 0
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError as error:
                raise RequestFailed(f"{self._argv[0]} sent too long a line") from error
            size += len(line)
            if not line or size > _MAX_MESSAGE:
                raise RequestFailed(f"{self._argv[0]} {'ended' if not line else 'sent too much'}")
            if line.strip():
                lines.append(line)
            elif lines:
                return b"".join(lines).decode(errors="replace")

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._argv, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, cwd=self._folder, start_new_session=True, limit=_MAX_MESSAGE
                )
            except OSError as error:
                raise RequestFailed(f"{self._argv[0]} could not be started: {error}") from error
            if self._memory_limit_mb is not None and hasattr(resource, "prlimit"):
                with contextlib.suppress(OSError, ValueError):
                    resource.prlimit(self._process.pid, resource.RLIMIT_AS, (self._memory_limit_mb << 20,) * 2)
        return self._process


class Socket:
    """Isabelle's server: lines over TCP; a line that is a number announces a message of that many bytes. The password goes first."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self._host, self._port, self._password = host, port, password
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, message: str) -> None:
        _, writer = await self._opened()
        body = message.strip().encode()
        try:
            writer.write((str(len(body)).encode() + b"\n" + body) if b"\n" in body or body.isdigit() else body + b"\n")
            await writer.drain()
        except (OSError, ConnectionError) as error:
            raise RequestFailed(f"the Isabelle server is gone: {error}") from error

    async def receive(self) -> str:
        reader, _ = await self._opened()
        try:
            line = (await reader.readuntil(b"\n")).strip()
            if line.isdigit():
                if int(line) > _MAX_MESSAGE:
                    raise RequestFailed(f"the Isabelle server announces {int(line)} bytes")
                line = (await reader.readexactly(int(line))).strip()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise RequestFailed(f"the Isabelle server is gone: {error}") from error
        return line.decode(errors="replace")

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(self._host, self._port, limit=_MAX_MESSAGE)
            except OSError as error:
                raise RequestFailed(f"no Isabelle server at {self._host}:{self._port}: {error}") from error
            self._streams[1].write(self._password.encode() + b"\n")
            greeting = await self.receive()
            if not greeting.startswith("OK"):
                await self.close()
                raise RequestFailed(f"the Isabelle server refuses: {greeting[:200]}")
        return self._streams


class Recorded:
    """Answers from a recording: [{"send": message, "receive": [message, ...]}], in order. Another message than the next recorded one is a failure."""

    def __init__(self, exchanges: Iterable[Mapping[str, Any]]) -> None:
        self._exchanges = list(exchanges)
        self._at = 0
        self._waiting: list[str] = []

    async def send(self, message: str) -> None:
        if self._waiting or self._at == len(self._exchanges):
            raise RequestFailed(f"the recording has no request {message[:200]!r} here")
        exchange = self._exchanges[self._at]
        if plain(message) != plain(exchange["send"]):
            raise RequestFailed(f"the recording has {exchange['send']!r:.200} where {message!r:.200} is asked")
        self._at += 1
        self._waiting = list(exchange["receive"])

    async def receive(self) -> str:
        if not self._waiting:
            raise RequestFailed("the recording ends here")
        return self._waiting.pop(0)

    async def close(self) -> None:
        self._waiting = []


class Recording:
    """Passes messages on and keeps them in `exchanges`, for `Recorded`."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.exchanges: list[dict[str, Any]] = []

    async def send(self, message: str) -> None:
        self.exchanges.append({"send": message, "receive": []})
        await self._inner.send(message)

    async def receive(self) -> str:
        message = await self._inner.receive()
        self.exchanges[-1]["receive"].append(message)
        return message

    async def close(self) -> None:
        await self._inner.close()


def plain(message: str) -> Any:
    """A message as JSON where it is, so that spaces and the order of keys do not matter; a word before the JSON stays."""
    head, brace, rest = message.strip().partition("{")
    try:
        return [head.strip(), json.loads(brace + rest)] if brace else message.strip()
    except ValueError:
        return message.strip()
