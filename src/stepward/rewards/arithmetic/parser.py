"""Parser: tokens to an expression by recursive descent, under one of several groupings. It never executes anything."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from fractions import Fraction

from stepward.rewards.arithmetic.expression import Expression, Negative, Number, Operation, Percent, Unreadable
from stepward.rewards.arithmetic.token import Kind, Token, numeral

MAX_DEPTH = 50


class Grouping(Enum):
    """How signs bind. STANDARD is the literal reading; the others are what hurried writers mean, and only ever prevent a refutation."""

    STANDARD = "standard precedence"
    CALCULATOR = "from left to right, as typed into a calculator"
    WIDE_DENOMINATOR = "all factors after a slash form the denominator"
    TIGHT_MINUS = "a minus sign binds before a power"
    LEADING_DASH = "a leading dash is punctuation"
    WIDE_OF = "'of' applies to all that follows"
    RELATIVE_PERCENT = "adding a percentage means of what stands before it"


def parse(tokens: Sequence[Token], grouping: Grouping = Grouping.STANDARD) -> Expression:
    """The expression that the tokens spell, units left out.

    Raises: Unreadable when they spell none.
    """
    start = 1 if grouping is Grouping.LEADING_DASH and tokens and tokens[0].text == "-" else 0
    parser = _Parser(tokens[start:], grouping)
    expression = parser.sum()
    if parser.position != len(parser.tokens):
        raise Unreadable(f"unexpected {parser.tokens[parser.position].text[:20]!r}")
    return expression


class _Parser:
    def __init__(self, tokens: Sequence[Token], grouping: Grouping) -> None:
        self.tokens = tokens
        self.grouping = grouping
        self.position = 0
        self.depth = 0

    def peek(self) -> tuple[Kind | None, str]:
        if self.position < len(self.tokens):
            token = self.tokens[self.position]
            return token.kind, token.text
        return None, ""

    def sign(self, signs: str) -> str:
        """The operator at hand if it is one of `signs`, consumed; else nothing."""
        kind, text = self.peek()
        if kind is Kind.OPERATOR and text in signs:
            self.position += 1
            return text
        return ""

    def sum(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable(f"brackets nested more than {MAX_DEPTH} deep")
        total = self.product()
        while sign := self.sign("+-*/" if self.grouping is Grouping.CALCULATOR else "+-"):
            term = self.product()
            if self.grouping is Grouping.RELATIVE_PERCENT and isinstance(term, Percent):
                total = Operation("*", total, Operation(sign, Number(Fraction(1), shown=False), term))
            else:
                total = Operation(sign, total, term)
        self.depth -= 1
        return total

    def product(self) -> Expression:
        total = self.signed()
        while True:
            kind, _ = self.peek()
            if kind is Kind.OF:
                if not _is_share(total):
                    raise Unreadable("'of' after a number that is no share")
                self.position += 1
                total = Operation("*", total, self.sum() if self.grouping is Grouping.WIDE_OF else self.signed())
            elif self.implicit(kind):
                total = Operation("*", total, self.signed())
            elif self.grouping is Grouping.CALCULATOR:
                return total
            elif sign := self.sign("*/"):
                wide = sign == "/" and self.grouping is Grouping.WIDE_DENOMINATOR
                total = Operation(sign, total, self.product() if wide else self.signed())
            else:
                return total

    def implicit(self, kind: Kind | None) -> bool:
        """Whether two factors stand side by side: 2(3), (2)(3), (2)\\frac{1}{3}; a number before a fraction may be a mixed number and is refused."""
        before = self.tokens[self.position - 1].kind
        if kind is Kind.OPEN:
            return before is not Kind.WORD
        return kind is Kind.FRACTION and before in (Kind.CLOSE, Kind.BRACE_CLOSE)

    def signed(self) -> Expression:
        negative = False
        signs = 0
        while sign := self.sign("+-"):
            negative ^= sign == "-"
            signs += 1
        if signs > 2:
            raise Unreadable("a row of signs")
        if negative and self.grouping is Grouping.TIGHT_MINUS:
            return self.power(Negative(self.atom()))
        operand = self.power(self.atom())
        return Negative(operand) if negative else operand

    def power(self, base: Expression) -> Expression:
        kind, text = self.peek()
        if kind is Kind.SUPERSCRIPT:
            self.position += 1
            base = Operation("^", base, Number(Fraction(text)))
        elif self.sign("^"):
            exponent = self.signed_exponent()
            base = Operation("^", base, exponent)
        return self.measured(base)

    def signed_exponent(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable(f"powers nested more than {MAX_DEPTH} deep")
        exponent = self.signed()
        self.depth -= 1
        return exponent

    def atom(self) -> Expression:
        kind, text = self.peek()
        if self.position >= len(self.tokens):
            raise Unreadable("an operand is missing")
        self.position += 1
        if kind is Kind.NUMBER:
            value, places = numeral(self.tokens[self.position - 1])
            following, glyph = self.peek()
            if following is Kind.GLYPH:
                if places or self.tokens[self.position].end - self.tokens[self.position].start != 1:
                    raise Unreadable("a number before a fraction: a mixed number or a product")
                self.position += 1
                return self.measured(Number(value + Fraction(glyph)))
            return self.measured(Number(value, places))
        if kind is Kind.GLYPH:
            return self.measured(Operation("/", *(Number(Fraction(part)) for part in text.split("/"))))
        if kind is Kind.OPEN:
            return self.measured(self.group(Kind.CLOSE))
        if kind is Kind.BRACE_OPEN:
            return self.measured(self.group(Kind.BRACE_CLOSE))
        if kind is Kind.FRACTION:
            numerator = self.argument()
            return self.measured(Operation("/", numerator, self.argument()))
        raise Unreadable(f"unexpected {text[:20]!r}")

    def argument(self) -> Expression:
        if self.peek()[0] is not Kind.BRACE_OPEN:
            raise Unreadable("a fraction without braces")
        self.position += 1
        return self.group(Kind.BRACE_CLOSE)

    def group(self, closing: Kind) -> Expression:
        inside = self.sum()
        if self.peek()[0] is not closing:
            raise Unreadable("a bracket is not closed")
        self.position += 1
        return inside

    def measured(self, operand: Expression) -> Expression:
        """The operand with its percent sign, and past its unit words (with their own powers, as in cm^2 and m/s)."""
        if self.peek()[0] is Kind.PERCENT:
            self.position += 1
            operand = Percent(operand)
        while self.peek()[0] is Kind.WORD or self._per_unit():
            self.position += 1
            if self.peek()[0] is Kind.SUPERSCRIPT:
                self.position += 1
            elif self.peek() == (Kind.OPERATOR, "^"):
                self._unit_power()
        return operand

    def _per_unit(self) -> bool:
        kind, text = self.peek()
        following = self.tokens[self.position + 1] if self.position + 1 < len(self.tokens) else None
        return kind is Kind.OPERATOR and text == "/" and following is not None and following.kind is Kind.WORD

    def _unit_power(self) -> None:
        self.position += 1
        kinds = [token.kind for token in self.tokens[self.position : self.position + 3]]
        if kinds[:1] == [Kind.NUMBER]:
            self.position += 1
        elif kinds == [Kind.BRACE_OPEN, Kind.NUMBER, Kind.BRACE_CLOSE]:
            self.position += 3
        else:
            raise Unreadable("a unit to an unknown power")


def _is_share(expression: Expression) -> bool:
    """Whether "of" can follow: a percentage, a fraction or a decimal."""
    return (
        isinstance(expression, Percent)
        or (isinstance(expression, Number) and expression.places > 0)
        or (isinstance(expression, Operation) and expression.operator == "/")
    )
