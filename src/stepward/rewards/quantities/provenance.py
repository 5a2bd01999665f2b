"""Provenance: does every number that a step computes with come from the problem, an earlier result, common knowledge, or one operation on those?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

from stepward.rewards.arithmetic.claim import Claim, extract
from stepward.rewards.arithmetic.expression import Unreadable, value_of
from stepward.rewards.arithmetic.parser import parse
from stepward.rewards.arithmetic.token import Kind, numeral
from stepward.rewards.quantities.mention import mentions, values
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

SMALL = 12  # whole numbers up to here may be counted from the text
_COMMON = "0.01 0.05 0.1 0.25 0.5 0.75 16 18 20 24 25 28 29 30 31 36 40 48 50 52 60 90 100 144 180 360 365 366 1000 1440 1760 3600 5280"
COMMON = frozenset(map(Fraction, _COMMON.split()))  # parts, coins, days, hours, inches, degrees and round numbers that need no source
_RATIOS = (
    Fraction(1, 100),
    Fraction(100),
    Fraction(60),
    Fraction(1, 60),
    Fraction(7),
    Fraction(12),
    Fraction(24),
    Fraction(52),
    Fraction(30),
    Fraction(365),
    Fraction(2),
    Fraction(1, 2),
    Fraction(4),
    Fraction(1000),
)
MATHEMATICS = re.compile(
    r"\\[a-zA-Z(\[]|\$[^$\n]{0,80}[a-z\\^_][^$\n]{0,80}\$|\b(?:function|polynomial|triangle|integer|integers|probability|sequence|prime|digit|digits|angle|random|arrange|multiple|factor|mole|moles|molar|reaction|velocity|ways|committee|combinations?|pressure|energy|voltage|acid|mass)\b",
    re.I,
)
MAX_KNOWN = 40
MAX_CLAIMS = 40  # of a step


def check_provenance(context: StepContext) -> Iterator[Verdict]:
    """A refutation for every computation with a number that comes from nowhere; in word problems that state at least two numbers."""
    problem = context.problem
    if MATHEMATICS.search(problem) or len(mentions(problem)) < 2:
        return
    before = tuple(step.text for step in context.before)
    reached: set[Fraction | None] = set()
    for claim in extract(context.text)[:MAX_CLAIMS]:
        if claim.obstacle or claim.annotation:
            continue
        total = _total(claim)
        if total in reached:
            continue  # a later link of a chain: intermediate results need no mention
        reached.add(total)
        operands = _operands(claim)
        if len(operands) < 2:
            continue
        known = _known((problem, *before, context.text[: claim.span[0]]))
        strange = [value for value in operands if not _common(value) and value not in known]
        if not strange or len(known) > MAX_KNOWN or total in known:
            continue
        missing = [value for value in strange if value not in derivable(known)]
        if missing:
            yield _refuted(context, claim, missing[0])


def _refuted(context: StepContext, claim: Claim, value: Fraction) -> Verdict:
    quoted = misquoted(value, values(context.problem))
    kind = "misquoted quantity" if quoted is not None else "unknown number"
    reason = f"{_spell(value)} is stated nowhere and follows from no operation on what is"
    evidence = {"number": _spell(value)} | ({"stated": _spell(quoted)} if quoted is not None else {})
    return Verdict(state=State.REFUTED, verifier="quantities", kind=kind, text=claim.text, span=claim.span, reason=reason, evidence=evidence)


def _operands(claim: Claim) -> list[Fraction]:
    return [numeral(token)[0] for token in claim.left if token.kind is Kind.NUMBER]


def _total(claim: Claim) -> Fraction | None:
    """What the left side comes to: a known number may be taken apart into parts that nobody stated."""
    try:
        return value_of(parse(claim.left))
    except Unreadable:
        return None


def _common(value: Fraction) -> bool:
    return (value.denominator == 1 and 0 <= value <= SMALL) or value in COMMON


def _known(texts: Iterable[str]) -> frozenset[Fraction]:
    return frozenset().union(*(values(text) for text in texts))


@lru_cache(maxsize=64)
def derivable(known: frozenset[Fraction]) -> frozenset[Fraction]:
    """Known numbers, what one operation makes of two of them, unit ratios, a product with a third, sums of up to four."""
    found = set(known)
    numbers = sorted(known)
    for a in numbers:
        found |= {a * ratio for ratio in _RATIOS} | {a + 1, a - 1, 1 - a, 100 - a, 1 + a}
        for b in numbers:
            found |= {a + b, a - b, a * b}
            if b:
                found.add(a / b)
    largest = [number for number in numbers if number > 2][-10:]
    for a, b in combinations(largest, 2):
        found |= {sign * a * b + c for sign in (1, -1) for c in largest} | {a * b - c for c in largest} | {a * b * c for c in largest}
    for size in (3, 4):
        found |= {sum(chosen, Fraction(0)) for chosen in combinations(largest, size)}
    return frozenset(found | {round(value, 2) for value in found if value.denominator != 1} | {Fraction(round(value)) for value in found})


def misquoted(value: Fraction, stated: frozenset[Fraction]) -> Fraction | None:
    """The stated number that differs from this one by a digit, two swapped digits or a zero."""
    spelled = _spell(value)
    for other in sorted(stated):
        known = _spell(other)
        if other == value or len(known) < 2:
            continue
        if len(known) == len(spelled) and (sum(a != b for a, b in zip(known, spelled, strict=True)) == 1 or sorted(known) == sorted(spelled)):
            return other
        if known.rstrip("0") == spelled.rstrip("0"):
            return other
    return None


def _spell(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
