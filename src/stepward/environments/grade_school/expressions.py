"""Expressions: exact arithmetic over numbers and named quantities, read from tokens by a small parser of our own. Nothing here evaluates text as code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

Number = int | Fraction

MODULUS = (1 << 61) - 1  # a prime; polynomial identities are tested at a fixed pseudo-random point of this field
_MAX_TOKENS = 64
_MAX_DIGITS = 15
_MAX_BITS = 256  # larger values are not values: repeated squaring would never end
_MAX_READINGS = 4096

TOKEN = re.compile(r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?)|'s|’s|[a-z]+|\S")
_SYMBOLS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "’s": "'s"}
_FOLDED = re.compile(r"(- )?([0-9.,]+)(?: / ([0-9.,]+))? \)")  # "(-4)" and "(13/2)" are one numeral
_BINARY = {"+": 1, "-": 1, "*": 2, "/": 2}


def tokenize(text: str) -> list[str]:
    """Numbers, lower-case words and single symbols, with typographic variants made plain."""
    lowered = text.lower()
    tokens: list[str] = TOKEN.findall(lowered)
    return tokens if lowered.isascii() else [_SYMBOLS.get(token, token) for token in tokens]


def is_number(token: str) -> bool:
    return token[0].isascii() and token[0].isdigit()


def plain(value: Number) -> Number:
    """An int where the value is whole."""
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def show(value: Number) -> str:
    """A value as a step writes it: "7", "-4", "13/2"."""
    return str(value)


def operand(value: Number) -> str:
    """A value inside an expression; what is not a natural number stands in parentheses."""
    return str(value) if isinstance(value, int) and value >= 0 else f"({value})"


@dataclass(frozen=True)
class Named:
    """A quantity named inside an expression: its index, or None when the problem has no such quantity."""

    index: int | None


Item = Number | Named | str  # operand, named operand, operator ("+", "-", "*", "/", "neg")


@dataclass(frozen=True)
class Expression:
    """An expression in postfix order."""

    items: tuple[Item, ...]

    @property
    def numerals(self) -> list[Number]:
        return [item for item in self.items if isinstance(item, int | Fraction)]

    @property
    def named(self) -> list[Named]:
        return [item for item in self.items if isinstance(item, Named)]

    @property
    def bare(self) -> bool:
        """A number alone, with its sign: no operation was shown."""
        operators = [item for item in self.items if isinstance(item, str)]
        return not self.named and (not operators or operators == ["neg"])

    def value(self, stated: Mapping[int, Number]) -> Number | None:
        """The exact value, named quantities at their stated values; None when one is not stated, a divisor is 0 or it is absurdly large."""
        stack: list[Number] = []
        for item in self.items:
            if isinstance(item, Named):
                if item.index is None or item.index not in stated:
                    return None
                stack.append(stated[item.index])
            elif not isinstance(item, str):
                stack.append(item)
            elif item == "neg":
                stack.append(-stack.pop())
            else:
                right, left = stack.pop(), stack.pop()
                if item == "/" and right == 0:
                    return None
                stack.append(_apply(item, left, right))
        return _bounded(plain(stack[0]))

    def residues(self, readings: Callable[[Number], Sequence[int]], symbol: Callable[[int], int]) -> Iterator[int]:
        """The residue modulo MODULUS under every reading of the numerals.

        `readings(n)`: the residues that a numeral n may stand for (the number itself, or a quantity with that stated value);
        `symbol(i)`: the residue of quantity i. At most 4,096 readings; beyond that equal numerals are read alike.
        """
        numerals = self.numerals
        choices = {number: readings(number) for number in dict.fromkeys(numerals)}
        total = 1
        for number in numerals:
            total *= len(choices[number])
        if total <= _MAX_READINGS:
            drawn: Iterator[Sequence[int]] = product(*(choices[number] for number in numerals))
        else:
            distinct = list(choices)
            place = [distinct.index(number) for number in numerals]
            tuples = list(zip(range(_MAX_READINGS), product(*choices.values()), strict=False))
            drawn = ([reading[index] for index in place] for _, reading in tuples)
        for reading in drawn:
            residue = self._residue(reading, symbol)
            if residue is not None:
                yield residue

    def _residue(self, reading: Sequence[int], symbol: Callable[[int], int]) -> int | None:
        values = iter(reading)
        stack: list[int] = []
        for item in self.items:
            if isinstance(item, Named):
                assert item.index is not None
                stack.append(symbol(item.index))
            elif not isinstance(item, str):
                stack.append(next(values))
            elif item == "neg":
                stack.append(-stack.pop() % MODULUS)
            else:
                right, left = stack.pop(), stack.pop()
                if item == "+":
                    stack.append((left + right) % MODULUS)
                elif item == "-":
                    stack.append((left - right) % MODULUS)
                elif item == "*":
                    stack.append(left * right % MODULUS)
                elif right % MODULUS == 0:
                    return None
                else:
                    stack.append(left * pow(right, -1, MODULUS) % MODULUS)
        return stack[0]


def residue_of(value: Number) -> int | None:
    """A rational number in the field; None where its denominator vanishes."""
    if isinstance(value, int):
        return value % MODULUS
    if value.denominator % MODULUS == 0:
        return None
    return value.numerator * pow(value.denominator, -1, MODULUS) % MODULUS


def _bounded(value: Number) -> Number | None:
    return value if max(abs(value.numerator), value.denominator).bit_length() <= _MAX_BITS else None


def _apply(operator: str, left: Number, right: Number) -> Number:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return plain(Fraction(left) / right)


def parse_expression(tokens: Sequence[str], names: Mapping[tuple[str, ...], int], units: frozenset[str]) -> Expression | None:
    """The expression that all the tokens make, or None.

    Understood: + - * / ( ), one signed number or fraction in parentheses as one numeral, "x" and "of" as times,
    %, signs, thousands separators, decimals, quantity names, a unit word after a number.
    """
    if not tokens or len(tokens) > _MAX_TOKENS:
        return None
    output: list[Item] = []
    operators: list[str] = []
    expect_operand = True
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if expect_operand:
            if is_number(token):
                number = _number(token)
                if number is None:
                    return None
                output.append(number)
                expect_operand = False
            elif token in ("-", "+"):
                if token == "-":
                    operators.append("neg")
            elif token == "(":
                folded = _FOLDED.match(" ".join(tokens[position : position + 5]))
                if folded is None:
                    operators.append("(")
                    continue
                sign, numerator, denominator = folded.groups()
                number, divisor = _number(numerator), _number(denominator or "1")
                if number is None or not divisor:
                    return None
                output.append(_apply("/", -number if sign else number, divisor))
                position += folded.group().count(" ") + 1
                expect_operand = False
            else:
                found = match_name(tokens, position - 1, names)
                if found is None:
                    return None
                named, position = found
                output.append(named)
                expect_operand = False
            continue
        if token in units and is_number(tokens[position - 2]):
            continue
        if token == "%":
            output.extend((100, "/"))
            continue
        token = "*" if token in ("x", "of") else token
        if token in _BINARY:
            while operators and operators[-1] != "(" and (operators[-1] == "neg" or _BINARY[operators[-1]] >= _BINARY[token]):
                output.append(operators.pop())
            operators.append(token)
            expect_operand = True
        elif token == ")":
            while operators and operators[-1] != "(":
                output.append(operators.pop())
            if not operators:
                return None
            operators.pop()
        else:
            return None
    if expect_operand or "(" in operators:
        return None
    output.extend(reversed(operators))
    return Expression(tuple(output))


def match_name(tokens: Sequence[str], start: int, names: Mapping[tuple[str, ...], int]) -> tuple[Named, int] | None:
    """The quantity named from `start` and where its name ends; Named(None) for "somebody's things" that the problem does not have."""
    for length in (4, 3, 2, 1):
        index = names.get(tuple(tokens[start : start + length]))
        if index is not None:
            return Named(index), start + length
    first = start + 1 if tokens[start] == "each" else start
    if len(tokens) >= first + 3 and tokens[first].isalpha() and tokens[first + 1] == "'s" and tokens[first + 2].isalpha():
        return Named(None), first + 3
    return None


def _number(token: str) -> Number | None:
    digits = token.replace(",", "")
    if len(digits) > _MAX_DIGITS or not digits.isascii():
        return None
    return plain(Fraction(digits)) if "." in digits else int(digits)
