"""Claims about a table that a step makes in words: a cell's value, and the sum, mean, largest, smallest or number of a column's cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stepward.rewards.tables.table import Table, folded

_NUMBER = r"[-−]?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d,]*\d)%?"
_IS = r"(?:is|was|are|were|equals|=|:)"
_VALUE = re.compile(
    rf"\s*(?:{_IS})\s*(?P<value>{_NUMBER})(?!\s*(?:%|percent|times|thousand|million|billion|[kmb]\b|[-+*/×÷^]|of\b|\w*\s+(?:more|less|fewer|higher|lower)\b))"
)
_AGGREGATES = {
    "sum": "sum", "total": "sum", "average": "mean", "mean": "mean", "maximum": "max", "max": "max", "highest": "max", "largest": "max",
    "minimum": "min", "min": "min", "lowest": "min", "smallest": "min",
}  # fmt: skip
_UNSURE = re.compile(
    r"\b(?:if|suppose|assume|would|should|could|not|about|approximately|roughly|around|nearly|almost|at least|at most|more than|less than|over|under"
    r"|excluding|except|without|first|last|top|bottom|other|remaining|only|both|these|those|where|whose|with|for which|per)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class CellClaim:
    """`column` (name), row `key` ("" for an aggregate over all rows), `aggregate` ("" for a cell), stated `value`, and where it stands."""

    text: str
    span: tuple[int, int]
    column: str
    key: str
    aggregate: str
    value: str


def claims_in(text: str, table: Table) -> list[CellClaim]:
    """The claims of a text about this table, in their order: "the COLUMN of (for, in) KEY is VALUE", "KEY's COLUMN is VALUE", "the sum (average, ...) of the
    COLUMN is VALUE", with names of columns and keys in full. A sentence that hedges, negates or narrows down is passed over.
    """
    found: list[CellClaim] = []
    for start, sentence in _sentences(text):
        if _UNSURE.search(sentence):
            continue
        for column in table.columns:
            found += _about(sentence, start, column, table)
    return sorted(found, key=lambda claim: claim.span)


def _about(sentence: str, start: int, column: str, table: Table) -> Iterator[CellClaim]:
    name = _pattern(column)
    if not name:
        return
    for aggregate, kind in _AGGREGATES.items():
        for match in re.finditer(
            rf"\b{aggregate}(?:\s+value)?\s+(?:of\s+(?:all\s+)?)?(?:the\s+)?(?:column\s+)?[\"'`]?{name}[\"'`]?(?:\s+column)?", sentence, re.IGNORECASE
        ):
            yield from _stated(sentence, start, match.start(), match.end(), column, "", kind)
    for key in table.keys:
        row = _pattern(key)
        if not row:
            continue
        for pattern in (rf"\b{name}\s+(?:of|for|in|at)\s+(?:the\s+)?{row}(?!\w)", rf"\b{row}['’]s\s+{name}(?!\w)"):
            for match in re.finditer(pattern, sentence, re.IGNORECASE):
                led = re.search(r"(\w+)(?:\s+(?:of|the))*\s*\Z", sentence[: match.start()])
                if led is None or led[1].lower() not in _AGGREGATES:
                    yield from _stated(sentence, start, match.start(), match.end(), column, key, "")


def _stated(sentence: str, start: int, begin: int, end: int, column: str, key: str, aggregate: str) -> Iterator[CellClaim]:
    value = _VALUE.match(sentence, end)
    if value is not None:
        yield CellClaim(
            text=sentence[begin : value.end()], span=(start + begin, start + value.end()), column=column, key=key, aggregate=aggregate, value=value["value"]
        )


def _pattern(name: str) -> str:
    """A name as it may be spelled: any white space between words, case left to the search; "" for names too short to be told from other words."""
    words: Sequence[str] = folded(name).split()
    return r"\s+".join(map(re.escape, words)) if len("".join(words)) >= 2 else ""


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"[^.!?;\n]*(?:[.!?;](?!\s|\Z)[^.!?;\n]*)*", text):
        if match[0].strip():
            yield match.start(), match[0]
