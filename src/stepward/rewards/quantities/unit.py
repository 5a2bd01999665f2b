"""Units: which words measure what, in exact ratios; statements such as "2 hours = 120 minutes", and lengths of time between two times of day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from stepward.rewards.quantities.mention import WORDS, mentions, values
from stepward.rewards.verifiers.verdict import State, Verdict

# family: unit: every factor to the smallest unit of its family that the word may mean
_DAY = 86400
_TIME: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("second sec", (1,)),
    ("minute min", (60,)),
    ("hour hr", (3600,)),
    ("day", (_DAY,)),
    ("week", (7 * _DAY, 5 * _DAY)),  # of seven days or five
    ("month", (28 * _DAY, 29 * _DAY, 30 * _DAY, 31 * _DAY)),
    ("year", (365 * _DAY, 366 * _DAY, 360 * _DAY, 364 * _DAY, 336 * _DAY)),
    ("decade", (3650 * _DAY, 3660 * _DAY)),
    ("century", (36500 * _DAY, 36600 * _DAY)),
)
_ONE_SIZE: dict[str, tuple[tuple[str, str], ...]] = {
    "length": (
        ("mm millimeter millimetre", "1"), ("cm centimeter centimetre", "10"), ("meter metre", "1000"), ("km kilometer kilometre", "1000000"),
        ("inch", "25.4"), ("foot ft", "304.8"), ("yard yd", "914.4"), ("mile", "1609344"),
    ),
    "mass": (("mg milligram", "1"), ("gram", "1000"), ("kg kilogram", "1000000")),
    "weight": (("ounce oz", "1"), ("pound lb", "16")),
    "volume": (("ml milliliter millilitre", "1"), ("liter litre", "1000")),
    "liquid": (("cup", "1"), ("pint", "2"), ("quart", "4"), ("gallon", "16")),
    "money": (("cent penny", "1"), ("nickel", "5"), ("dime", "10"), ("quarter", "25"), ("dollar buck", "100")),
}  # fmt: skip
UNITS: dict[str, dict[str, tuple[Fraction, ...]]] = {"time": {name: tuple(map(Fraction, sizes)) for names, sizes in _TIME for name in names.split()}}
UNITS |= {family: {name: (Fraction(size),) for names, size in units for name in names.split()} for family, units in _ONE_SIZE.items()}
FAMILY = {unit: family for family, units in UNITS.items() for unit in units}
FAMILY |= {"m": "length", "g": "mass", "kilo": "mass", "ton": "weight", "lbs": "weight", "degree": "angle", "mph": "speed", "acre": "area"}
_EQUALS = re.compile(r"\s*(?:\}|\\\)|\\,)?\s*(?:=|is equal to|equals)\s*(?:\\\(|\$)?\s*", re.IGNORECASE)
_SCALE = re.compile(r"\b(?:scale|map|model|represent|blueprint|drawing|equates|exchange|currency|corresponds?)", re.IGNORECASE)
_WORDS = r"(?:\\text\{\s*|\\,|\s|-)*"
_COMPOUND = re.compile(  # "1 hour" before "30 minutes": the length is that of both
    rf"(?:[0-9]|\b(?:an?|{'|'.join(WORDS)}))(?:\s|-|\\,)*(?:\\text\{{\s*)?[a-z]{{1,12}}\}}?\.?,?(?:\s|~|\\,)*(?:and\s+)?\\?\(?\$?\s*\Z", re.IGNORECASE
)
_TAKEN_FURTHER = re.compile(
    rf"{_WORDS}[A-Za-z]+\}}?\s*(?:(?:and|plus|with|minus|of|at|after|before|when|for|more|less|per|a|each|every|remain\w*|left)\b|[-+*/×÷,]|\\times|\d)"
)
_HOURS_OF_DAYS = re.compile(  # where days, weeks and years may have as many hours as somebody works
    r"\b(?:work\w*|school|shifts?|daily|practi[cs]\w*|train\w*|stud(?:y|ies|ying)|sleep\w*|(?:a|per|each|every)\s+(?:day|week|month|year|night|morning))\b"
    r"|/\s*(?:day|week)|[0-9]\s*[ap]\.?m\b",
    re.IGNORECASE,
)
_CLOCK_UNITS = frozenset({"second", "sec", "minute", "min", "hour", "hr"})
_PLAIN_BETWEEN = re.compile(  # behind two times of day: nothing but that N hours lie between them
    r"\W*(?:(?:which|that|this|it)\s+)?(?:(?:is|are|was|equals|takes|lasts)\b)?(?:\s*(?:a\s+total\s+of|exactly)\b)?[0-9.+=\s()\\$\[:,]*", re.IGNORECASE
)
_NOT_ALONE = re.compile(
    r"\s*(?:(?:after|before|of|later|earlier|longer|shorter|more|less|fewer|minus|plus|with|without|a|per|each|every|and|or)\b|[-+*/×])", re.IGNORECASE
)
_CLOCK = r"(?P<{0}h>1[0-2]|[1-9])(?::(?P<{0}m>[0-5][0-9]))?\s*(?P<{0}x>[ap])\.?\s?m\b\.?"
_SPAN = re.compile(
    r"from\s+"
    + _CLOCK.format("a")
    + r"\s*(?:until|till|to|-|–)\s*"
    + _CLOCK.format("b")
    + r"(?P<between>[^.;\n]{0,120}?)(?<![\w.])(?P<n>[0-9]{1,6}(?:\.[0-9]{1,6})?)"
    r"\s*(?:\\\)|\$)?\s*(?P<unit>hours?|minutes?)\b",
    re.IGNORECASE,
)


def check_conversions(text: str, problem: str) -> Iterator[Verdict]:
    """A verdict on every "N unit = M unit" of one family: refuted when no pair of factors that the words may mean gives it.

    Where the problem sets a scale (a map, a model, a rate of exchange) nothing is judged.
    """
    if _SCALE.search(problem) or _SCALE.search(text):
        return
    every = mentions(text)
    for left, right in pairwise(every):
        family = UNITS.get(FAMILY.get(left.noun, ""), {})
        if left.noun not in family or right.noun not in family or left.noun == right.noun:
            continue
        start, end = left.span[0], right.span[1]
        if re.search(
            r"(?:[-+*/^=×÷·(,]|\\times|\\cdot|\band\b|\bof\b|\btimes\b|\bevery\b|\bper\b)\s*\\?\(?\$?\s*$",
            re.sub(r"\\[(\[]\s*$", "", text[max(0, start - 12) : start]),
        ):
            continue
        if _COMPOUND.search(text[max(0, start - 40) : start]):
            continue
        middle = text[left.span[1] : right.span[0]]
        words = re.match(rf"{_WORDS}[A-Za-z]+\.?", middle)
        if words is None or not _EQUALS.fullmatch(middle, words.end()):
            continue
        tail = text[end : end + 30]
        if _TAKEN_FURTHER.match(tail):
            continue
        ratios = {a / b for a in family[left.noun] for b in family[right.noun]}
        if {left.noun, right.noun} <= {"week", "month", "year"}:
            ratios |= {Fraction(12), Fraction(1, 12), Fraction(4), Fraction(1, 4), Fraction(52), Fraction(1, 52), Fraction(48)}
        holds = any(left.value * ratio == right.value for ratio in ratios)
        near = any(abs(left.value * ratio - right.value) <= Fraction(1, 50) * abs(right.value) for ratio in ratios)
        clock = (left.noun in _CLOCK_UNITS) != (right.noun in _CLOCK_UNITS) and (_HOURS_OF_DAYS.search(problem) or _HOURS_OF_DAYS.search(text))
        state = State.SUPPORTED if holds else State.ABSTAIN if near or clock else State.REFUTED
        reason = {
            State.SUPPORTED: "the units' ratio",
            State.ABSTAIN: "roughly the units' ratio" if near else "days of fewer hours",
            State.REFUTED: "not the units' ratio",
        }[state]
        yield _verdict(state, "unit conversion", text, (start, end), reason, {"ratio": str(min(ratios))})


def check_durations(text: str) -> Iterator[Verdict]:
    """A verdict on every "from 8:00 AM to 11:00 PM ... N hours"."""
    for match in _SPAN.finditer(text):
        between = match["between"]
        if re.search(r"[ap]\.?m\.?\b|,\s*(?:and|so)\b|\b(?:each|every|per|minus|except|break)\b", between, re.IGNORECASE):
            continue
        begin, finish = (
            Fraction(int(match[f"{side}h"]) % 12 + (12 if match[f"{side}x"].lower() == "p" else 0)) + Fraction(int(match[f"{side}m"] or 0), 60) for side in "ab"
        )
        length = (finish - begin) % 24
        stated = Fraction(match["n"]) / (60 if match["unit"].lower().startswith("min") else 1)
        numbers = [value for value in values(between) if value > 0]
        if stated == length or (stated == 24 and length == 0):
            yield _verdict(State.SUPPORTED, "duration", text, match.span(), "the time between the two", {"hours": str(length)})
        elif _PLAIN_BETWEEN.fullmatch(between) and not _NOT_ALONE.match(text, match.end()):
            if stated > 24 or (numbers and not re.search(r"=\s*$", between)):
                continue
            yield _verdict(State.REFUTED, "duration", text, match.span(), "not the time between the two", {"hours": str(length), "stated": str(stated)})


def _verdict(state: State, kind: str, text: str, span: tuple[int, int], reason: str, evidence: dict[str, str]) -> Verdict:
    return Verdict(state=state, verifier="quantities", kind=kind, text=text[span[0] : span[1]], span=span, reason=reason, evidence=evidence)
