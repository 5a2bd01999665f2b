"""Salvage: rows read straight from the pages of an SQLite file or write-ahead log that SQLite itself refuses, after the published file format.

Nothing here decides which rows are good: the journal's checksums do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGE_SIZE = 4096  # the journal sets it when it creates a file

_LEAF_TABLE = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> bytes

Fetch = Callable[[int], bytes]  # page number -> page, b"" when there is none


def rows_of_file(path: Path) -> Iterator[tuple[Any, ...]]:
    """Every row that a table leaf page of the database file seems to hold, whatever state the rest of the file is in."""
    if not path.exists():
        return
    with path.open("rb") as file:

        def fetch(number: int) -> bytes:
            file.seek((number - 1) * PAGE_SIZE)
            return file.read(PAGE_SIZE)

        for number in range(1, path.stat().st_size // PAGE_SIZE + 2):
            yield from _rows_of_page(fetch(number), 100 if number == 1 else 0, fetch)


def rows_of_log(path: Path) -> Iterator[tuple[Any, ...]]:
    """The same for every frame of a write-ahead log, those after a damaged frame and those of an unfinished commit included."""
    data = path.read_bytes() if path.exists() else b""
    starts: dict[int, int] = {}
    frames: list[tuple[int, int]] = []
    for at in range(_WAL_HEADER, len(data), _FRAME_HEADER + PAGE_SIZE):
        if at + _FRAME_HEADER <= len(data):
            number = int.from_bytes(data[at : at + 4], "big")
            starts[number] = at + _FRAME_HEADER
            frames.append((number, at + _FRAME_HEADER))

    def fetch(number: int) -> bytes:
        start = starts.get(number)
        return b"" if start is None else data[start : start + PAGE_SIZE]

    for number, start in frames:
        yield from _rows_of_page(data[start : start + PAGE_SIZE], 100 if number == 1 else 0, fetch)


def _rows_of_page(page: bytes, offset: int, fetch: Fetch) -> Iterator[tuple[Any, ...]]:
    if len(page) < offset + 8 or page[offset] != _LEAF_TABLE:
        return
    n_cells = int.from_bytes(page[offset + 3 : offset + 5], "big")
    for index in range(min(n_cells, PAGE_SIZE // 4)):
        at = offset + 8 + 2 * index
        cell = int.from_bytes(page[at : at + 2], "big")
        try:
            yield _record(_payload(page, cell, fetch))
        except (IndexError, ValueError, struct.error):
            continue  # not a row, or no longer one


def _payload(page: bytes, cell: int, fetch: Fetch) -> bytes:
    size, at = _varint(page, cell)
    _, at = _varint(page, at)  # the row's number
    most = PAGE_SIZE - 35
    if size <= most:
        return _exactly(page[at : at + size], size)
    least = (PAGE_SIZE - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_SIZE - 4)
    local = local if local <= most else least
    parts = [_exactly(page[at : at + local], local)]
    left = size - local
    following = int.from_bytes(_exactly(page[at + local : at + local + 4], 4), "big")
    while left > 0:
        overflow = _exactly(fetch(following), PAGE_SIZE) if following else b""
        if not overflow:
            raise ValueError("the chain of overflow pages is broken")
        parts.append(overflow[4 : 4 + min(left, PAGE_SIZE - 4)])
        left -= len(parts[-1])
        following = int.from_bytes(overflow[:4], "big")
    return b"".join(parts)


def _record(payload: bytes) -> tuple[Any, ...]:
    end, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        if kind >= 12:
            size = (kind - 12) // 2
            data = _exactly(payload[at : at + size], size)
            values.append(data.decode("utf-8") if kind % 2 else data)
        elif kind in _INTEGERS:
            size = _INTEGERS[kind]
            values.append(int.from_bytes(_exactly(payload[at : at + size], size), "big", signed=True))
        elif kind == 7:
            size = 8
            values.append(struct.unpack(">d", payload[at : at + 8])[0])
        else:
            size = 0
            values.append({0: None, 8: 0, 9: 1}[kind] if kind in (0, 8, 9) else None)
        at += size
    return tuple(values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError("cut short")
    return data
