"""Claims about a table that a step makes in words: a cell's value, and the sum, mean, largest, smallest or number of a column's cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stepward.rewards.tables.table import Table, folded

_NUMBER = r"[-−]?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d,]*\d)(?!\.\d)%?"
_IS = r"(?:is|was|are|were|equals|=|:)"
_VALUE = re.compile(  # at most one word behind the number, and then the end of the clause
    rf"\s*(?:{_IS})\s*(?P<value>{_NUMBER})"
    r"(?!\s*(?:%|percent|times|hundreds?|thousands?|dozens?|millions?|billions?|[kmb]\b|\w*\s*(?:more|less|fewer|higher|lower|above|below|apart)\b))"
    r"(?=\s*(?:\w+\s*)?(?:[.,;:!?)]|\Z|\b(?:and|but|while|whereas)\b))"
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
_COMPUTES = re.compile(  # what follows may be a part of what is computed
    rf"[-+*/×÷%]\s|\b(?:{'|'.join(_AGGREGATES)}|median|difference|gap|plus|minus|times|twice|half|double|triple|product|ratio|quotient|between|divided|multiplied"
    r"|combined|together|add\w*|subtract\w*|change|increase|decrease)\b",
    re.IGNORECASE,
)
_STATED_BEFORE = re.compile(rf"\b{_IS}\s*{_NUMBER}(?:\s*\w+)?\s*(?:,\s*(?:and|but|while|whereas)?|\b(?:and|but|while|whereas))\s")
_LEADS = re.compile(  # words that may stand before a claim and narrow nothing down
    r"the|so|thus|therefore|hence|then|now|also|and|but|while|that|we|see|know|note|find|have|from|table|shows?|says?|according|to|in|here|since|as|because"
    r"|looking|at|given|is|it|column|value|of|row"
)


@dataclass(frozen=True, kw_only=True)
class CellClaim:
    """`column` (name), row `key` ("" for an aggregate over all rows), `aggregate` ("" for a cell), stated `value`, and where it stands.

    `explicit`: an aggregate that says of what it is one ("the sum of the population"); "the total population" may be a total of a few.
    """

    text: str
    span: tuple[int, int]
    column: str
    key: str
    aggregate: str
    value: str
    explicit: bool = True


def claims_in(text: str, table: Table) -> list[CellClaim]:
    """The claims of a text about this table, in their order: "the COLUMN of (for, in) KEY is VALUE", "KEY's COLUMN is VALUE", "the sum (average, ...) of the
    COLUMN is VALUE", with names of columns and keys in full. A sentence that hedges, negates, computes or narrows down is passed over.
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
            rf"\b{aggregate}(?:\s+value)?\s+(?P<of>of\s+(?:all\s+)?)?(?:the\s+)?(?P<named>column\s+)?[\"'`]?{name}[\"'`]?(?P<column>\s+column)?",
            sentence,
            re.IGNORECASE,
        ):
            yield from _stated(sentence, start, match, column, aggregate=kind, explicit=any(match.group("of", "named", "column")))
    for key in table.keys:
        row = _pattern(key)
        if not row:
            continue
        for pattern in (rf"\b{name}\s+(?:of|for|in|at)\s+(?:the\s+)?{row}(?!\w)", rf"\b{row}['’]s\s+{name}(?!\w)"):
            for match in re.finditer(pattern, sentence, re.IGNORECASE):
                yield from _stated(sentence, start, match, column, key=key)


def _stated(sentence: str, start: int, match: re.Match[str], column: str, *, key: str = "", aggregate: str = "", explicit: bool = True) -> Iterator[CellClaim]:
    value = _VALUE.match(sentence, match.end())
    if value is not None and _alone(sentence[: match.start()]):
        begin, end = match.start(), value.end()
        yield CellClaim(
            text=sentence[begin:end], span=(start + begin, start + end), column=column, key=key, aggregate=aggregate, value=value["value"], explicit=explicit
        )


def _alone(before: str) -> bool:
    """Whether what stands before a claim in its sentence leaves it as it is: not "twice the price of tea", nor "the unit price of tea"."""
    before = re.sub(r"\A\s*[-*•>]+\s+", "", before)
    lead = _STATED_BEFORE.split(before)[-1]
    return not _COMPUTES.search(before) and all(_LEADS.fullmatch(word) for word in re.findall(r"\w+", lead.lower()))


def _pattern(name: str) -> str:
    """A name as it may be spelled: any white space between words, case left to the search; "" for names too short to be told from other words."""
    words: Sequence[str] = folded(name).split()
    return r"\s+".join(map(re.escape, words)) if len("".join(words)) >= 2 else ""


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"[^.!?;\n]*(?:[.!?;](?!\s|\Z)[^.!?;\n]*)*", text):
        if match[0].strip():
            yield match.start(), match[0]
