"""What exact arithmetic says about a claim, and about a text. Never from the writer's own opinion of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from stepward.rewards.arithmetic.claim import MAX_TEXT, Claim, extract
from stepward.rewards.arithmetic.expression import Expression, Unreadable, value_of
from stepward.rewards.arithmetic.parser import parse
from stepward.rewards.arithmetic.readings import excuse, numeral_of
from stepward.rewards.verifiers.verdict import State, StepVerdict, Verdict, combine

NAME = "arithmetic"


@dataclass(frozen=True, kw_only=True)
class ClaimVerdict(Verdict):
    """A verdict with its claim, and both sides' exact literal values where they could be read."""

    claim: Claim
    left: Fraction | None = None
    right: Fraction | None = None


def check(claim: Claim) -> ClaimVerdict:
    """SUPPORTED if the literal reading holds exactly, or to the last digit that a decimal right side shows; REFUTED if every reading fails."""
    if claim.obstacle:
        return _verdict(State.ABSTAIN, claim, claim.obstacle)
    try:
        left, right = parse(claim.left), parse(claim.right)
        a, b = value_of(left), value_of(right)
    except Unreadable as error:
        return _verdict(State.ABSTAIN, claim, str(error))
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
    return _verdict(state, claim, reason, a, b)


def check_all(text: str) -> list[ClaimVerdict]:
    """A verdict a claim. Never raises; costs time linear in the text's length. Text beyond the length limit holds no claim that is read."""
    return [check(claim) for claim in extract(text)]


def verify(text: str) -> StepVerdict:
    """The verdict on a step's text by itself."""
    if len(text) > MAX_TEXT:
        return StepVerdict(state=State.ABSTAIN, verdicts=(), reason=f"the step is longer than {MAX_TEXT} characters")
    return combine(check_all(text))


def _verdict(state: State, claim: Claim, reason: str, left: Fraction | None = None, right: Fraction | None = None) -> ClaimVerdict:
    values = {} if left is None or right is None else {"left": spell(left), "right": spell(right)}
    return ClaimVerdict(
        state=state, verifier=NAME, kind="equality", text=claim.text, span=claim.span, reason=reason, evidence=values, claim=claim, left=left, right=right
    )


def _rounds_to(value: Fraction, right: Expression, *, approximately: bool) -> bool:
    """Whether the right side is a numeral that `value` rounds to; a whole number counts only where the writer says that it is approximate."""
    numeral = numeral_of(right)
    return numeral is not None and (numeral.pointed or approximately) and abs(value - numeral.value) <= numeral.unit / 2


def spell(value: Fraction) -> str:
    """The value for evidence, long ones shortened."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"
