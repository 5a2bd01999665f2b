"""Operations: what a derived quantity is computed from and how a step writes it. Nothing here knows names or wording."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

# operation -> number of parents (None: two or three), number of constants
OPERATIONS: dict[str, tuple[int | None, int]] = {
    "given": (0, 0),
    "pack": (0, 2),  # k boxes with c each: k * c
    "sum": (None, 0),  # a + b (+ c)
    "difference": (2, 0),  # a - b
    "plus": (1, 1),  # a + c
    "minus": (1, 1),  # a - c
    "times": (1, 1),  # k * a
    "share": (1, 1),  # a / k
    "fraction": (1, 2),  # a * p / q
    "percent": (1, 1),  # a * p / 100
    "times_plus": (1, 2),  # k * a + c
    "times_minus": (1, 2),  # k * a - c
    "part_plus": (1, 2),  # a / k + c
    "part_minus": (1, 2),  # a / k - c
}


def expression(operation: str, values: Sequence[object], numbers: Sequence[object]) -> str:
    """The right-hand side that a gold step writes, e.g. "12 * 2 / 3"."""
    match operation, [*values], [*numbers]:
        case "pack", [], [k, c]:
            return f"{k} * {c}"
        case "sum", [*terms], []:
            return " + ".join(map(str, terms))
        case "difference", [a, b], []:
            return f"{a} - {b}"
        case "plus", [a], [c]:
            return f"{a} + {c}"
        case "minus", [a], [c]:
            return f"{a} - {c}"
        case "times", [a], [k]:
            return f"{k} * {a}"
        case "share", [a], [k]:
            return f"{a} / {k}"
        case "fraction", [a], [1, q]:
            return f"{a} / {q}"
        case "fraction", [a], [p, q]:
            return f"{a} * {p} / {q}"
        case "percent", [a], [p]:
            return f"{a} * {p} / 100"
        case "times_plus", [a], [k, c]:
            return f"{k} * {a} + {c}"
        case "times_minus", [a], [k, c]:
            return f"{k} * {a} - {c}"
        case "part_plus", [a], [k, c]:
            return f"{a} / {k} + {c}"
        case "part_minus", [a], [k, c]:
            return f"{a} / {k} - {c}"
    raise AssertionError(f"no expression for {operation!r} of {len(values)} values and {len(numbers)} numbers")


def evaluate(operation: str, values: Sequence[Fraction | int], numbers: Sequence[int]) -> Fraction:
    """The exact value of the operation on any values, right or wrong."""
    match operation, [*values], [*numbers]:
        case "pack", [], [k, c]:
            return Fraction(k * c)
        case "sum", [*terms], []:
            return Fraction(sum(terms))
        case "difference", [a, b], []:
            return Fraction(a - b)
        case "plus", [a], [c]:
            return Fraction(a + c)
        case "minus", [a], [c]:
            return Fraction(a - c)
        case "times", [a], [k]:
            return Fraction(a * k)
        case "share", [a], [k]:
            return Fraction(a) / k
        case "fraction", [a], [p, q]:
            return Fraction(a) * p / q
        case "percent", [a], [p]:
            return Fraction(a) * p / 100
        case "times_plus", [a], [k, c]:
            return Fraction(a * k + c)
        case "times_minus", [a], [k, c]:
            return Fraction(a * k - c)
        case "part_plus", [a], [k, c]:
            return Fraction(a) / k + c
        case "part_minus", [a], [k, c]:
            return Fraction(a) / k - c
    raise AssertionError(f"no value for {operation!r} of {len(values)} values and {len(numbers)} numbers")
