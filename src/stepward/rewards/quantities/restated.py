"""Quantities of the problem as a step restates them: under another unit, per another time, the price of several as the price of one, and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from stepward.rewards.arithmetic.claim import extract
from stepward.rewards.arithmetic.vocabulary import singular
from stepward.rewards.quantities.mention import Mention, mentions, values
from stepward.rewards.quantities.unit import FAMILY, UNITS
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

_RATE = re.compile(
    r"(?:\s+[A-Za-z]+){0,3}?\s*(?:per|an?|each|every|/)\s*(?P<unit>second|minute|hour|day|week|month|year)\b(?!\s+(?:and|for\s+\d))", re.IGNORECASE
)
_SEVERAL = re.compile(
    r"\$\s?(?P<price>[0-9][0-9,]{0,15}(?:\.[0-9]{1,6})?)\s+(?:on|for)\s+(?P<count>[0-9]{1,9}|two|three|four|five|six|ten|twelve)\s+(?P<noun>[a-z]{3,})"
    r"|\b(?P<count2>[0-9]{1,9}|two|three|four|five|six|ten|twelve)\s+(?P<noun2>[a-z]{3,})\s+(?:for|cost|costs)\s+\$\s?(?P<price2>[0-9][0-9,]{0,15}(?:\.[0-9]{1,6})?)"
)
_APIECE = re.compile(r"\b(?:each|apiece|per|every|a piece|individual)\b|/")
_OFF = re.compile(r"(?P<percent>[0-9]{1,4}(?:\.[0-9]{1,6})?)\s?%\s*(?:off|discount)|discount of (?P<percent2>[0-9]{1,4}(?:\.[0-9]{1,6})?)\s?%", re.IGNORECASE)
_DISCOUNT = re.compile(
    r"\bthe (?:amount of the )?discount (?:amount )?(?:is|was|equals|=)\s*\$\s?(?P<amount>[0-9][0-9,]{0,15}(?:\.[0-9]{1,6})?)(?![0-9%])", re.IGNORECASE
)
_COMPOUND = re.compile(r"\b(?P<hours>an|one|two|three|four|five|[0-9]{1,4})\s+hours?\s+(?:and\s+)?(?P<minutes>[0-9]{1,4})\s+minutes\b", re.IGNORECASE)
_COUNTS = {"an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "twelve": 12}


@dataclass(frozen=True)
class Stated:
    """The problem's mentions of one value."""

    families: frozenset[str]
    rates: frozenset[str]


@lru_cache(maxsize=256)
def stated(problem: str) -> dict[Fraction, Stated]:
    """How each value of the problem is measured, "" for mentions without a unit."""
    families: dict[Fraction, set[str]] = {}
    rates: dict[Fraction, set[str]] = {}
    for mention in mentions(problem):
        families.setdefault(mention.value, set()).add(_family(mention))
        rates.setdefault(mention.value, set()).add(_rate(problem, mention))
    return {value: Stated(frozenset(families[value]), frozenset(rates[value])) for value in families}


def check_restated(context: StepContext) -> Iterator[Verdict]:
    """Refutations of restated quantities."""
    computed = _computed(context)
    yield from _units(context, computed)
    yield from _rates(context, computed)
    yield from _prices(context)
    yield from _discounts(context)
    yield from _compound_times(context)


def _units(context: StepContext, computed: frozenset[Fraction]) -> Iterator[Verdict]:
    """A length, time, weight or volume of the problem that the step computes with as a number of things or under a unit of another kind."""
    known = stated(context.problem)
    words = {singular(word) for word in re.findall(r"[a-z]{3,}", context.problem.lower())}
    spans = [claim.span for claim in extract(context.text) if not claim.obstacle]
    for mention in mentions(context.text):
        of = known.get(mention.value)
        if of is None or len(of.families) != 1 or mention.value in computed or mention.value <= 1 or not mention.noun or mention.money:
            continue
        (family,) = of.families
        here = _family(mention)
        if family not in ("length", "time", "mass", "weight", "volume") or here == family:
            continue
        if not any(start <= mention.span[0] < end for start, end in spans):
            continue
        if here and here != "money":
            yield _verdict(
                context, mention.span, "another unit", f"the problem gives this number as a {family}", {"unit": mention.noun}, exact=mention.value > 12
            )
        elif not here and mention.noun in words and mention.value > 12:
            yield _verdict(context, mention.span, "another unit", f"the problem gives this number as a {family}", {"noun": mention.noun})


