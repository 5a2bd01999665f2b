"""Table: columns and rows of a problem, from its metadata or from a Markdown table in its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from stepward.core import Problem

_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*")
_PLAIN_NUMBER = re.compile(r"[-−]?[$€£]?\s?(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?%?")


@dataclass(frozen=True)
class Table:
    """`columns` names and `rows` of texts, all of equal length; `name` "" where it has none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    name: str = ""

    @cached_property
    def keys(self) -> dict[str, int]:
        """Row numbers by the words of a row's first cell; a first cell that several rows have is no key."""
        found: dict[str, int] = {}
        repeated: set[str] = set()
        for number, row in enumerate(self.rows):
            key = folded(row[0]) if row else ""
            if key in found:
                repeated.add(key)
            found.setdefault(key, number)
        return {key: number for key, number in found.items() if key and key not in repeated}

    def column(self, name: str) -> int | None:
        """The place of the column of this name; None when there is none or several."""
        places = [place for place, column in enumerate(self.columns) if folded(column) == folded(name)]
        return places[0] if len(places) == 1 else None

    def numbers(self, place: int) -> list[str] | None:
        """A column's cells, if all are numbers."""
        cells = [row[place] for row in self.rows]
        return cells if cells and all(is_number(cell) for cell in cells) else None


def folded(text: str) -> str:
    """Words in lower case, without marks of emphasis."""
    return " ".join(re.sub(r"[*_`\"]", " ", text).casefold().split())


def is_number(cell: str) -> bool:
    return _PLAIN_NUMBER.fullmatch(cell.strip()) is not None


def tables_of(problem: Problem) -> list[Table]:
    """metadata["tables"] = {name: {"columns", "rows"}} where there is one, else the Markdown tables of the prompt."""
    given = problem.metadata.get("tables")
    if isinstance(given, Mapping):
        found = []
        for name, table in given.items():
            if isinstance(table, Mapping) and isinstance(table.get("columns"), Sequence) and isinstance(table.get("rows"), Sequence):
                found += _checked(table["columns"], table["rows"], str(name))
        return found
    return markdown_tables(problem.prompt)


def markdown_tables(text: str) -> list[Table]:
    """Tables of a header line, a rule of dashes and rows, cells apart by |. A row with another number of cells ends the table."""
    lines = text.split("\n")
    found: list[Table] = []
    for place in range(1, len(lines)):
        if "|" not in lines[place - 1] or "-" not in lines[place] or not _RULE.fullmatch(lines[place]):
            continue
        columns = _cells(lines[place - 1])
        if len(_cells(lines[place])) != len(columns):
            continue
        rows = []
        for line in lines[place + 1 :]:
            if "|" not in line or len(_cells(line)) != len(columns):
                break
            rows.append(_cells(line))
        found += _checked(columns, rows, "")
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _checked(columns: Sequence[object], rows: Sequence[object], name: str) -> list[Table]:
    made = [tuple("" if cell is None else str(cell) for cell in row) for row in rows if isinstance(row, Sequence) and not isinstance(row, str)]
    fits = columns and all(len(row) == len(columns) for row in made) and len(made) == len(rows)
    return [Table(tuple(map(str, columns)), tuple(made), name)] if fits else []
