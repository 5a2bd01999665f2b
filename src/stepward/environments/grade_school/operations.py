"""Operations: what a derived quantity is computed from and how a step writes it. Nothing here knows names or wording."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

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


# operation -> postfix order of the expression that a gold step writes: p0, p1 parents, n0, n1 constants
_POSTFIX: dict[str, tuple[str, ...]] = {
    "pack": ("n0", "n1", "*"),
    "difference": ("p0", "p1", "-"),
    "plus": ("p0", "n0", "+"),
    "minus": ("p0", "n0", "-"),
    "times": ("n0", "p0", "*"),
    "share": ("p0", "n0", "/"),
    "fraction": ("p0", "n0", "*", "n1", "/"),
    "percent": ("p0", "n0", "*", "100", "/"),
    "times_plus": ("n0", "p0", "*", "n1", "+"),
    "times_minus": ("n0", "p0", "*", "n1", "-"),
    "part_plus": ("p0", "n0", "/", "n1", "+"),
    "part_minus": ("p0", "n0", "/", "n1", "-"),
}
_UNIT_FRACTION = ("p0", "n1", "/")
_SUMS = {2: ("p0", "p1", "+"), 3: ("p0", "p1", "+", "p2", "+")}
OPERATORS = ("+", "-", "*", "/")

T = TypeVar("T")


def postfix(operation: str, parents: Sequence[T], numbers: Sequence[int]) -> tuple[T | int | str, ...]:
    """The operation's expression in postfix order, e.g. (parent, 2, "*", 3, "/")."""
    if operation == "sum":
        pattern = _SUMS[len(parents)]
    elif operation == "fraction" and numbers[0] == 1:
        pattern = _UNIT_FRACTION
    else:
        pattern = _POSTFIX[operation]
    items: list[T | int | str] = []
    for part in pattern:
        if part[0] == "p":
            items.append(parents[int(part[1])])
        elif part[0] == "n":
            items.append(numbers[int(part[1])])
        else:
            items.append(part if part in OPERATORS else int(part))
    return tuple(items)


def expression(operation: str, values: Sequence[object], numbers: Sequence[int]) -> str:
    """The expression that a gold step writes, e.g. "12 * 2 / 3"; none needs parentheses."""
    return infix(postfix(operation, [str(value) for value in values], numbers))


def infix(items: Sequence[object]) -> str:
    """Postfix items in which every operation's right operand is one number, as text."""
    stack: list[str] = []
    for item in items:
        if item in OPERATORS:
            right, left = stack.pop(), stack.pop()
            stack.append(f"{left} {item} {right}")
        else:
            stack.append(str(item))
    return stack[0]


def evaluate(items: Sequence[Fraction | int | str]) -> Fraction | int:
    """The exact value of postfix items, an int where it is whole. Raises: ZeroDivisionError."""
    stack: list[Fraction | int] = []
    for item in items:
        if not isinstance(item, str):
            stack.append(item)
            continue
        right, left = stack.pop(), stack.pop()
        if item == "+":
            stack.append(left + right)
        elif item == "-":
            stack.append(left - right)
        elif item == "*":
            stack.append(left * right)
        elif isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
            stack.append(left // right)
        else:
            stack.append(Fraction(left) / right)
    result = stack[0]
    return result.numerator if isinstance(result, Fraction) and result.denominator == 1 else result
