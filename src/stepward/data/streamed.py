"""Streamed: a file of records that grows as results finish, in any order, and stands in the right order in the end. Reading is the store's business."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from stepward.core import InputError, from_record
from stepward.core.record import Record
from stepward.data.atomic import replacing
from stepward.data.rows import PathLike, json_line, parse_object
from stepward.data.store import SUFFIXES, write_records


class RecordStream:
    """`with RecordStream(path) as stream: stream.add(position, record)`.

    Each record is on disk when `add` returns, as one JSON line: in `path` itself for .jsonl and .jsonl.gz, whose every state is a readable file; in
    `path`.part.jsonl for .parquet, which has to be written at once. When the body ends, `path` holds the records by position, the same bytes in whatever
    order they came. When it fails or the process dies, what was added stays. A file that was there is replaced by the first record that is added.

    Raises: InputError for another suffix, or a position that was added before.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        suffix = next((suffix for suffix in SUFFIXES if self.path.name.endswith(suffix)), None)
        if suffix is None:
            raise InputError(f"cannot tell the store's kind from {str(path)!r}; end its name in one of {', '.join(SUFFIXES)}")
        self._final = suffix
        self.growing = self.path.with_name(self.path.name + ".part.jsonl") if suffix == ".parquet" else self.path
        self._places: dict[int, tuple[int, int]] = {}  # position -> where its bytes stand in the growing file
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> RecordStream:
        return self

    def add(self, position: int, record: Record) -> None:
        """Write the record that belongs at this position."""
        if position in self._places:
            raise InputError(f"record {position} was added before")
        if self._stream is None:
            self.growing.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.growing.open("wb", buffering=0)
        line = json_line(record.to_record())
        packed = gzip.compress(line, mtime=0) if self._final == ".jsonl.gz" else line  # one member a record: cut off anywhere, the others can be read
        self._places[position] = (self._stream.tell(), len(packed))
        self._stream.write(packed)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()
        if kind is not None:
            return
        self._in_order()

    def _in_order(self) -> None:
        if self._final == ".parquet":
            write_records((from_record(parse_object(line)) for line in self._lines()), self.path)
            self.growing.unlink(missing_ok=True)
            return
        with replacing(self.path) as final:
            for line in self._lines():
                final.write(line)

    def _lines(self) -> Iterator[bytes]:
        if not self._places:
            return
        with self.growing.open("rb") as stream:
            for position in sorted(self._places):
                at, length = self._places[position]
                stream.seek(at)
                packed = stream.read(length)
                yield gzip.decompress(packed) if self._final == ".jsonl.gz" else packed
