"""Rows: the JSON objects of a data file, one a line, read one at a time and refused with file, line, field and reason."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeVar, cast

from stepward.core.errors import FormatError, InputError
from stepward.core.record import require, thaw
from stepward.data.atomic import replacing
from stepward.data.set_aside import SetAside

OnError = Literal["raise", "set_aside"]
Row = Mapping[str, Any]
PathLike = str | Path
T = TypeVar("T")

_GZIP = b"\x1f\x8b"
_OTHER_COMPRESSIONS = {b"\x28\xb5\x2f\xfd": "Zstandard", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_BOM = b"\xef\xbb\xbf"


def read_rows(path: PathLike, parse: Callable[[Row], Iterable[T]], *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[T]:
    """What `parse` makes of every row, streaming. Plain or gzip by content, byte-order mark and empty lines allowed, JSON lines or one JSON array.

    `on_error`: "raise" stops at the first malformed row; "set_aside" puts it into `set_aside` with its reason and goes on.

    Raises: InputError for a missing file or options that do not fit together; FormatError for a malformed row, a truncated or damaged file.
    """
    file = Path(path)
    check_readable(file, on_error, set_aside)
    return _rows(file, parse, set_aside)


def check_readable(file: Path, on_error: OnError, set_aside: SetAside | None) -> None:
    """Refuse a path that is no file, and options that contradict each other."""
    if on_error not in ("raise", "set_aside"):
        raise InputError(f"on_error must be 'raise' or 'set_aside', got {on_error!r}")
    if (on_error == "set_aside") != (set_aside is not None):
        raise InputError("on_error='set_aside' and set_aside=SetAside() go together: the collector receives the malformed rows")
    if not file.is_file():
        raise InputError(f"no such file: {str(file)!r}")


def _rows(file: Path, parse: Callable[[Row], Iterable[T]], set_aside: SetAside | None) -> Iterator[T]:
    for line, raw, broken in _lines(file):
        try:
            if broken:
                raise FormatError(broken)
            parsed = list(parse(parse_object(raw)))
        except (InputError, ValueError) as error:  # CountMismatch is a ValueError
            located = locate(error, str(file), line)
            if set_aside is None:
                raise located from error
            set_aside.add(located, raw)
            continue
        yield from parsed


def locate(error: Exception, file: str, line: int | None) -> FormatError:
    """The error with the place where it happened."""
    if isinstance(error, FormatError):
        return FormatError(error.reason, file=file, line=line, field=error.field)
    return FormatError(str(error), file=file, line=line)


def first_row(path: PathLike) -> Row | None:
    """The first row, None for a file without rows."""
    file = Path(path)
    check_readable(file, "raise", None)
    for line, raw, broken in _lines(file):
        try:
            if broken:
                raise FormatError(broken)
            return parse_object(raw)
        except FormatError as error:
            raise locate(error, str(file), line) from error
    return None


def readable_rows(path: PathLike) -> Iterator[Row]:
    """The rows that are JSON objects; malformed ones are passed over."""
    for _, raw, broken in _lines(Path(path)):
        with suppress(FormatError):
            if not broken:
                yield parse_object(raw)


def parse_object(raw: bytes) -> Row:
    """One JSON object from UTF-8 bytes.

    Raises: FormatError for bytes that are not UTF-8, text that is not JSON (NaN and Infinity are not), or JSON that is no object.
    """
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from error
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise FormatError("not readable: nested too deeply") from error
    if not isinstance(row, dict):
        raise FormatError(f"expected a JSON object, got {type(row).__name__}")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise FormatError(f"not JSON: {name} is not a JSON number; unknown values are null")


def _lines(file: Path) -> Iterator[tuple[int, bytes, str]]:
    """(1-based line, bytes, why the file cannot be read further) of every line that is not empty."""
    line = 0
    with _open(file) as stream:
        try:
            while raw := stream.readline():
                line += 1
                text = raw.removeprefix(_BOM).strip() if line == 1 else raw.strip()
                if line == 1 and text.startswith(b"["):
                    yield from _array_items(text + b"\n" + stream.read())
                    return
                if text:
                    yield line, text, ""
        except EOFError:
            yield line + 1, b"", "the gzip stream ends early: the file is truncated; fetch it again"
        except (gzip.BadGzipFile, zlib.error) as error:
            yield line + 1, b"", f"the gzip stream is damaged ({error}); fetch the file again"


def _array_items(data: bytes) -> Iterator[tuple[int, bytes, str]]:
    """The items of a file that is one JSON array; the number of the item stands for the line. Such a file is read whole."""
    try:
        items = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        yield 1, b"", f"begins with '[' but is not one JSON array: {error}"
        return
    for number, item in enumerate(items, start=1):
        yield number, json.dumps(item).encode(), ""


def _open(file: Path) -> IO[bytes]:
    with file.open("rb") as stream:
        magic = stream.read(6)
    for prefix, name in _OTHER_COMPRESSIONS.items():
        if magic.startswith(prefix):
            raise FormatError(f"{name} compression is not supported; decompress the file or use gzip", file=str(file))
    return cast(IO[bytes], gzip.open(file, "rb")) if magic.startswith(_GZIP) else file.open("rb")


def write_rows(rows: Iterable[Mapping[str, Any]], path: PathLike) -> int:
    """Write one JSON object a line and return how many; gzip when the name ends in .gz. The file appears whole or not at all."""
    count = 0
    with replacing(path) as stream:
        for row in rows:
            stream.write(json_line(row))
            count += 1
    return count


def json_line(row: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON and a line feed. Readable characters stay as they are; a row with lone surrogates, which UTF-8 cannot hold, is escaped.

    Raises: InputError for NaN, infinities and values that JSON has no word for.
    """
    try:
        text = json.dumps(thaw(row), ensure_ascii=False, allow_nan=False)
        with suppress(UnicodeEncodeError):
            return text.encode("utf-8") + b"\n"
        return json.dumps(thaw(row), allow_nan=False).encode("ascii") + b"\n"
    except (ValueError, TypeError) as error:
        raise InputError(f"cannot be written as JSON: {error}; write an unknown number as null with a reason") from error


def strings(row: Row, field: str) -> list[str]:
    """The field's list of strings.

    Raises: FormatError naming the field, and the index of an item that is no string.
    """
    values = require(row, field, list)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise FormatError(f"expected str, got {type(value).__name__} {str(value)[:80]!r}", field=f"{field}[{index}]")
    return cast(list[str], values)


def without(row: Row, *fields: str) -> dict[str, Any]:
    """The row's other fields, which an example keeps as metadata."""
    return {name: value for name, value in row.items() if name not in fields}
