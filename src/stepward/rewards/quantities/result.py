"""Earlier results: what the solution has named and computed, and names that return with another value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from stepward.rewards.quantities.mention import MAX_TEXT
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

_LINE = re.compile(r"[^\n;]+")
_MARKUP = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}|\*\*|\\[\[\]()]|\\left|\\right|&")
_NAME = r"[A-Za-z][A-Za-z'’]*(?:[ -][A-Za-z'’()]+){0,8}"
_NUMERAL = r"\\?\$?\s*-?[0-9][0-9,]{0,20}(?:\.[0-9]{1,12})?"
_SIGN = re.compile(r"\s*(?:[+*/×÷−]|(?<=\s)-(?=\s)|(?<=\s)x(?=\s)|\\times|\\div|\\cdot)\s*")
_CHANGES = re.compile(
    r"\b(?:new|now|after|then|before|remaining|left|updated|current|next|other|another|each|first|second|third|day|week|month|year|round|case|option|if)\b",
    re.I,
)


@dataclass(frozen=True)
class Named:
    """A name with the value that it was given at characters `span`."""

    name: str
    value: Fraction
    span: tuple[int, int]
    computed: bool  # at the end of a chain, not substituted into one


@lru_cache(maxsize=1024)
def named_values(text: str) -> tuple[Named, ...]:
    """Names with values: from "Total cost = 3 * 4 = 12" the name and its last value; from "A + B = 3 + 4" what is substituted for each name."""
    return tuple(_named(text)) if len(text) <= MAX_TEXT and "=" in text else ()


def _named(text: str) -> Iterator[Named]:
    for line in _LINE.finditer(text):
        for clause in re.finditer(r"(?:[^.=]|\.(?=\d)|=)+", line[0]):
            if "=" not in clause[0]:
                continue
            start, end = line.start() + clause.start(), line.start() + clause.end()
            parts = [_plain(part) for part in clause[0].split("=")]
            first = re.split(r"[:,]\s", parts[0])[-1].strip(" -•\t")
            last = _value(parts[-1])
            if re.fullmatch(_NAME, first) and last is not None and not any(re.search(r",\s*[A-Za-z]", part) for part in parts[1:]):
                yield Named(_normal(first), last, (start, end), True)
            for words, numbers in pairwise(parts):
                yield from _substituted(words, numbers, (start, end))


def _substituted(words: str, numbers: str, span: tuple[int, int]) -> Iterator[Named]:
    """Pairs of A - B = 7 - 3."""
    names = _SIGN.split(words.strip(" ()-•"))
    terms = _SIGN.split(numbers.strip(" ()."))
    if len(names) < 2 or len(names) != len(terms) or _SIGN.findall(words) != _SIGN.findall(numbers):
        return
    for name, term in zip(names, terms, strict=True):
        value = _value(term)
        if value is not None and re.fullmatch(_NAME, name.strip()):
            yield Named(_normal(name), value, span, False)


def _plain(part: str) -> str:
    return _MARKUP.sub(lambda match: match[1] or " ", part)


def _normal(name: str) -> str:
    words = re.findall(r"[a-z'’]+", name.lower())
    return " ".join(word for word in words if word not in ("the", "a", "an", "of", "so", "therefore", "thus", "is", "his", "her", "their", "its", "hence"))


def _value(part: str) -> Fraction | None:
    match = re.fullmatch(rf"\s*({_NUMERAL})\s*(?:[A-Za-z]+\s*){{0,3}}[.]?\s*", part.replace("{,}", ","))
    return Fraction(re.sub(r"[^0-9.-]", "", match[1]).rstrip(".")) if match else None


def check_results(context: StepContext) -> Iterator[Verdict]:
    """Refutes a named result of an earlier step that is substituted into a computation with another value."""
    earlier: dict[str, set[Fraction]] = {}
    for step in context.before:
        for named in named_values(step.text):
            if named.computed:
                earlier.setdefault(named.name, set()).add(named.value)
    if not earlier:
        return
    for named in named_values(context.text):
        known = earlier.get(named.name)
        if known is None or named.computed or len(known) != 1 or len(named.name.split()) < 2 or _CHANGES.search(named.name):
            continue
        (value,) = known
        if named.value in known or abs(named.value - value) < 1 or value in (named.value * 100, named.value / 100, -named.value):
            continue
        start, end = named.span
        evidence = {"name": named.name, "earlier": str(value), "here": str(named.value)}
        yield Verdict(
            state=State.REFUTED, verifier="quantities", kind="misquoted result", text=context.text[start:end], span=(start, end),
            reason=f"{named.name!r} was {value}", evidence=evidence,
        )  # fmt: skip
