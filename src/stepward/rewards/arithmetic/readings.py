"""Readings: everything that a false-looking equality may mean. Only what fails under all of them is refuted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from stepward.rewards.arithmetic.claim import Claim
from stepward.rewards.arithmetic.expression import Expression, Interval, Negative, Number, Operation, Percent, Unreadable, evaluate, value_of
from stepward.rewards.arithmetic.parser import Grouping, parse
from stepward.rewards.arithmetic.token import Kind, Token
from stepward.rewards.arithmetic.vocabulary import CONVERSION_RATIOS

_PERCENTS = (Fraction(1, 100), Fraction(1))
_FLOAT_DIGITS = 12  # a decimal with at least so many significant digits may be a calculator's floating-point result ...
_FLOAT_ERROR = Fraction(1, 10**12)  # ... with a relative error up to this
_POWERS_OF_TEN = frozenset(Fraction(10) ** k for k in (2, 3, 6, -2, -3, -6))


class _Value(NamedTuple):
    interval: Interval
    exact: bool  # every decimal taken as written
    reading: str


class Numeral(NamedTuple):
    """A side that is one written number: its value and the unit of its last digit."""

    value: Fraction
    unit: Fraction
    pointed: bool  # digits after the point are shown


def numeral_of(expression: Expression) -> Numeral | None:
    """The numeral that the expression is, with its sign or percent sign; None when it computes anything."""
    match expression:
        case Number(value, places, True):
            return Numeral(value, Fraction(1, 10**places), places > 0)
        case Negative(operand):
            inner = numeral_of(operand)
            return inner and Numeral(-inner.value, inner.unit, inner.pointed)
        case Percent(operand):
            inner = numeral_of(operand)
            return inner and Numeral(inner.value / 100, inner.unit / 100, inner.pointed)
    return None


def excuse(claim: Claim, left: Expression, right: Expression) -> str:
    """The reading under which the equality may hold although its literal reading fails; "" when there is none.

    Raises: Unreadable.
    """
    l, r = value_of(left), value_of(right)  # noqa: E741
    lefts, rights = list(_values(claim.left, dash=not claim.annotation)), list(_values(claim.right, dash=False))
    for a in lefts:
        for b in rights:
            if reading := _agree(a, b, right) or _agree(b, a, left):
                return reading
    if _is_float_tail(left, l, r) or _is_float_tail(right, r, l):
        return "a calculator's floating-point result"
    if l and r:
        ratio = l / r
        if ratio in _POWERS_OF_TEN:
            return "the sides differ by a power of ten, as dollars and cents do"
        if claim.units and (ratio in CONVERSION_RATIOS or 1 / ratio in CONVERSION_RATIOS):
            return "the sides differ by a unit's ratio"
    if (_is_share(left, l, claim.left) and abs(r) > 1) or (_is_share(right, r, claim.right) and abs(l) > 1):
        return "a share of an unnamed whole"
    if isinstance(left, Operation) and l in _edges(right):
        return "a running total written with equals signs"
    return ""


def _values(tokens: Sequence[Token], *, dash: bool) -> Iterator[_Value]:
    """The values of one side under every grouping, meaning of % and exactness of decimals that differ; `dash`: a leading one may be punctuation."""
    kinds = {token.kind for token in tokens}
    for grouping in Grouping:
        if grouping is Grouping.LEADING_DASH and not dash:
            continue
        try:
            expression = parse(tokens, grouping)
        except Unreadable:
            continue
        for percent in _PERCENTS if Kind.PERCENT in kinds else _PERCENTS[:1]:
            for rounded in (False, True):
                try:
                    interval = evaluate(expression, percent=percent, rounded=rounded)
                except Unreadable:
                    if rounded:
                        raise
                    continue
                if rounded and interval.low == interval.high:
                    continue
                about_percent = "" if percent != 1 else ", % as a unit"
                about_decimals = ", decimals as rounded" if rounded else ""
                yield _Value(interval, not rounded, f"{grouping.value}{about_percent}{about_decimals}")


def _agree(a: _Value, b: _Value, shown: Expression) -> str:
    """Whether value b, written as `shown`, can stand for value a; the reading's name, or ""."""
    if a.interval.low <= b.interval.high and b.interval.low <= a.interval.high:
        return a.reading if a.reading != Grouping.STANDARD.value else b.reading
    numeral = numeral_of(shown)
    if numeral is None or not b.exact:
        return ""
    scale = b.interval.low / numeral.value if numeral.value else Fraction(1)  # % as a unit
    unit = numeral.unit * abs(scale)
    if not a.exact:
        near = a.interval.low - unit / 2 <= b.interval.low <= a.interval.high + unit / 2
        return f"{a.reading}, result rounded" if near else ""
    if not numeral.pointed:
        unit = _coarsest(a.interval.low, numeral, unit)
    steps = a.interval.low / unit
    return "rounded or cut off at the last digit" if floor(steps) * unit <= b.interval.low <= ceil(steps) * unit else ""


def _coarsest(value: Fraction, numeral: Numeral, unit: Fraction) -> Fraction:
    """A whole number that ends in zeros may be rounded to them, unless the value is whole itself."""
    whole = numeral.value / numeral.unit
    while value.denominator != 1 and whole and whole % 10 == 0:
        whole /= 10
        unit *= 10
    return unit


def _is_float_tail(shown: Expression, value: Fraction, other: Fraction) -> bool:
    """Whether the side is a decimal as long as a double prints, and as near to the other side: 580/110 = 5.2727272727272725."""
    numeral = numeral_of(shown)
    if numeral is None or not numeral.pointed or len(str(abs(value / numeral.unit))) < _FLOAT_DIGITS:
        return False
    return abs(value - other) <= _FLOAT_ERROR * abs(other)


def _is_share(expression: Expression, value: Fraction, tokens: Sequence[Token]) -> bool:
    """Whether the side is a part of a whole: 3/4, 100% - 20%."""
    if not isinstance(expression, Operation | Percent):
        return False
    numbers = sum(token.kind is Kind.NUMBER for token in tokens)
    if numbers == sum(token.kind is Kind.PERCENT for token in tokens):
        return True
    return 0 < value < 1 and any(token.kind in (Kind.PERCENT, Kind.FRACTION, Kind.GLYPH) or token.text == "/" for token in tokens)


def _edges(expression: Expression) -> set[Fraction]:
    """Values of the parts at the outer edges of a computation: in 8*2 both 8 and 2."""
    found: set[Fraction] = set()
    for edge in ("left", "right"):
        part = expression
        while isinstance(part, Operation):
            part = part.left if edge == "left" else part.right
            try:
                found.add(value_of(part))
            except Unreadable:
                break
    return found
