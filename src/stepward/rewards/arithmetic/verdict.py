"""Verdict: what exact arithmetic says about a claim, and about a step. Never from the writer's own opinion of the step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from stepward.rewards.arithmetic.claim import MAX_TEXT, Claim, extract
from stepward.rewards.arithmetic.expression import Expression, Unreadable, value_of
from stepward.rewards.arithmetic.parser import parse
from stepward.rewards.arithmetic.readings import excuse, numeral_of


class State(StrEnum):
    """SUPPORTED: holds as written. REFUTED: false under every reading considered possible. ABSTAIN: anything else."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    ABSTAIN = "abstain"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim's state, with both sides' exact literal values where they could be read."""

    state: State
    claim: Claim
    reason: str
    left: Fraction | None = None
    right: Fraction | None = None

    @property
    def evidence(self) -> str:
        """The claim as quoted, where it stands, and what its sides come to."""
        start, end = self.claim.span
        values = f"; {_show(self.left)} and {_show(self.right)}" if self.left is not None and self.right is not None else ""
        return f"{self.state.value}: {self.claim.text!r} at {start}-{end} ({self.reason}{values})"


@dataclass(frozen=True, kw_only=True)
class StepVerdict:
    """A step is refuted if any claim is; supported if at least one claim is and none is refuted; otherwise it is abstained from."""

    state: State
    verdicts: tuple[Verdict, ...]
    reason: str

    @property
    def evidence(self) -> str:
        """The evidence of the verdicts that decided, one a line."""
        return "\n".join(verdict.evidence for verdict in self.verdicts if verdict.state is self.state)


def check(claim: Claim) -> Verdict:
    """SUPPORTED if the literal reading holds exactly, or to the last digit that a decimal right side shows; REFUTED if every reading fails."""
    if claim.obstacle:
        return Verdict(state=State.ABSTAIN, claim=claim, reason=claim.obstacle)
    try:
        left, right = parse(claim.left), parse(claim.right)
        a, b = value_of(left), value_of(right)
    except Unreadable as error:
        return Verdict(state=State.ABSTAIN, claim=claim, reason=str(error))
    state, reason = State.ABSTAIN, claim.caution
    if a == b:
        state, reason = State.SUPPORTED, "both sides are equal"
    elif _rounds_to(a, right, approximately=claim.relation == "≈"):
        state, reason = State.SUPPORTED, "equal to the last digit shown"
    elif claim.relation == "≈":
        reason = "how near is near enough is not said"
    elif not reason:
        try:
            reason = excuse(claim, left, right)
        except Unreadable as error:
            reason = str(error)
        if not reason:
            state, reason = State.REFUTED, "the sides differ under every reading"
    return Verdict(state=state, claim=claim, reason=reason, left=a, right=b)


def verify(text: str) -> StepVerdict:
    """The verdict on a step's text. Never raises; costs time linear in the text's length."""
    if len(text) > MAX_TEXT:
        return StepVerdict(state=State.ABSTAIN, verdicts=(), reason=f"the step is longer than {MAX_TEXT} characters")
    verdicts = tuple(check(claim) for claim in extract(text))
    states = {verdict.state for verdict in verdicts}
    for state in (State.REFUTED, State.SUPPORTED):
        if state in states:
            count = sum(verdict.state is state for verdict in verdicts)
            return StepVerdict(state=state, verdicts=verdicts, reason=f"{count} of {len(verdicts)} claims {state.value}")
    reason = f"no claim could be decided, the first because: {verdicts[0].reason}" if verdicts else "no arithmetic claim found"
    return StepVerdict(state=State.ABSTAIN, verdicts=verdicts, reason=reason)


def _rounds_to(value: Fraction, right: Expression, *, approximately: bool) -> bool:
    """Whether the right side is a numeral that `value` rounds to; a whole number counts only where the writer says that it is approximate."""
    numeral = numeral_of(right)
    return numeral is not None and (numeral.pointed or approximately) and abs(value - numeral.value) <= numeral.unit / 2


def _show(value: Fraction) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"
