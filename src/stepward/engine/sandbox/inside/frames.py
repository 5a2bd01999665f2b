"""Frames on a socket or pipe: a JSON header with byte strings behind it. What the caller, the monitor and the warden tell each other."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

MAX_FRAME = 1 << 30


class Closed(Exception):
    """The other side is gone, or sends nonsense."""


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    head = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode("ascii")
    return b"".join([len(head).to_bytes(4, "big"), head, *blobs])


def send(fd: int, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Write one frame. Raises: Closed when nobody reads."""
    data = memoryview(pack(header, blobs))
    try:
        while data:
            data = data[os.write(fd, data[: 1 << 20]) :]
    except OSError as error:
        raise Closed(str(error)) from None


def receive(fd: int) -> tuple[dict[str, Any], list[bytes]]:
    """Read one frame. Raises: Closed at the end of the stream or on nonsense."""
    size = int.from_bytes(_exactly(fd, 4), "big")
    if size > MAX_FRAME:
        raise Closed(f"a header of {size} bytes")
    try:
        header = json.loads(_exactly(fd, size))
        sizes = [int(length) for length in header["blobs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Closed(str(error)) from None
    if min(sizes, default=0) < 0 or sum(sizes) > MAX_FRAME:
        raise Closed("blobs of impossible size")
    return header, [_exactly(fd, length) for length in sizes]


def _exactly(fd: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = os.read(fd, min(size - len(parts), 1 << 20))
        except OSError as error:
            raise Closed(str(error)) from None
        if not part:
            raise Closed("end of stream")
        parts += part
    return bytes(parts)
