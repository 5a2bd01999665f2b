"""SetAside: the malformed rows of a read, kept with the reasons why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepward.core.errors import FormatError
from stepward.data.atomic import replacing


@dataclass(frozen=True)
class Rejected:
    """One malformed row: where it stood, what is wrong with it, and its text as found (bytes that are not UTF-8 as lone surrogates)."""

    file: str
    line: int | None
    field: str
    reason: str
    row: str

    def to_record(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "field": self.field, "reason": self.reason, "row": self.row}


class SetAside:
    """Collects malformed rows while the good ones go on: `read(path, on_error="set_aside", set_aside=SetAside())`."""

    def __init__(self) -> None:
        self.rows: list[Rejected] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Rejected]:
        return iter(self.rows)

    def add(self, error: FormatError, raw: bytes) -> None:
        """Keep the row that `error` is about."""
        self.rows.append(Rejected(error.file, error.line, error.field, error.reason, raw.decode("utf-8", "surrogateescape")))

    def write(self) -> list[Path]:
        """Write the rows of every FILE to FILE.rejected.jsonl, each with its line, field and reason; the paths written."""
        paths = []
        for file in dict.fromkeys(row.file for row in self.rows):
            path = Path(f"{file}.rejected.jsonl")
            with replacing(path) as stream:
                stream.writelines(json.dumps(row.to_record()).encode() + b"\n" for row in self.rows if row.file == file)
            paths.append(path)
        return paths

    def summary(self) -> str:
        """One line for a log: how many, and the first reason; empty when nothing was set aside."""
        if not self.rows:
            return ""
        first = self.rows[0]
        return f"{len(self.rows)} malformed rows set aside; the first: {FormatError(first.reason, file=first.file, line=first.line, field=first.field)}"
