"""The record store: any noun of `core`, written to JSON lines or Parquet and read back exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from stepward.core import FormatError, InputError, from_record
from stepward.core.record import Record
from stepward.data.atomic import replacing
from stepward.data.rows import OnError, PathLike, Row, check_readable, json_line, locate, read_rows, write_rows
from stepward.data.set_aside import SetAside

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_BATCH = 1000  # records a row group


def write_records(records: Iterable[Record], path: PathLike) -> int:
    """Write records and return how many; the suffix decides: .jsonl, .jsonl.gz or .parquet. The file appears whole or not at all.

    JSON lines hold records of any kinds. A Parquet file holds one kind, in typed columns (see `stepward.data.columns`).

    Raises: InputError for another suffix, a value that JSON has no word for, or several kinds in one Parquet file.
    """
    rows = (record.to_record() for record in records)
    return _write_parquet(rows, path) if _suffix(path) == ".parquet" else write_rows(rows, path)


def read_records(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Any]:
    """The records of a file, streaming. JSON lines are plain or gzip, whatever their name; Parquet is told by its suffix.

    Raises: InputError for a missing file or another suffix; FormatError, with the line, for a record that cannot be read.
    """
    if _suffix(path) == ".parquet":
        file = Path(path)
        check_readable(file, on_error, set_aside)
        return _read_parquet(file, set_aside)
    return read_rows(path, lambda row: [_noun(row)], on_error=on_error, set_aside=set_aside)


def _noun(row: Row) -> Any:
    """`from_record`, where a value of the wrong shape deep inside is a malformed row like any other."""
    try:
        return from_record(row)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"not a {row.get('kind')!r} record: {type(error).__name__}: {error}") from error


def _suffix(path: PathLike) -> str:
    for suffix in SUFFIXES:
        if str(path).endswith(suffix):
            return suffix
    raise InputError(f"cannot tell the store's kind from {str(path)!r}; end its name in one of {', '.join(SUFFIXES)}")


def _write_parquet(rows: Iterator[dict[str, Any]], path: PathLike) -> int:
    from stepward.data.columns import encode_table, schema_of

    first = next(rows, None)
    kind = None if first is None else str(first["kind"])
    schema = schema_of(kind)
    pyarrow_parquet = _parquet()
    count = 0
    with replacing(path) as stream, pyarrow_parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        remaining = chain([] if first is None else [first], rows)
        while batch := list(islice(remaining, _BATCH)):
            others = {row["kind"] for row in batch} - {kind}
            if others:
                raise InputError(f"a Parquet file holds one kind of record, got {kind!r} and {others.pop()!r}; write several files, or .jsonl")
            for row in batch:
                json_line(row)  # refuses what JSON has no word for
            writer.write_table(encode_table(batch, schema))
            count += len(batch)
    return count


def _read_parquet(file: Path, set_aside: SetAside | None) -> Iterator[Any]:
    import pyarrow

    from stepward.data.columns import decode_row

    line = 0
    try:
        with _parquet().ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for cells in batch.to_pylist():
                    line += 1
                    try:
                        record = _noun(decode_row(cells))
                    except ValueError as error:
                        located = locate(error, str(file), line)
                        if set_aside is None:
                            raise located from error
                        set_aside.add(located, json.dumps(cells, default=str).encode())
                        continue
                    yield record
    except (pyarrow.ArrowException, OSError) as error:
        damaged = FormatError(f"not a readable Parquet file: {error}", file=str(file), line=line + 1 if line else None)
        if set_aside is None:
            raise damaged from error
        set_aside.add(damaged, b"")


def _parquet() -> Any:
    import pyarrow.parquet

    return pyarrow.parquet
