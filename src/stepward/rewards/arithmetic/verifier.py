"""Arithmetic: exact arithmetic on the claims that a step's own text states. A veto and a label cleaner; most wrong steps contain no wrong arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from stepward.rewards.arithmetic.claim import MAX_TEXT
from stepward.rewards.arithmetic.letters import check_letters, is_bare
from stepward.rewards.arithmetic.verdict import NAME, check_all
from stepward.rewards.arithmetic.vocabulary import OTHER_ARITHMETIC
from stepward.rewards.verifiers.model import ToolVerifier
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

VERSION = 2  # 2: problems that are one expression are read part by part


@dataclass(frozen=True)
class Arithmetic:
    """`tools:arithmetic`: equalities between numbers, decided by rational arithmetic under every reading considered possible.

    Where the problem speaks of another arithmetic (remainders, bases, defined operations), every step is abstained from.
    """

    @property
    def name(self) -> str:
        return NAME

    @property
    def fingerprint(self) -> str:
        return f"{NAME}/{VERSION}"

    def reads(self, context: StepContext) -> bool:
        """Whether there is a sign or word of equality."""
        text = context.text
        return "=" in text or "≈" in text or "\\approx" in text or "equals" in text

    async def verify(self, context: StepContext) -> list[Verdict]:
        if foreign := OTHER_ARITHMETIC.search(context.problem):
            return [_unread(f"the problem may mean another arithmetic ({foreign[0].strip()[:20]!r})")]
        if len(context.text) > MAX_TEXT:
            return [_unread(f"the step is longer than {MAX_TEXT} characters")]
        if is_bare(context.problem):
            return list(check_letters(context))
        return list(check_all(context.text))


class ArithmeticVerifier(ToolVerifier):
    """`tools:arithmetic` by itself as a reward model."""

    def __init__(self) -> None:
        super().__init__([Arithmetic()])


def _unread(reason: str) -> Verdict:
    return Verdict(state=State.ABSTAIN, verifier=NAME, kind="equality", text="", span=(0, 0), reason=reason)
