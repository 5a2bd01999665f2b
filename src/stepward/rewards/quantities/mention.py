"""Mention: a number in prose with what it counts or measures; and every value that the numbers of a text may stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stepward.rewards.arithmetic.vocabulary import singular

MAX_TEXT = 20_000  # characters; a longer text is not read
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
WORDS: dict[str, Fraction] = {word: Fraction(value) for value, word in enumerate(_ONES)} | {word: Fraction(value) for word, value in _TENS.items()}
WORDS |= {f"{ten}-{_ONES[one]}": Fraction(value + one) for ten, value in _TENS.items() for one in range(1, 10)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12, "dozens": 12, "k": 1000, "score": 20, "gross": 144}
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "fourth": 4, "fourths": 4, "quarter": 4, "quarters": 4, "fifth": 5, "fifths": 5, "sixth": 6}
_PARTS |= {"sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8, "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10}
_MULTIPLES = {"twice": 2, "double": 2, "doubled": 2, "doubles": 2, "doubling": 2, "triple": 3, "tripled": 3, "triples": 3, "thrice": 3, "quadruple": 4}
_NUMBER = re.compile(
    r"(?P<money>\\?[$£€]\s?)?(?P<digits>[0-9]{1,3}(?:(?:,|\{,\}|,\\!)[0-9]{3})+(?:\.[0-9]+)?|[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+)"
    r"|\b(?P<word>" + "|".join(sorted(WORDS, key=len, reverse=True)) + r")\b",
    re.IGNORECASE,
)
_NOUN = re.compile(r"(?:\s|~|\\,|\\ )*(?:\\text\{|-)?\s*(?P<noun>%|percent|[A-Za-z][A-Za-z]+)(?:\s+(?P<second>[A-Za-z]{3,}))?")


@dataclass(frozen=True)
class Mention:
    """A number as written, at characters `span`, and the one or two words behind it (singular, lower case)."""

    value: Fraction
    span: tuple[int, int]
    noun: str = ""
    second: str = ""
    money: bool = False


@lru_cache(maxsize=1024)
def mentions(text: str) -> tuple[Mention, ...]:
    """Every number of a text in order."""
    return tuple(_mentions(text)) if len(text) <= MAX_TEXT else ()


def _mentions(text: str) -> Iterator[Mention]:
    for match in _NUMBER.finditer(text):
        if match["digits"]:
            value = Fraction(re.sub(r"[^0-9.]", "", match["digits"])) if len(match["digits"]) <= 30 else Fraction(0)
        else:
            value = WORDS[match["word"].lower()]
        behind = _NOUN.match(text, match.end())
        noun, second = (behind["noun"].lower(), (behind["second"] or "").lower()) if behind else ("", "")
        yield Mention(value, match.span(), singular(noun), singular(second), match["money"] is not None)


@lru_cache(maxsize=1024)
def values(text: str) -> frozenset[Fraction]:
    """What the numbers of a text may stand for: as written, a percentage also as a share and its complement, with a scale word multiplied, words for
    parts and multiples, fractions and mixed numbers, times of day in hours.
    """
    if len(text) > MAX_TEXT:
        return frozenset()
    found: set[Fraction] = set()
    every = mentions(text)
    for index, mention in enumerate(every):
        value = mention.value
        found.add(value)
        if (
            mention.noun in ("%", "percent")
            or text[mention.span[1] : mention.span[1] + 2] in ("\\%", "% ")
            or text[mention.span[1] : mention.span[1] + 1] == "%"
        ):
            share = value / 100
            found |= {share, 1 - share, 1 + share, 100 - value, 100 + value}
        if mention.noun in _SCALES:
            found.add(value * _SCALES[mention.noun])
        if mention.noun in _PARTS:
            found |= {value / _PARTS[mention.noun], value + Fraction(1, _PARTS[mention.noun])}
        if mention.noun in ("cent", "penny"):
            found.add(value / 100)
        if index + 1 < len(every):
            _join(text, mention, every[index + 1], every[index + 2] if index + 2 < len(every) else None, found)
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in _PARTS:
            found |= {Fraction(1, _PARTS[word]), 1 - Fraction(1, _PARTS[word]), Fraction(_PARTS[word])}
        elif word in _MULTIPLES:
            found.add(Fraction(_MULTIPLES[word]))
        elif word in _SCALES:
            found.add(Fraction(_SCALES[word]))
    return frozenset(found)


def _join(text: str, mention: Mention, following: Mention, third: Mention | None, found: set[Fraction]) -> None:
    """Fractions a/b and \\frac{a}{b}, mixed numbers a b/c, clock times a:b."""
    between = text[mention.span[1] : following.span[0]]
    if following.value and re.fullmatch(r"\s?/\s?|\}\{|⁄", between):
        share = mention.value / following.value
        found |= {share, 1 - share, 1 + share}
    elif between in (" ", "\u00a0", "\u202f") and mention.value.denominator == 1 and following.span[1] - following.span[0] == 3:
        found.add(mention.value * 1000 + following.value)  # 450 000
    elif between == ":":
        found |= {mention.value + following.value / 60, mention.value * 60 + following.value}
    elif third is not None and third.value and re.fullmatch(r"\s|-| and ", between) and text[following.span[1] : third.span[0]].strip() == "/":
        found.add(mention.value + following.value / third.value)
