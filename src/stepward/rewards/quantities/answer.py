"""The final answer: is it a number that the solution came to, and of a kind that can be counted?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from stepward.rewards.arithmetic.claim import extract
from stepward.rewards.quantities.mention import mentions, values
from stepward.rewards.quantities.provenance import MATHEMATICS, derivable
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

_ANSWER = re.compile(r"(?:\\boxed\s*\{(?P<boxed>[^{}]*)\}|(?:[Tt]he (?:final )?answer is:?|####)\s*(?:\\\(|\$)?\s*(?P<said>\\?\$?-?[0-9][0-9,]*(?:\.[0-9]+)?))")
_NUMERAL = re.compile(r"\\?\$?\s*(-?[0-9][0-9,]{0,20}(?:\.[0-9]{1,12})?|-?\.[0-9]{1,12})\s*(?:\\?%|\\text\{[^{}]*\}|[a-z ]*)\.?")
_SIGNS = re.compile(r"[0-9)}]\s*(?:[-+*/×÷^]|x\s|\\(?:times|cdot|div))|\\frac|\b(?:plus|times|minus|divided|add|multipl|subtract)")
_COUNTED = re.compile(
    r"[Hh]ow many (?:more |fewer |other |different |total |new |of the |of |extra |additional )*"
    r"(?P<noun>people|children|kids|students|boys|girls|men|women|friends|players|members|workers|employees|passengers|animals|dogs|cats|cows|birds|fish|chickens"
    r"|puppies|kittens|horses|cars|buses|trees|eggs|marbles|coins|stickers|books|balloons|toys|houses|rooms|chairs|tickets|candles|flowers|customers)\b"
)


def stated_answer(text: str) -> tuple[Fraction, tuple[int, int]] | None:
    """The number that a text states as its final answer, with its place; None when there is none or it is no plain number."""
    found = list(_ANSWER.finditer(text))
    if not found:
        return None
    match = found[-1]
    numeral = _NUMERAL.fullmatch((match["boxed"] or match["said"]).replace("\\!", "").replace("{,}", ",").replace("\\,", "").strip())
    return None if numeral is None else (Fraction(numeral[1].replace(",", "")), match.span())


def check_answer(context: StepContext) -> Iterator[Verdict]:
    """Refutes a final answer that occurs nowhere before and follows from no operation on what does; doubts one that is not the last computed result."""
    stated = stated_answer(context.text)
    if stated is None or not mentions(context.problem):
        return
    answer, span = stated
    before = context.text[: span[0]]
    texts = (context.problem, *(step.text for step in context.before), before)
    known = frozenset().union(*(values(text) for text in texts))
    prose = MATHEMATICS.search(context.problem) is None
    if prose and answer not in known and answer > 12 and len(known) < 60 and not _SIGNS.search(before):
        near = any(abs(value - answer) < 1 for value in known)
        if not near and answer not in derivable(known):
            yield _verdict(context, span, "unknown answer", "the answer is computed nowhere", {"answer": str(answer)})
    last = _last_result(before)
    if prose and last is not None and last != answer and abs(last - answer) >= 1 and last not in (answer * 100, answer / 100):
        yield _verdict(
            context, span, "not the last result", "the step computes another number last", {"answer": str(answer), "last result": str(last)}, exact=False
        )
    counted = _COUNTED.search(context.problem)
    if (
        counted
        and (answer.denominator != 1 or answer < 0)
        and not re.search(r"\baverage|\bmean\b|\bper\b|\beach\b|\bevery\b", context.problem[counted.start() :])
    ):
        yield _verdict(context, span, "impossible kind", f"no count of {counted['noun']}", {"answer": str(answer)})


def _last_result(text: str) -> Fraction | None:
    """The right side of the last equality of a text when it is a plain number."""
    claims = [claim for claim in extract(text) if not claim.obstacle]
    if not claims:
        return None
    numbers = mentions(text[claims[-1].right[0].start : claims[-1].right[-1].end])
    return numbers[0].value if len(numbers) == 1 else None


def _verdict(context: StepContext, span: tuple[int, int], kind: str, reason: str, evidence: dict[str, str], *, exact: bool = True) -> Verdict:
    text = context.text[span[0] : span[1]]
    return Verdict(state=State.REFUTED, verifier="quantities", kind=kind, text=text, span=span, reason=reason, exact=exact, evidence=evidence)
