"""Spark: several verifications of one solution made one label, without any reference. Prompts are in `tasks`, votes in `votes`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import ABSTAINED, FAILURES, NO_ERROR, InputError, Problem, RewardModel, StepScores, Trajectory, first_bad
from stepward.labeling.decoders import up_to
from stepward.labeling.judges.asking import drawn, hear, hear_all, with_task
from stepward.labeling.judges.aurora import TIED
from stepward.labeling.judges.labels import check_scale
from stepward.labeling.judges.sheet import Finding, JudgeLabeler, JudgeSheet, Meaning
from stepward.labeling.judges.tasks import FRAME, REVIEW, Revised, shown
from stepward.labeling.judges.votes import Hard, Tally, first_error_vote, outcome_vote, tallies, verdicts_of
from stepward.labeling.sheet import AFTER_ERROR
from stepward.rewards.generative.jury import joined
from stepward.rewards.generative.model import GenerativeModel
from stepward.rewards.generative.task import check_choice

How = Literal["step", "outcome", "first-error", "meta", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class Spark(JudgeLabeler):
    """`n` independent verifications of a solution, aggregated. SPARK: Stepwise Process-Aware Rewards for Reference-Free Reinforcement Learning (2025).

    `how`: "step": the majority on each step by itself (the paper's best). "outcome": the majority on whether there is any error, then the step votes of the
    verifications on its side. "first-error": the majority on the first error (steps behind it are unlabelled in *local* labels). "meta": one verification, a
    review of it, and the verification revised after it. "hybrid": the step majority of `n` revised verifications. A tie is never a label ("abstained: ..."),
    and a step without a verdict is unlabelled. n = 1 with "step" is the judge alone.

    Values: the share of verifications that call the step right. `confidence`: (m + 1) / (v + 2) of v votes. `rationales`: the verifications' words.
    "meta" and "hybrid" need a judge with words (`load_judge`). Semantics: *prefix* (decoded from the step votes: first zero) or *local*. Difference from the
    paper: "outcome" is read from the steps (no step wrong); the paper does not say how ties end, nor what its hybrid is.
    """

    n: int = 8
    how: How = "step"
    semantics: Meaning = "prefix"

    method: ClassVar[str] = "spark"

    def __post_init__(self) -> None:
        check_choice("Spark", "how", self.how, ("step", "outcome", "first-error", "meta", "hybrid"))
        check_choice("Spark", "semantics", self.semantics, ("prefix", "local"))
        check_scale(self.judge)
        drawn(self.judge, 1 if self.how == "meta" else self.n)
        if self.how in ("meta", "hybrid") and not isinstance(self.judge, GenerativeModel):
            raise InputError(f"Spark how={self.how!r} reviews the judge's words, which {self.judge.fingerprint} has none of; take a judge of load_judge")

    async def fill(self, sheet: JudgeSheet, trajectory: Trajectory) -> None:
        judges = drawn(self.judge, 1 if self.how == "meta" else self.n)
        if self.how in ("meta", "hybrid"):
            heard = list(await asyncio.gather(*(revised(judge, trajectory, draw) for draw, judge in enumerate(judges))))
        else:
            heard = await hear_all(judges, trajectory)
        sheet.rationales = [joined([scores.rationales[step] or "" for scores in heard]) or None for step in range(len(trajectory))]
        reasons = [next((why for scores in heard if (why := scores.reasons[step])), None) for step in range(len(trajectory))]
        sheet.write(aggregate([verdicts_of(scores) for scores in heard], self.how, reasons), self.semantics)


def aggregate(verdicts: Sequence[Hard], how: How, reasons: Sequence[str | None] = ()) -> list[Finding]:
    """A finding a step from n verifications of it; `reasons` why steps without any vote have none."""
    votes = tallies(verdicts)
    decided: Sequence[bool | None] = tuple(vote.majority for vote in votes)
    silent = TIED
    if how == "outcome":
        passed = outcome_vote(verdicts)
        agreeing = [draw for draw in verdicts if (first := first_bad(draw)) is not None and (first == NO_ERROR) is passed]
        votes = tallies(agreeing) if agreeing else votes
        decided = tuple(vote.majority if agreeing else None for vote in votes)
    elif how == "first-error":
        first_error = first_error_vote(verdicts)
        decided, silent = _named_by(first_error, len(votes)), TIED if first_error is None else AFTER_ERROR
    why = reasons or (None,) * len(votes)
    return [_finding(vote, good, reason, silent) for vote, good, reason in zip(votes, decided, why, strict=True)]


def _named_by(first: int | None, n_steps: int) -> Hard:
    """What a first error (-1: none) says of each step: good before it, bad there, nothing behind it."""
    return tuple(good if first == NO_ERROR or (first is not None and step <= first) else None for step, good in enumerate(up_to(first, n_steps)))


def _finding(vote: Tally, good: bool | None, reason: str | None, silent: str) -> Finding:
    evidence = {"right": vote.right, "wrong": vote.wrong}
    if good is None:
        return Finding(math.nan, None, silent if vote.n else reason or f"{ABSTAINED}: no verification judges the step", evidence=evidence)
    return Finding(vote.share if vote.n else float(good), good, None, vote.confidence if vote.majority is good else math.nan, evidence)


async def revised(judge: RewardModel, trajectory: Trajectory, draw: int = 0) -> StepScores:
    """The judge's verification after it has reviewed its first one; unscored with the reason where the review failed."""
    assert isinstance(judge, GenerativeModel)
    first = await hear(judge, trajectory)
    words = "\n\n".join(filter(None, first.rationales))
    if not words:
        return first
    prompt = REVIEW.format(shown=shown(trajectory), verification=FRAME.escape(words))
    try:
        [review] = await judge.jury.asker.ask(Problem(prompt, images=trajectory.problem.images), "", 1, draw=draw)
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"the review failed: {error}")
    return await hear(with_task(judge, Revised(verification=words, review=review.text)), trajectory)
