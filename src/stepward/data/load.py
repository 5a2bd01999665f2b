"""Loading: labelled examples from a file of any known format, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from stepward.core import Example, FormatError, InputError
from stepward.data import math_shepherd, normalised, prm800k, prmbench, processbench, solutions, stepwise, store
from stepward.data.rows import OnError, PathLike, Row, first_row, readable_rows
from stepward.data.set_aside import SetAside

Format = Literal["records", "normalised", "processbench", "prm800k", "math_shepherd", "prmbench", "stepwise", "solutions"]

_FIELDS: dict[str, tuple[str, ...]] = {
    "normalised": ("problem", "steps", "first_error"),
    "processbench": ("problem", "steps", "label"),
    "prm800k": ("question", "label", "is_quality_control_question"),
    "prmbench": ("modified_process", "error_steps"),
    "stepwise": ("prompt", "completions", "labels"),
    "math_shepherd": ("input", "label"),
}
_PLAIN = (("problem", "steps"), ("problem", "solution"))  # of unlabelled solutions; asked last, because others have these fields too
_READERS: dict[str, Callable[..., Iterator[Any]]] = {
    "records": store.read_records,
    "normalised": normalised.read,
    "processbench": processbench.read,
    "prm800k": prm800k.read,
    "math_shepherd": math_shepherd.read,
    "prmbench": prmbench.read,
    "stepwise": stepwise.read,
    "solutions": solutions.read,
}
_WRITERS: dict[str, Callable[[Iterable[Example], PathLike], int]] = {
    "records": store.write_records,
    "normalised": normalised.write,
    "processbench": processbench.write,
    "prm800k": prm800k.write,
    "math_shepherd": math_shepherd.write,
    "prmbench": prmbench.write,
    "stepwise": stepwise.write,
    "solutions": solutions.write,
}
FORMATS = tuple(_READERS)


def read_examples(
    path: PathLike, format: Format | Literal["auto"] | str = "auto", *, on_error: OnError = "raise", set_aside: SetAside | None = None, **options: Any
) -> Iterator[Example]:
    """The examples of a file, streaming. "auto" tells the format by the fields of the first row (of the first
    that is well-formed, where malformed ones are set aside); Parquet holds records.

    `options` go to the format's reader: `neutral` (normalised, prm800k), `paths` (prm800k), `semantics` and `source` (stepwise).

    Raises: InputError for a missing file, an unknown format or option; FormatError for a malformed row.
    """
    name = detect(path, on_error=on_error) if format == "auto" else check_format(format)
    if name is None:
        return iter(())
    try:
        rows = _READERS[name](path, on_error=on_error, set_aside=set_aside, **options)
    except TypeError as error:
        raise InputError(f"the {name!r} format has no option among {', '.join(options)}") from error
    return _examples_only(rows, str(path)) if name == "records" else rows


def _examples_only(rows: Iterable[Any], file: str) -> Iterator[Example]:
    for row in rows:
        if not isinstance(row, Example):
            raise FormatError(f"expected examples, got a {type(row).__name__}; read other records with read_records", file=file, field="kind")
        yield row


def write_examples(examples: Iterable[Example], path: PathLike, format: Format | str = "records") -> int:
    """Write examples in a format and return how many; the file appears whole or not at all.

    Raises: InputError for an unknown format, or an example that the format cannot hold.
    """
    return _WRITERS[check_format(format)](examples, path)


def detect(path: PathLike, *, on_error: OnError = "raise") -> str | None:
    """The format of a file by its suffix or the fields of its first row; None for a file without rows.

    With `on_error` "set_aside" the first row that has the fields of a format decides; one with labels, if there is any.

    Raises: FormatError when no format fits.
    """
    if Path(path).suffix == ".parquet":
        return "records"
    if on_error == "set_aside" and Path(path).is_file():
        names = (name for name in map(format_of, readable_rows(path)) if name)
        first = next(names, None)
        if first is not None:
            return first if first != "solutions" else next((name for name in names if name != first), first)
    row = first_row(path)
    if row is None:
        return None
    name = format_of(row)
    if name is None:
        known = "; ".join(f"{name}: {', '.join(fields)}" for name, fields in [*_FIELDS.items(), *(("solutions", fields) for fields in _PLAIN)])
        raise FormatError(f"no known format has the fields {', '.join(row) or '(none)'}; known are {known}", file=str(path), line=1)
    return name


def format_of(row: Row) -> str | None:
    """The format that has the row's fields; None when none has."""
    if "kind" in row and "version" in row:
        return "records"
    labelled = next((name for name, fields in _FIELDS.items() if all(field in row for field in fields)), None)
    return labelled or ("solutions" if any(all(field in row for field in fields) for fields in _PLAIN) else None)


def check_format(format: str) -> str:
    """The format's name if it is known. Raises: InputError listing the known ones."""
    if format not in _READERS:
        raise InputError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    return format
