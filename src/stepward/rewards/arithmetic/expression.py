"""Expression: arithmetic as a tree, and its exact value or the interval of values that its rounded decimals stand for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

MAX_BITS = 4096  # of a numerator or denominator
MAX_EXPONENT = 64


class Unreadable(Exception):
    """The text is no arithmetic expression within the limits; the message says why. Never leaves this package."""


class Interval(NamedTuple):
    """low <= high; a point where nothing was rounded."""

    low: Fraction
    high: Fraction


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction
    places: int = 0  # digits after the point as written
    shown: bool = True  # False for a value that no numeral of the text shows


@dataclass(frozen=True, slots=True)
class Percent:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    operator: str  # + - * / ^
    left: Expression
    right: Expression


Expression = Number | Percent | Negative | Operation


def bounded(value: Fraction) -> Fraction:
    """The value, if it is small enough to go on with."""
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise Unreadable(f"a number of more than {MAX_BITS} bits")
    return value


def evaluate(expression: Expression, *, percent: Fraction = Fraction(1, 100), rounded: bool = False) -> Interval:
    """All values between which the expression lies.

    `percent` is what the sign % multiplies by. `rounded`: a decimal with d digits after the point stands for anything within half a unit
    of its last digit, v +- 10^-d / 2; otherwise for itself, and the interval is a point.

    Raises: Unreadable for a division by zero or a number beyond the limits.
    """
    match expression:
        case Number(value, places, _):
            half = Fraction(1, 2 * 10**places) if rounded and places else Fraction(0)
            return Interval(value - half, value + half)
        case Percent(operand):
            low, high = evaluate(operand, percent=percent, rounded=rounded)
            return Interval(low * percent, high * percent)
        case Negative(operand):
            low, high = evaluate(operand, percent=percent, rounded=rounded)
            return Interval(-high, -low)
        case Operation(operator, left, right):
            return _apply(operator, evaluate(left, percent=percent, rounded=rounded), evaluate(right, percent=percent, rounded=rounded))


def value_of(expression: Expression) -> Fraction:
    """The literal value: every numeral exact, % a hundredth."""
    return evaluate(expression).low


def _apply(operator: str, left: Interval, right: Interval) -> Interval:
    if operator == "+":
        return Interval(bounded(left.low + right.low), bounded(left.high + right.high))
    if operator == "-":
        return Interval(bounded(left.low - right.high), bounded(left.high - right.low))
    if operator == "^":
        return _power(left, right)
    if operator == "/":
        if right.low <= 0 <= right.high:
            raise Unreadable("a division by zero")
        right = Interval(1 / right.high, 1 / right.low)
    if left.low == left.high and right.low == right.high:
        product = bounded(left.low * right.low)
        return Interval(product, product)
    products = [bounded(a * b) for a in left for b in right]
    return Interval(min(products), max(products))


def _power(base: Interval, exponent: Interval) -> Interval:
    if exponent.low != exponent.high or exponent.low.denominator != 1 or abs(exponent.low) > MAX_EXPONENT:
        raise Unreadable(f"an exponent that is no whole number from -{MAX_EXPONENT} to {MAX_EXPONENT}")
    n = int(exponent.low)
    if base.low <= 0 <= base.high and n <= 0:
        raise Unreadable("zero to a power that is not positive")
    bits = max(abs(part).bit_length() for bound in base for part in (bound.numerator, bound.denominator))
    if bits * abs(n) > MAX_BITS:
        raise Unreadable(f"a number of more than {MAX_BITS} bits")
    ends = [base.low**n, base.high**n]
    low, high = min(ends), max(ends)
    return Interval(Fraction(0) if base.low < 0 < base.high and n % 2 == 0 else low, high)
