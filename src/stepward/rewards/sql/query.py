"""Queries: the SQL that a step writes, what it says of the result, and the outermost clauses of a query. Nothing is run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TEXT = 50_000  # characters of a step; a longer one is not read
_FENCE = re.compile(r"```[ \t]*(?P<dialect>sql|sqlite|duckdb|postgresql|mysql)[ \t]*\n(?P<query>.*?)```", re.IGNORECASE | re.DOTALL)
_BARE = re.compile(r"(?:^|\n)[ \t]*(?P<query>(?:SELECT|WITH)\b[^;`]*?)(?=;|\n[ \t]*\n|\Z)", re.DOTALL)
_BEGINS = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)
_NUMBER = r"[-−]?\$?\d[\d,]*(?:\.\d+)?"
_LEAD = (
    r"\A(?:(?:so|thus|therefore|hence|then|and|the|this|that|it|which|its|final|correct|query|query['’]s|statement|sql|single|results?|output|answer|set)"
    r"[,:]?\s+){0,6}"
)
# a word behind the number could be a unit, or a part of a longer statement
_QUIET_END = r"(?![\w%]|[,.]\d)(?=[*_`]{0,3}\s*(?:[.,;:!?)]|\Z|\n|\b(?:and|which)\b))"
_STATED = re.compile(
    rf"{_LEAD}(?:(?:result|output|answer|value)(?:\s+of\s+(?:the|this)\s+query)?\s*(?:is|was|equals|=|:|→|->)|returns?|gives?|yields?|evaluates\s+to|which\s+is)"
    rf"\s*(?:exactly|equal\s+to|the\s+(?:value|number|result)|a\s+value\s+of)?\s*[*_`]{{0,3}}({_NUMBER}){_QUIET_END}",
    re.IGNORECASE,
)
_ROWS = re.compile(
    rf"{_LEAD}(?:returns?|gives?|yields?|has|have|contains?)\s+(?:exactly\s+)?[*_`]{{0,3}}(\d{{1,9}})[*_`]{{0,3}}\s+(?:rows?|records?|tuples?){_QUIET_END}",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\.\.\.|…|<\w[^<>=]*>|\{[^{}]*\}")
_HEDGED = re.compile(r"\b(?:about|around|approximately|roughly|at least|at most|more than|less than|over|under|nearly|almost|up to)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query at characters `span` of a step. `value`, `n_rows`: what the text right behind it says of its result, None when nothing is said.

    `dialect`: what its fence says, "" without a fence. `complete`: an error would be its own; else it may be a template, or hold words that follow it.
    """

    text: str
    span: tuple[int, int]
    dialect: str = ""
    complete: bool = True
    value: str | None = None
    n_rows: int | None = None


def queries_in(text: str) -> list[Query]:
    """The queries of a step: fenced code that is marked as SQL, or, where there is none, paragraphs that begin with SELECT or WITH in capitals."""
    if len(text) > MAX_TEXT:
        return []
    fenced = [match for match in _FENCE.finditer(text) if _BEGINS.match(match["query"])]
    return [_read(text, match, match["dialect"].lower() if fenced else "") for match in fenced or _BARE.finditer(text)]


def _read(text: str, match: re.Match[str], dialect: str) -> Query:
    start, end = match.span("query")
    said = text[match.end() : match.end() + 200].lstrip(" ;\n\t`")
    value, rows = _STATED.search(said), _ROWS.search(said)
    hedge = _HEDGED.search(said[:80]) is not None
    return Query(
        text=text[start:end].strip().rstrip(";").rstrip(),
        span=(start, end),
        dialect=dialect,
        complete=bool(dialect) and not _TEMPLATE.search(text, start, end),
        value=None if value is None or hedge else value[1],
        n_rows=None if rows is None or hedge else int(rows[1]),
    )


def is_query(text: str | None) -> bool:
    """Whether a text is SQL that reads."""
    return text is not None and _BEGINS.match(text) is not None


def statements(text: str) -> list[str]:
    """The statements of a text, cut at semicolons outside quotes and comments."""
    pieces: list[str] = []
    start = 0
    for kind, position in _marks(text):
        if kind == ";":
            pieces.append(text[start:position])
            start = position + 1
    return [piece.strip() for piece in [*pieces, text[start:]] if piece.strip()]


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The outermost ORDER BY and LIMIT of a query: each ordering term without its direction, and the query without its LIMIT."""

    order: tuple[str, ...]
    limited: bool
    without_limit: str


def tail_of(query: str) -> Tail:
    """What stands at depth 0 behind the last SELECT's body."""
    words = [(word.upper(), start, end) for word, start, end in _words_at_depth_0(query)]
    order_at = next((index for index in range(len(words) - 2, -1, -1) if words[index][0] == "ORDER" and words[index + 1][0] == "BY"), None)
    limit_at = next((index for index in range(len(words) - 1, -1, -1) if words[index][0] in ("LIMIT", "OFFSET", "FETCH")), None)
    while limit_at is not None and limit_at and words[limit_at - 1][0] in ("LIMIT", "OFFSET"):
        limit_at -= 1
    first_limit = next((index for index, word in enumerate(words) if word[0] in ("LIMIT", "OFFSET", "FETCH")), None)
    limited = first_limit is not None
    end = words[first_limit][1] if first_limit is not None else len(query)
    order: tuple[str, ...] = ()
    if order_at is not None:
        order = tuple(_term(part) for part in _commas(query[words[order_at + 1][2] : end]))
    return Tail(order=order, limited=limited, without_limit=query[:end].rstrip())


def _term(text: str) -> str:
    return re.sub(r"\s+(?:NULLS\s+(?:FIRST|LAST)|ASC|DESC)\b", "", text, flags=re.IGNORECASE).strip()


def _commas(text: str) -> list[str]:
    parts, start, depth = [], 0, 0
    for kind, position in _marks(text):
        depth += (kind == "(") - (kind == ")")
        if kind == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part.strip()]


def _words_at_depth_0(text: str) -> Iterator[tuple[str, int, int]]:
    depth = 0
    for kind, position in _marks(text, words=True):
        if kind in "()":
            depth += 1 if kind == "(" else -1
        elif kind not in ",;" and depth == 0:
            yield kind, position, position + len(kind)


_LEXEME = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|[(),;]|[A-Za-z_]\w*", re.DOTALL)


def _marks(text: str, *, words: bool = False) -> Iterator[tuple[str, int]]:
    """Brackets, commas and semicolons (and words) outside quotes and comments, with their places."""
    for match in _LEXEME.finditer(text):
        token = match[0]
        if token in "(),;" or (words and (token[0].isalpha() or token[0] == "_")):
            yield token, match.start()


def constants(query: str) -> list[str | int | float]:
    """Texts and numbers that a query compares with, each once: what rows need to hold for the query to see a difference. % is taken off patterns."""
    found: dict[str | int | float, None] = {}
    for match in re.finditer(r"'((?:[^']|'')*)'|(?<![\w.'\"])(\d+(?:\.\d+)?)(?![\w.'\"])", query):
        if match[1] is not None:
            found.setdefault(match[1].replace("''", "'").strip("%"))
        else:
            found.setdefault(float(match[2]) if "." in match[2] else int(match[2]))
    return list(found)
