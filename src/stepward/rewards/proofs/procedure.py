"""The procedure: what a proof assistant's findings make of one formal step. Talking to the assistant is in `lean` and `isabelle`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepward.rewards.proofs.assistant import Assistant, Checked, FormalStep, Goal
from stepward.rewards.verifiers import State


@dataclass(frozen=True)
class Finding:
    """The state of a step, why, and the theory that was checked last."""

    state: State
    reason: str
    theory: str
    messages: tuple[str, ...] = ()
    well_formed: bool = True


async def judge_step(assistant: Assistant, goal: Goal, before: Sequence[FormalStep], step: FormalStep, proved: Sequence[FormalStep]) -> Finding:
    """Check one step as FoVer does (Generalizable Process Reward Models via Formally Verified Training Data, 2025).

    1. The theory with a hole for every step must pass; else the text is not well formed, and nothing is said of the step (abstain).
    2. With a proof by automation for this step alone, holes for the others: no error means that it follows from what stands before it (supported).
    3. Otherwise its negation is tried in the same way, from those earlier steps only that were themselves supported (`proved`), provided that they do
       not prove False: a proof refutes the step.
    4. Otherwise abstain: that automation fails does not make a step wrong.

    Differs from the paper: there a step that automation cannot prove is labelled wrong (noisy negatives); here only a proof of the negation does that.
    Raises: RequestFailed when the assistant fails; the paper drops the item.
    """
    hole, automation = assistant.hole, assistant.automation
    held = [(one, hole) for one in before]
    skeleton = assistant.theory(goal, [*held, (step, hole)])
    checked = await assistant.check(goal, skeleton)
    if not checked.ok:
        return replace(_finding(State.ABSTAIN, "the statement is not well formed here", skeleton, checked), well_formed=False)
    attempt = assistant.theory(goal, [*held, (step, automation)])
    checked = await assistant.check(goal, attempt)
    if checked.ok:
        return _finding(State.SUPPORTED, "proved from what stands before it", attempt, checked)
    sure = [(one, hole) for one in proved]
    negated = FormalStep(step.name, assistant.negation(step.statement))
    attempt = assistant.theory(goal, [*sure, (negated, automation)])
    checked = await assistant.check(goal, attempt)
    if not checked.ok:
        return _finding(State.ABSTAIN, "automation proves neither the step nor its negation", attempt, checked)
    absurd = assistant.theory(goal, [*sure, (FormalStep(step.name, assistant.falsity()), automation)])
    if (await assistant.check(goal, absurd)).ok:
        return _finding(State.ABSTAIN, "the hypotheses contradict one another", absurd, checked)
    return _finding(State.REFUTED, "its negation is proved", attempt, checked)


def _finding(state: State, reason: str, theory: str, checked: Checked) -> Finding:
    return Finding(state, reason, theory, tuple(f"line {message.line}: {message.text}"[:300] for message in checked.errors[:3]))
