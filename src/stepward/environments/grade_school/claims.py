"""Claims: what a step's text says, read without judging it: "quantity = expression = ... = value", or "The answer is N"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stepward.environments.grade_school.expressions import Expression, Named, is_number, match_name, parse_expression, tokenize

_LINES = re.compile(r"[\n;]|\.(?=\s|$)")
_FILLERS = frozenset(("so", "then", "thus", "therefore", "hence", "next", "first", "now", "and", "finally", ",", ":"))
_IS = ("=", "is", "are", ":")
_MAX_TEXT = 2000


@dataclass(frozen=True)
class Claim:
    """`quantity`: index in the world, None for one that it does not have. `answer`: the claim names the final answer. `chain`: the expressions
    joined by equals signs. `correction`: it was announced as one. `text`: the sentence."""

    quantity: int | None
    chain: tuple[Expression, ...]
    answer: bool = False
    correction: bool = False
    text: str = ""


def read_claims(text: str, names: Mapping[tuple[str, ...], int], units: frozenset[str]) -> list[Claim] | None:
    """The claims of a step in order; None when it has none or holds a sentence with figures that cannot be read.

    Sentences end at a full stop, a semicolon or a line end. A sentence without digits and equals signs is prose and passes.
    """
    if len(text) > _MAX_TEXT:
        return None
    claims: list[Claim] = []
    for sentence in _LINES.split(text):
        tokens = tokenize(sentence)
        if not tokens:
            continue
        claim = _read(tokens, sentence.strip(), names, units)
        if claim is not None:
            claims.append(claim)
        elif "=" in tokens or any(is_number(token) for token in tokens):
            return None
    return claims or None


def _read(tokens: list[str], sentence: str, names: Mapping[tuple[str, ...], int], units: frozenset[str]) -> Claim | None:
    start = _skip(tokens, 0)
    correction = start < len(tokens) and tokens[start] == "correction"
    if correction:
        start = _skip(tokens, start + 1)
    end = len(tokens)
    while end > start and tokens[end - 1] in (".", ",", "!"):
        end -= 1
    tokens = tokens[:end]
    if start >= end:
        return None
    position = start + 1 if tokens[start] == "the" else start
    position += position < end and tokens[position] == "final"
    if position < end and tokens[position] == "answer":
        named, answer, position = Named(None), True, position + 1
    else:
        found = match_name(tokens, start, names)
        if found is None:
            return None
        (named, position), answer = found, False
    if position >= end or tokens[position] not in _IS:
        return None
    if tokens[position] in ("is", "are") and position + 1 < end and tokens[position + 1] in ("=", ":"):
        position += 1
    chain: list[Expression] = []
    piece: list[str] = []
    for token in [*tokens[position + 1 :], "="]:
        if token != "=":
            piece.append(token)
            continue
        expression = parse_expression(piece, names, units)
        if expression is None:
            return None
        chain.append(expression)
        piece = []
    return Claim(named.index, tuple(chain), answer, correction, sentence)


def _skip(tokens: list[str], start: int) -> int:
    while start < len(tokens) and tokens[start] in _FILLERS:
        start += 1
    return start
