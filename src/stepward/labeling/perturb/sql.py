"""Typed perturbations of SQL queries: one clause or token is changed so that the query asks for something else. Whether it does is for the database to say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|\d+(?:\.\d+)?|<>|!=|>=|<=|\|\||[A-Za-z_]\w*|\s+|.", re.DOTALL)
_COMPARISONS = {"=": "<>", "<>": "=", "!=": "=", ">": "<=", "<": ">=", ">=": "<", "<=": ">"}
_AGGREGATES = {"SUM": "MIN", "AVG": "MAX", "MIN": "MAX", "MAX": "MIN", "COUNT": "MAX"}
_CLAUSE = {"WHERE", "HAVING", "GROUP", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "WINDOW"}


@dataclass(frozen=True)
class Corrupted:
    """A query after one change of a `kind`."""

    kind: str
    query: str


def corruptions(query: str) -> list[Corrupted]:
    """Every single change that the operators can make, in the order of the text.

    comparison: = <> < > turned round; aggregate: another aggregate; literal: a number or text changed; connective: AND for OR and back; direction: ASC
    for DESC; condition: a WHERE or HAVING clause taken away; negation: NOT taken away, IN and LIKE negated; distinct: DISTINCT taken away; limit: one more;
    grouping: GROUP BY taken away; order: ORDER BY taken away. The same change in a comment or a quoted name is not made.
    """
    tokens = _TOKEN.findall(query)
    found: list[Corrupted] = []
    for operator in _OPERATORS:
        for changed in operator(tokens):
            text = "".join(changed)
            if text.split() != query.split():
                found.append(Corrupted(operator.__name__.strip("_"), text))
    return found


def corrupt_sql(query: str, *, seed: int = 0) -> Corrupted | None:
    """One of `corruptions`, the kind drawn first; None when there is none."""
    every = corruptions(query)
    if not every:
        return None
    draw = random.Random(seed)
    kind = draw.choice(sorted({one.kind for one in every}))
    return draw.choice([one for one in every if one.kind == kind])


Tokens = list[str]


def _comparison(tokens: Tokens) -> Iterator[Tokens]:
    """Joins are left alone: their comparison is how tables belong together, and turning it round makes products."""
    clause = ""
    for place, token in enumerate(tokens):
        upper = token.upper()
        if upper in ("ON", "WHERE", "HAVING", "SELECT", "WHEN"):
            clause = upper
        if token in _COMPARISONS and clause != "ON":
            yield _put(tokens, place, _COMPARISONS[token])


def _aggregate(tokens: Tokens) -> Iterator[Tokens]:
    for place, token in enumerate(tokens):
        after = _next(tokens, place)
        if token.upper() in _AGGREGATES and after is not None and tokens[after] == "(":
            inside = _next(tokens, after)
            if inside is not None and tokens[inside] != "*" and tokens[inside].upper() != "DISTINCT":
                yield _put(tokens, place, _AGGREGATES[token.upper()])


def _literal(tokens: Tokens) -> Iterator[Tokens]:
    """Values that something is compared with, and numbers of formulas; not those that only mark a case to be counted, nor arguments of functions."""
    for place, token in enumerate(tokens):
        before = _before(tokens, place)
        leads = tokens[before].upper() if before is not None else ""
        if token[0].isdigit() and leads not in ("BY", "LIMIT", "OFFSET", ",", "THEN", "ELSE", "("):
            yield _put(tokens, place, str(int(token) + 7) if token.isdigit() else f"{float(token) + 7.5:g}")
        elif token.startswith("'") and len(token) > 2 and leads in ("=", "<>", "!="):
            yield _put(tokens, place, token[:-1] + "x'")


def _connective(tokens: Tokens) -> Iterator[Tokens]:
    between = False
    for place, token in enumerate(tokens):
        upper = token.upper()
        if upper == "BETWEEN":
            between = True
        elif upper == "AND" and between:
            between = False
        elif upper in ("AND", "OR"):
            yield _put(tokens, place, "OR" if upper == "AND" else "AND")


def _direction(tokens: Tokens) -> Iterator[Tokens]:
    for place, token in enumerate(tokens):
        if token.upper() in ("ASC", "DESC"):
            yield _put(tokens, place, "ASC" if token.upper() == "DESC" else "DESC")


def _condition(tokens: Tokens) -> Iterator[Tokens]:
    yield from _without_clause(tokens, ("WHERE", "HAVING"))


def _grouping(tokens: Tokens) -> Iterator[Tokens]:
    yield from _without_clause(tokens, ("GROUP",))


def _order(tokens: Tokens) -> Iterator[Tokens]:
    yield from _without_clause(tokens, ("ORDER",))


def _negation(tokens: Tokens) -> Iterator[Tokens]:
    for place, token in enumerate(tokens):
        before = _before(tokens, place)
        negated = before is not None and tokens[before].upper() == "NOT"
        if token.upper() == "NOT":
            yield [*tokens[:place], *tokens[place + 1 :]]
        elif token.upper() in ("IN", "LIKE", "BETWEEN") and not negated:
            yield _put(tokens, place, f"NOT {token}")


def _distinct(tokens: Tokens) -> Iterator[Tokens]:
    for place, token in enumerate(tokens):
        if token.upper() == "DISTINCT":
            yield [*tokens[:place], *tokens[place + 1 :]]


def _limit(tokens: Tokens) -> Iterator[Tokens]:
    for place, token in enumerate(tokens):
        after = _next(tokens, place)
        if token.upper() == "LIMIT" and after is not None and tokens[after].isdigit():
            yield _put(tokens, after, str(int(tokens[after]) + 1))


_OPERATORS: tuple[Callable[[Tokens], Iterator[Tokens]], ...] = (
    _comparison, _aggregate, _literal, _connective, _direction, _condition, _grouping, _order, _negation, _distinct, _limit,
)  # fmt: skip


def _without_clause(tokens: Tokens, heads: tuple[str, ...]) -> Iterator[Tokens]:
    """The query without a clause that begins with one of `heads`, at any depth: up to the next clause, the closing bracket or the end."""
    for place, token in enumerate(tokens):
        if token.upper() not in heads:
            continue
        before = _before(tokens, place)
        if token.upper() == "ORDER" and before is not None and tokens[before] not in (")",) and tokens[before].upper() in ("PARTITION", "OVER", "("):
            continue
        depth, end = 0, place + 1
        while end < len(tokens):
            word = tokens[end].upper()
            depth += (word == "(") - (word == ")")
            if depth < 0 or (depth == 0 and (word in _CLAUSE or word == ";")):
                break
            end += 1
        yield [*tokens[:place], " ", *tokens[end:]]


def _put(tokens: Tokens, place: int, token: str) -> Tokens:
    return [*tokens[:place], token, *tokens[place + 1 :]]


def _next(tokens: Tokens, place: int) -> int | None:
    return next((index for index in range(place + 1, len(tokens)) if tokens[index].strip()), None)


def _before(tokens: Tokens, place: int) -> int | None:
    return next((index for index in range(place - 1, -1, -1) if tokens[index].strip()), None)