def _rates(context: StepContext, computed: frozenset[Fraction]) -> Iterator[Verdict]:
    """A number per week that the step restates as the same number per day."""
    known = stated(context.problem)
    for mention in mentions(context.text):
        of = known.get(mention.value)
        rate = _rate(context.text, mention)
        if of is None or not rate or mention.value in computed or len(of.rates) != 1:
            continue
        (given,) = of.rates
        if given and given != rate and mention.value > 1:
            yield _verdict(context, mention.span, "another rate", f"the problem says per {given}", {"step": f"per {rate}"}, exact=False)


def _prices(context: StepContext) -> Iterator[Verdict]:
    """What the problem pays for several as the price of one."""
    for match in _SEVERAL.finditer(context.problem):
        price, count, noun = (match["price"], match["count"], match["noun"]) if match["price"] else (match["price2"], match["count2"], match["noun2"])
        n = _COUNTS.get(count.lower()) or int(count)
        sentence = re.split(r"(?<=[.!?])\s", context.problem[match.end() : match.end() + 60])[0]
        start = max(context.problem.rfind(".", 0, match.start()), 0)
        if n < 2 or _APIECE.search(context.problem[start : match.start()] + sentence):
            continue
        amount = price.rstrip("0").rstrip(".") if "." in price else price
        one = re.compile(
            rf"\b(?:each|one|per)\s+{re.escape(singular(noun))}\b(?:\s+\w+)?\s+(?:costs?|is|was|cost)\s+(?:\\?\$)\s?{re.escape(amount)}0*(?![0-9])(?!\s*[/÷*×x]|\s*divided)",
            re.I,
        )
        for found in one.finditer(context.text):
            yield _verdict(context, found.span(), "price of several", f"the problem pays this for {n}", {"count": str(n)})


def _discounts(context: StepContext) -> Iterator[Verdict]:
    """The price that a discount leaves, called the discount."""
    percents = [Fraction(match["percent"] or match["percent2"]) for match in _OFF.finditer(context.problem)]
    if len(percents) != 1 or percents[0] in (0, 50, 100):
        return
    share = percents[0] / 100
    texts = (context.problem, *(step.text for step in context.before), context.text)
    prices = {value for text in texts for value in values(text)}
    for match in _DISCOUNT.finditer(context.text):
        amount = Fraction(match["amount"].replace(",", ""))
        if any(price * (1 - share) == amount for price in values(context.problem)) and not any(price * share == amount for price in prices):
            yield _verdict(context, match.span(), "wrong base", f"a discount of {percents[0]}% is not what is left to pay", {"amount": str(amount)})


def _compound_times(context: StepContext) -> Iterator[Verdict]:
    """Hours and minutes of which the step takes the hours only."""
    for match in _COMPOUND.finditer(context.problem):
        hours = Fraction(_COUNTS.get(match["hours"].lower()) or int(match["hours"]))
        minutes = Fraction(match["minutes"])
        if minutes == 0 or hours * 60 in stated(context.problem):
            continue
        added = {mention.span for claim in extract(context.text) if any(token.text == "+" for token in claim.left) for mention in mentions(context.text)
                 if claim.left[0].start <= mention.span[0] < claim.left[-1].end and mention.value == hours * 60}  # fmt: skip
        if not added:
            continue  # converting the hours by themselves may be the first step
        so_far = frozenset().union(*(values(step.text) for step in context.before), values(context.text))
        for mention in mentions(context.text):
            if mention.value == hours * 60 and mention.noun == "minute" and not {hours * 60 + minutes, minutes} & so_far:
                yield _verdict(context, mention.span, "misquoted quantity", f"the problem says {match[0]!r}", {"minutes": str(hours * 60 + minutes)})
                break


def _computed(context: StepContext) -> frozenset[Fraction]:
    """Values that the solution has come to, so that they are not the problem's any more."""
    found: set[Fraction] = set()
    for text in (*(step.text for step in context.before), context.text):
        for claim in extract(text):
            found |= values(text[claim.right[0].start : claim.right[-1].end]) if claim.right else set()
    return frozenset(found)


def _family(mention: Mention) -> str:
    if mention.money:
        return "money"
    return FAMILY.get(mention.noun, "") or (
        FAMILY.get(mention.second, "") if mention.noun in ("more", "extra", "additional", "total", "square", "cubic", "fewer", "less") else ""
    )


def _rate(text: str, mention: Mention) -> str:
    match = _RATE.match(text, mention.span[1])
    return match["unit"].lower() if match and match["unit"].lower() in UNITS["time"] else ""


def _verdict(context: StepContext, span: tuple[int, int], kind: str, reason: str, evidence: dict[str, str], *, exact: bool = True) -> Verdict:
    start, end = span[0], min(len(context.text), span[1] + 20) if span[1] - span[0] < 20 else span[1]
    text = context.text[start:end]
    return Verdict(state=State.REFUTED, verifier="quantities", kind=kind, text=text, span=(start, end), reason=reason, exact=exact, evidence=evidence)
