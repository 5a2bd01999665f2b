"""Site: one step of a right solution as operators see it: its equations, its subject, and the numbers and names that stand before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from stepward.core import Step, Trajectory
from stepward.rewards.arithmetic.token import Kind, Token, tokenize
from stepward.rewards.arithmetic.verdict import check_all
from stepward.rewards.verifiers import State

_SUBJECT = re.compile(r"^\s*([A-Za-z][A-Za-z'’ ]{0,60}?)\s*=")
_NAME = re.compile(  # inside a sentence, before a possessive, or at its start before what looks like a verb
    r"(?<![.!?:]\s)(?<!^)\b[A-Z][a-z]{1,20}\b|\b[A-Z][a-z]{1,20}(?=['’]s\b)|\b[A-Z][a-z]{1,20}(?= (?:has|had|is|was|can|[a-z]{2,12}(?:s|ed))\b)"
)
_OPENING = "A An All Each Every He His Her How If In It Its No She Some That The Their There These They This Those Together We What When Which Who You Your"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = "January February March April May June July August September October November December"
_NO_NAMES = frozenset(f"{_OPENING} {_DAYS} {_DAYS.replace('day', 'days')} {_MONTHS}".split())


@dataclass(frozen=True)
class Equation:
    """An equality of a step that arithmetic supports, with a single number on its right: `operands` and `operators` of the left side, `result`."""

    text: str
    start: int
    operands: tuple[Token, ...]
    operators: tuple[Token, ...]
    result: Token
    value: Fraction

    def rewritten(self, *changes: tuple[Token, str], recompute: bool = True) -> str | None:
        """The step's text with these tokens of the left side replaced, and the result that they then give; None where that is not a whole positive number
        (or, for results that were not whole, has no short decimal), or is the result that stood there."""
        if not recompute:
            return substituted(self.text, changes)
        left = substituted(self.text[: self.result.start], changes)[self.start :]
        found = check_all(left + "0")
        value = found[-1].left if found else None
        if value is None or value == self.value or value <= 0 or (self.value.denominator == 1) != (value.denominator == 1):
            return None
        shown = spelled(value)
        return None if shown is None else self.text[: self.start] + left + shown + self.after(shown)

    def after(self, result: str) -> str:
        """What follows the equation, with this result wherever its own was repeated."""
        repeated = rf"(?<![\w.,]){re.escape(self.result.text)}(?![\w]|[.,]\d)"
        return re.sub(repeated, result, self.text[self.result.end :])


def substituted(text: str, changes: tuple[tuple[Token, str], ...]) -> str:
    """The text with tokens replaced."""
    for token, new in sorted(changes, key=lambda change: -change[0].start):
        text = text[: token.start] + new + text[token.end :]
    return text


def spelled(value: Fraction) -> str | None:
    """The value as a whole number or a decimal of at most four places; None where that is not exact."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**4
    return None if scaled.denominator != 1 else f"{float(value):.4f}".rstrip("0")


@dataclass(frozen=True)
class Site:
    """Step `at` of a solution that is right throughout."""

    trajectory: Trajectory
    at: int

    @property
    def step(self) -> Step:
        return self.trajectory.steps[self.at]

    @property
    def text(self) -> str:
        return self.step.text

    @cached_property
    def equations(self) -> tuple[Equation, ...]:
        """The equations of this step."""
        return equations(self.text)

    @cached_property
    def subject(self) -> str | None:
        """What the step says something about: the words before its first equals sign."""
        found = _SUBJECT.match(self.text)
        return None if found is None else found[1]

    @cached_property
    def results(self) -> dict[int, Fraction]:
        """What earlier steps arrive at: the result of each one's last equation, by step."""
        return {step: found[-1].value for step in range(self.at) if (found := equations(self.trajectory.steps[step].text))}

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Numerals of the problem and of earlier results, sorted."""
        return tuple(sorted(self.told | {str(value) for value in self.results.values()}))

    @cached_property
    def told(self) -> frozenset[str]:
        """Numerals of the problem."""
        return frozenset(token.text for token in tokenize(self.trajectory.problem.prompt) if token.kind is Kind.NUMBER)

    def only_from(self, step: int) -> bool:
        """Whether the result of an earlier step is had from nowhere else: no other earlier result and no number of the problem equals it."""
        value = self.results[step]
        return str(value) not in self.told and list(self.results.values()).count(value) == 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in the problem, as far as capitals and what stands beside them tell; no days or months."""
        return tuple(sorted(set(_NAME.findall(self.trajectory.problem.prompt)) - _NO_NAMES))

    def with_text(self, text: str) -> tuple[Step, ...]:
        """All steps, with this one's text changed; what was measured of it is forgotten."""
        steps = list(self.trajectory.steps)
        steps[self.at] = replace(self.step, text=text, n_tokens=None, logprob=None)
        return tuple(steps)


def equations(text: str) -> tuple[Equation, ...]:
    """The supported equalities of a text that have one numeral on their right; calculator annotations (<<3+4=7>>) and what they repeat are left alone."""
    found = []
    for verdict in check_all(text):
        claim = verdict.claim
        if verdict.state is not State.SUPPORTED or verdict.left is None or len(claim.right) != 1 or claim.right[0].kind is not Kind.NUMBER:
            continue
        if claim.annotation:  # says once more what stands beside it, and only one of the two would be changed
            continue
        operands = tuple(token for token in claim.left if token.kind is Kind.NUMBER)
        operators = tuple(token for token in claim.left if token.kind is Kind.OPERATOR)
        found.append(Equation(text, claim.span[0], operands, operators, claim.right[0], verdict.right if verdict.right is not None else verdict.left))
    return tuple(found)
