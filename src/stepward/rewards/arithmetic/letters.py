"""Letters: problems that are one arithmetic expression, solved part by part under names (A = ..., B = ..., A - B = ...).

Here nothing is prose: every side of an equality is the problem's expression, a part of it, or names whose values are known, so that each is read
literally. BIG-Bench's multistep arithmetic is written so (BIG-Bench Mistake: LLMs cannot find reasoning errors, but can correct them, 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from stepward.rewards.arithmetic.expression import MAX_BITS, MAX_EXPONENT
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

_BARE = re.compile(r"[\s0-9+\-*/^().]+=?\s*\??\s*")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([A-Z])(?![a-z])|(.))")
_SIDE = r"[-+*/^()\s0-9A-Z.]*[0-9A-Z)]"
_CHAIN = re.compile(rf"(?<![A-Za-z])(?P<chain>(?:{_SIDE})(?:\s*=\s*(?:{_SIDE}))+)(?![a-z])")
_WRITTEN = re.compile(rf"written as\s+[\"“]?(?P<whole>{_SIDE})[\"”]?")
_ANSWER = re.compile(r"answer is\s*(?P<answer>-?\d{1,40}(?:\.\d{1,20})?)")
_MAX_TEXT = 4000
_MAX_DEPTH = 40


class _Unknown(Exception):
    """No expression, or a name without a value."""


def is_bare(problem: str) -> bool:
    """Whether the problem is one arithmetic expression and nothing else."""
    return len(problem) <= _MAX_TEXT and _BARE.fullmatch(problem) is not None and re.search(r"\d\s*[-+*/^]\s*[-(\d]", problem) is not None


def check_letters(context: StepContext) -> Iterator[Verdict]:
    """A verdict on each equality of the step, on the parts that the problem is divided into, and on the answer."""
    goal = _value(context.problem.rstrip().rstrip("?").rstrip().rstrip("="), {})
    names: dict[str, Fraction] = {}
    whole = ""
    for step in context.before:
        for _ in _read(step.text, names):
            pass
        whole = _whole(step.text) or whole
    stated = _whole(context.text)
    for left, right, a, b, span in _read(context.text, names):
        yield _verdict("equality", span, a, b, f"{left} = {right}")
    if stated and goal is not None:
        value = _value(stated, names)
        if value is not None:
            yield _verdict("division into parts", (0, len(context.text)), value, goal, stated)
    answer = _ANSWER.search(context.text)
    if answer is not None and goal is not None:
        yield _verdict("answer", answer.span(), Fraction(answer["answer"]), goal, answer["answer"])


def _read(text: str, names: dict[str, Fraction]) -> Iterator[tuple[str, str, Fraction, Fraction, tuple[int, int]]]:
    """Neighbouring sides of every chain with their values; names on the left of a first link take the value of what follows."""
    for match in _CHAIN.finditer(text[:_MAX_TEXT]):
        sides = [side.strip().rstrip(".") for side in match["chain"].split("=")]
        numbers = [_value(side, names) for side in sides]
        start = match.start()
        if re.fullmatch(r"[A-Z]", sides[0]):
            name, known = sides[0], [number for number in numbers[1:] if number is not None]
            previous = names.get(name)
            if previous is not None and numbers[1] is not None:
                yield name, sides[1], previous, numbers[1], match.span()
            elif numbers[1] is not None:
                names[name] = numbers[1]
            elif known:
                names[name] = known[-1]
            sides, numbers = sides[1:], numbers[1:]
        readable = [(side, number) for side, number in zip(sides, numbers, strict=True) if number is not None]
        for (left, a), (right, b) in pairwise(readable):  # a chain says that all its sides are equal, also around one that cannot be read
            yield left, right, a, b, (start, match.end())


def _whole(text: str) -> str:
    match = _WRITTEN.search(text[:_MAX_TEXT])
    return match["whole"] if match and re.search(r"[A-Z]", match["whole"]) else ""


def _verdict(kind: str, span: tuple[int, int], a: Fraction, b: Fraction, text: str) -> Verdict:
    state = State.SUPPORTED if a == b else State.REFUTED
    reason = "both sides are equal" if a == b else "the sides differ"
    return Verdict(state=state, verifier="arithmetic", kind=kind, text=text, span=span, reason=reason, evidence={"left": str(a)[:40], "right": str(b)[:40]})


def _value(text: str, names: dict[str, Fraction]) -> Fraction | None:
    """The literal value: powers, then * and / from the left, then + and -; signs may follow operators. None where it has none."""
    tokens = [match[1] or match[2] or match[3] for match in _TOKEN.finditer(text.strip()) if (match[1] or match[2] or match[3] or "").strip()]
    try:
        reader = _Reader(tokens, names)
        value = reader.sum(0)
        return value if reader.at == len(tokens) and tokens else None
    except (_Unknown, ZeroDivisionError):
        return None


class _Reader:
    def __init__(self, tokens: list[str], names: dict[str, Fraction]) -> None:
        self.tokens, self.names, self.at = tokens, names, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, signs: str) -> str:
        token = self.peek()
        if token and token in signs:
            self.at += 1
            return token
        return ""

    def sum(self, depth: int) -> Fraction:
        if depth > _MAX_DEPTH:
            raise _Unknown
        total = self.product(depth)
        while sign := self.take("+-"):
            term = self.product(depth)
            total = total + term if sign == "+" else total - term
        return total

    def product(self, depth: int) -> Fraction:
        total = self.signed(depth)
        while sign := self.take("*/"):
            factor = self.signed(depth)
            total = total * factor if sign == "*" else total / factor
            if total.numerator.bit_length() > MAX_BITS:
                raise _Unknown
        return total

    def signed(self, depth: int) -> Fraction:
        if depth > _MAX_DEPTH:
            raise _Unknown
        if sign := self.take("+-"):
            value = self.signed(depth + 1)
            return -value if sign == "-" else value
        base = self.atom(depth)
        if self.take("^"):
            exponent = self.signed(depth + 1)
            if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or base.numerator.bit_length() > 64:
                raise _Unknown
            base = base ** int(exponent)
        return base

    def atom(self, depth: int) -> Fraction:
        token = self.peek()
        self.at += 1
        if token[:1].isdigit():
            if len(token) > 40:
                raise _Unknown
            return Fraction(token)
        if token == "(":
            value = self.sum(depth + 1)
            if not self.take(")"):
                raise _Unknown
            return value
        if token in self.names:
            return self.names[token]
        raise _Unknown
