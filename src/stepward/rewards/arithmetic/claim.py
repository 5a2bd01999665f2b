"""Claim: one equality between numbers that a step states, found in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from stepward.rewards.arithmetic.side import Side, left_side, right_side
from stepward.rewards.arithmetic.token import Kind, Token, tokenize
from stepward.rewards.arithmetic.vocabulary import CONVERTIBLE, DENIAL, DENOMINATORS, HYPOTHESIS, OTHER_ARITHMETIC, SCALE_WORDS, singular

MAX_TEXT = 50_000  # characters of a step; a longer one is not read
_CLAUSE = 80  # characters before a claim that are searched for a hypothesis
_SEQUEL = 120  # characters after it that are searched for a denial
_BEARS_OPERATOR = frozenset({Kind.OPERATOR, Kind.FRACTION, Kind.GLYPH, Kind.SUPERSCRIPT, Kind.OF, Kind.PERCENT})
_CLAUSE_START = re.compile(r"[.,;:!?\n](?=\s)|\\[\[(]\s*(?=\S)")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An equality `left relation right`; `text` is quoted from the step at characters `span` (start, end).

    `obstacle`: why it cannot be read with certainty (it is never judged); `caution`: why it may not be refuted (it may be supported).
    """

    text: str
    span: tuple[int, int]
    relation: str  # "=" or "≈"
    left: tuple[Token, ...]
    right: tuple[Token, ...]
    obstacle: str = ""
    caution: str = ""
    units: tuple[str, ...] = ()  # convertible units in and right behind it, singular
    annotation: bool = False  # a calculator annotation <<left=right>>


def extract(text: str) -> list[Claim]:
    """The arithmetic claims of a step's text in order: every "=" or "≈" (also in a chain a = b = c) between two sides that hold numbers only, at
    least one of them with an operator. Text beyond the length limit holds no claim that is read.

    A calculator annotation (GSM8K's <<48/2=24>>) is a claim by itself; where the prose around it says the same, the two count once.
    """
    if len(text) > MAX_TEXT or ("=" not in text and "≈" not in text and "\\approx" not in text and "equals" not in text):
        return []
    tokens = tokenize(text)
    annotations = [claim for token in tokens if token.kind is Kind.NOTE for claim in _annotation(text, token)]
    prose = [claim for claim in _prose(text, tokens) if not _repeats(claim, annotations)]
    claims = sorted(prose + annotations, key=lambda claim: claim.span)
    other = OTHER_ARITHMETIC.search(text) if claims else None
    if other is None:
        return claims
    return [replace(claim, obstacle=claim.obstacle or f"another arithmetic may be meant ({other[0].strip()[:20]!r})") for claim in claims]


def _annotation(text: str, note: Token) -> Iterator[Claim]:
    inside = tokenize(text, note.start + 2, note.end - 2)
    signs = [index for index, token in enumerate(inside) if token.kind is Kind.RELATION]
    for at, upto in zip(signs, [*signs[1:], len(inside)], strict=False):
        begin = max((sign for sign in signs if sign < at), default=-1) + 1
        left, right = (tuple(token for token in part if token.kind is not Kind.GLUE) for part in (inside[begin:at], inside[at + 1 : upto]))
        if inside[at].text != "?" and left and right and (_bears_operator(left) or _bears_operator(right)):
            yield _claim(text, inside[at].text, left, right, annotation=True)


def _prose(text: str, tokens: Sequence[Token]) -> Iterator[Claim]:
    for at, token in enumerate(tokens):
        if token.kind is not Kind.RELATION or token.text == "?":
            continue
        left = left_side(tokens, at)
        if not _holds_number(left.tokens):
            continue
        right = right_side(tokens, at)
        if not _holds_number(right.tokens) or not (_bears_operator(left.tokens) or _bears_operator(right.tokens)):
            continue
        yield _judgeable(text, token.text, left, right)


