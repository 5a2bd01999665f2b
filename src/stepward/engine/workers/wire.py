"""Wire: JSON messages with a four-byte length in front, between a pool and its workers."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

_MAX_MESSAGE = 1 << 26


def patience_s(time_limit_s: float) -> float:
    """Seconds on the clock that a request with this limit of processor time may take: on a busy machine one waits, and waiting is not its fault."""
    return 3.0 * time_limit_s + 5.0


class WireClosed(Exception):
    """The other side is gone."""


class WireTimeout(Exception):
    """Nothing complete arrived in time."""


def send(fd: int, message: dict[str, Any]) -> None:
    """Write one message; WireClosed when nobody reads."""
    body = json.dumps(message).encode("ascii")
    data = memoryview(len(body).to_bytes(4, "big") + body)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        raise WireClosed(str(error)) from None


def receive(fd: int, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Read one message; WireTimeout after `timeout_s` seconds, WireClosed at the end of the stream or on nonsense."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    size = int.from_bytes(_exactly(fd, 4, deadline), "big")
    if size > _MAX_MESSAGE:
        raise WireClosed(f"message of {size} bytes")
    try:
        message = json.loads(_exactly(fd, size, deadline))
    except ValueError as error:
        raise WireClosed(str(error)) from None
    if not isinstance(message, dict):
        raise WireClosed("not an object")
    return message


def _exactly(fd: int, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not _readable(fd, left):
                raise WireTimeout
        try:
            part = os.read(fd, size - len(parts))
        except OSError as error:
            raise WireClosed(str(error)) from None
        if not part:
            raise WireClosed("end of stream")
        parts += part
    return bytes(parts)


def _readable(fd: int, timeout_s: float) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], timeout_s)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(max(1, int(timeout_s * 1000))))
