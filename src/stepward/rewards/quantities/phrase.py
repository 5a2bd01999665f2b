"""Phrases: arithmetic said in words: "20% of $400 is $80", "half of 10,000 is 5,000", "three times 15 is 45", "the sum of 3 and 4 is 7"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from stepward.rewards.arithmetic.vocabulary import singular
from stepward.rewards.quantities.mention import MAX_TEXT
from stepward.rewards.quantities.unit import FAMILY, UNITS
from stepward.rewards.verifiers.verdict import State, Verdict

_N = r"\\?\$?\s?([0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]{1,6})?|[0-9]{1,9}(?:\.[0-9]{1,6})?)(?![0-9])(?![.,:/][0-9])(?!\s*\\?%)"
_UNIT = (
    r"(?:\s(?!(?:is|are|and|times|of|more|less|fewer|plus|minus|or|which"
    r"|squared|cubed|dozens?|hundreds?|thousands?|millions?|billions?|score|gross)\b)[a-z]{2,}){0,2}"
)
_IS = r",?\s+(?:is|are|equals|which is|that is|comes to|makes)\s+(?:equal to\s+)?"
_END = (
    r"(?!\s*(?:[a-z]+\s*)?[-+*/^×÷=(])(?!\s*(?:\\|x\b|%|percent|more|less|fewer|times|of\b|to\b|and a (?:half|third|quarter)|thousand|million|billion"
    r"|hundred|dozen|plus|minus|out\b|points?|divided|multiplied|remain|r\b|or\b|short\b|over\b|under\b|twice\b|thrice\b|others?\b|[a-z]+\s+and\s+(?:[0-9]|an?\b)))"
)
_BEGIN = r"(?<![\w.%$+*/^×÷=-])"
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_TIMES = {
    "twice": 2,
    "double": 2,
    "two times": 2,
    "thrice": 3,
    "triple": 3,
    "three times": 3,
    "four times": 4,
    "five times": 5,
    "six times": 6,
    "ten times": 10,
}


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


_Shape = tuple[str, re.Pattern[str], Callable[..., Fraction | None]]
_SHAPES: tuple[_Shape, ...] = tuple(
    (kind, re.compile(_BEGIN + pattern + _IS + _N + _END, re.IGNORECASE), value)
    for kind, pattern, value in (
        ("percent", rf"([0-9]{{1,4}}(?:\.[0-9]{{1,4}})?)\s?(?:\\?%|percent) of (?:the )?{_N}{_UNIT}", lambda p, n: _number(p) / 100 * _number(n)),
        ("share", rf"(?:one[- ]|a )?({'|'.join(_PARTS)}) of (?:the )?{_N}{_UNIT}", lambda part, n: _number(n) / _PARTS[part.lower()]),
        ("share", rf"([0-9]{{1,4}})/([0-9]{{1,4}}) of (?:the )?{_N}{_UNIT}", lambda a, b, n: _number(n) * int(a) / int(b) if int(b) else None),
        ("multiple", rf"({'|'.join(_TIMES)}) {_N}{_UNIT}", lambda times, n: _number(n) * _TIMES[times.lower()]),
        ("multiple", rf"{_N} times {_N}{_UNIT}", lambda a, b: _number(a) * _number(b)),
        ("sum", rf"the sum of {_N}{_UNIT} and {_N}{_UNIT}", lambda a, b: _number(a) + _number(b)),
        ("difference", rf"{_N} (?:less|fewer){_UNIT} than {_N}{_UNIT}", lambda a, b: _number(b) - _number(a)),
        ("sum", rf"{_N} more{_UNIT} than {_N}{_UNIT}", lambda a, b: _number(b) + _number(a)),
        ("quotient", rf"{_N}{_UNIT} divided by {_N}{_UNIT}", lambda a, b: _number(a) / _number(b) if _number(b) else None),
    )
)
_WIDER = re.compile(  # the phrase is the end of a longer one
    r"(?:\b(?:times|of|than|plus|minus|by|and|sum|half|twice|double|than|by|over|quarters?|thirds?|percent|squared?)|%)\s*$", re.IGNORECASE
)


def check_phrases(text: str) -> Iterator[Verdict]:
    """A verdict on every statement of these shapes: supported when equal or equal to the last digit shown, refuted when not even rounding explains it."""
    if len(text) > MAX_TEXT:
        return
    for kind, pattern, value in _SHAPES:
        for match in pattern.finditer(text):
            if _WIDER.search(text[max(0, match.start() - 16) : match.start()]):
                continue
            *operands, stated = match.groups()
            truth = value(*operands)
            if truth is None:
                continue
            said = _number(stated)
            places = len(stated.partition(".")[2])
            if truth == said or (places and abs(truth - said) <= Fraction(1, 2 * 10**places)):
                state, reason = State.SUPPORTED, "holds"
            elif abs(truth - said) <= max(Fraction(1), abs(truth) / 50) and (truth.denominator != 1 or any("." in operand for operand in operands)):
                state, reason = State.ABSTAIN, "may be rounded"
            elif truth in (said * 100, said / 100, said * 1000, said / 1000):
                state, reason = State.ABSTAIN, "differs by a power of ten"
            elif _changes_unit(text, match, truth, said):
                state, reason = State.ABSTAIN, "may be in another unit"
            else:
                state, reason = State.REFUTED, "does not hold"
            evidence = {"value": str(truth), "stated": str(said)}
            yield Verdict(state=state, verifier="quantities", kind=kind, text=match[0], span=match.span(), reason=reason, evidence=evidence)


def _changes_unit(text: str, match: re.Match[str], truth: Fraction, said: Fraction) -> bool:
    """Whether the numbers are measured in units and the result in another, or in none where one would fit: "half of 1 hour is 30 minutes"."""
    units = {unit for word in re.findall(r"[a-z]+", match[0], re.IGNORECASE) if (unit := singular(word)) in FAMILY}
    behind = re.match(r"\s*([a-z]+)", text[match.end() : match.end() + 40], re.IGNORECASE)
    unit_behind = singular(behind[1]) if behind else ""
    if not units or unit_behind in units:
        return False
    if unit_behind not in ("", "in", "so", "and", "which", "because", "since"):
        return True
    sizes = [size for unit in units for size in UNITS.get(FAMILY[unit], {}).get(unit, ())]
    others = [size for unit in units for found in UNITS.get(FAMILY[unit], {}).values() for size in found]
    return any(truth * size == said * other for size in sizes for other in others)