def _judgeable(text: str, relation: str, left: Side, right: Side) -> Claim:
    obstacle = (left.obstacle and f"the left side {left.obstacle}") or (right.obstacle and f"the right side {right.obstacle}")
    claim = _claim(text, relation, left.tokens, right.tokens, trail=right.trail)
    caution = left.caution or right.caution
    if not obstacle and not _bears_operator(left.tokens):
        if left.bounded or (claim.span[0] and re.search(r"[\w)\]}]\s*$", text[max(0, claim.span[0] - 6) : claim.span[0]])):
            caution = "the left side is a single number"
        if any(token.kind is Kind.WORD for token in left.tokens):
            caution = "the left side names a quantity"
    start, end = claim.span
    if not obstacle and not caution:
        clause = _CLAUSE_START.split(text[max(0, start - _CLAUSE) : start])[-1]
        if cue := HYPOTHESIS.search(clause):
            caution = f"put up for inspection ({cue[0]!r})"
        elif cue := DENIAL.search(text, end, end + _SEQUEL):
            caution = f"taken back or qualified ({cue[0]!r})"
    return replace(claim, obstacle=claim.obstacle or obstacle, caution=claim.caution or caution)


def _claim(text: str, relation: str, left: tuple[Token, ...], right: tuple[Token, ...], *, trail: tuple[str, ...] = (), annotation: bool = False) -> Claim:
    start, end = left[0].start, right[-1].end
    words = [token.text for token in left + right if token.kind is Kind.WORD]
    scale = next((word for word in words if word.lower() in SCALE_WORDS), "")
    units = tuple(dict.fromkeys(unit for unit in map(singular, (*words, *trail[:2])) if unit in CONVERTIBLE))
    if "$" in text[start:end] and "dollar" not in units and any("money" in CONVERTIBLE[unit] for unit in units):
        units = (*units, "dollar")
    caution = ""
    if any(CONVERTIBLE[a] & CONVERTIBLE[b] for a, b in combinations(units, 2)):
        caution = "units that convert into each other"
    elif _adds_unlike(left) or _adds_unlike(right):
        caution = "unlike quantities are added"
    elif _divides_by_name(text, left + right, {singular(word) for word in (*words, *trail)}):
        caution = "a quantity named in words"
    return Claim(
        text=text[start:end],
        span=(start, end),
        relation=relation,
        left=left,
        right=right,
        obstacle=f"{scale!r} changes a number" if scale else "",
        caution=caution,
        units=units,
        annotation=annotation,
    )


def _adds_unlike(tokens: Sequence[Token]) -> bool:
    """Whether terms of a sum name different things ("3 pencils + 1 eraser"): such a side may be an equation about their prices."""
    if not any(token.kind is Kind.WORD for token in tokens):
        return False
    terms: list[set[str]] = [set()]
    depth = 0
    for token in tokens:
        depth += (token.kind is Kind.OPEN) - (token.kind is Kind.CLOSE)
        if token.kind is Kind.OPERATOR and token.text in "+-" and depth == 0:
            terms.append(set())
        elif token.kind is Kind.WORD and token.text != "degree":
            terms[-1].add(singular(token.text))
    return any(term != terms[0] for term in terms)


def _divides_by_name(text: str, tokens: Sequence[Token], names: set[str]) -> bool:
    """Whether a number is divided by a word that is no unit ("50 / total"); in "$3/apple" and "4 legs/spider" it is one."""
    for before, slash, word in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if slash.text == "/" and word.kind is Kind.WORD and before.kind is not Kind.WORD and text[max(0, before.start - 1)] not in "$£€":
            name = singular(word.text)
            known = name in CONVERTIBLE or name in DENOMINATORS or sum(singular(token.text) == name for token in tokens) > 1
            if not known and (name not in names or text.count(word.text) < 2):
                return True
    return False


def _repeats(claim: Claim, annotations: Sequence[Claim]) -> bool:
    """Whether an annotation inside or beside the prose claim says the same."""
    sides = _signs(claim.left), _signs(claim.right)
    return any(
        claim.span[0] <= note.span[1] + 2 and note.span[0] - 2 <= claim.span[1] and (_signs(note.left), _signs(note.right)) == sides for note in annotations
    )


def _signs(tokens: Sequence[Token]) -> list[str]:
    return [token.text for token in tokens if token.kind not in (Kind.WORD, Kind.GLUE)]


def _holds_number(tokens: Sequence[Token]) -> bool:
    return any(token.kind is Kind.NUMBER or token.kind is Kind.GLYPH for token in tokens)


def _bears_operator(tokens: Sequence[Token]) -> bool:
    """Whether there is something to compute; a leading sign and the slash of a unit are not."""
    return any(
        token.kind in _BEARS_OPERATOR and not (index == 0 and token.text in "+-") and not (index + 1 < len(tokens) and tokens[index + 1].kind is Kind.WORD)
        for index, token in enumerate(tokens)
    )
