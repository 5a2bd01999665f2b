"""FollowUpLikelihood: a solution is as good as the reactions that it makes likely."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stepward.core import FAILURES, Granularity, InputError, LogprobPolicy, Scale, Step, StepScores, Trajectory, canonical_json, content_hash
from stepward.core.usage import metered_as_reward
from stepward.rewards.combine.confidence import check_logprobs, outcome_scores

POSITIVE = ("This is correct.", "The solution is right.")
NEGATIVE = ("This is wrong.", "There is a mistake in the solution.")


class FollowUpLikelihood:
    """mean log p(positive follow-up | solution) - mean log p(negative follow-up | solution), each a mean over the follow-up's tokens; at the last step.

    What all follow-ups share (their length, the policy's habits) cancels. `before` stands between solution and follow-up. Differs from the paper, where the
    follow-up is the user's next turn: here it is read as text that the policy writes after the solution. One request a follow-up.

    Raises: InputError without positive or without negative follow-ups, or a policy without log-probabilities.
    Reference: Aligning Language Models Using Follow-up Likelihood as Reward Signal (FLR, 2024).
    """

    granularity: Granularity = "outcome"
    scale: Scale = "logratio"

    def __init__(self, policy: LogprobPolicy, *, positive: Sequence[str] = POSITIVE, negative: Sequence[str] = NEGATIVE, before: str = "\n\n") -> None:
        self.policy, self.before = check_logprobs(policy), before
        self.positive, self.negative = tuple(positive), tuple(negative)
        if not self.positive or not self.negative or not all((*self.positive, *self.negative)):
            raise InputError(f"follow-ups of both kinds are needed, none of them empty; got positive={self.positive} and negative={self.negative}")

    @property
    def fingerprint(self) -> str:
        return f"follow-up:{content_hash(self.policy.fingerprint, canonical_json([self.positive, self.negative, self.before]))}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """[S]: the difference at the last step; the other steps are abstained from. No threshold separates good from bad before calibration; 0 is neutral."""
        source = {"model": self.fingerprint, "policy": self.policy.fingerprint}
        if not len(trajectory):
            return StepScores(np.zeros(0), (), self.scale, threshold=0.0, source=source)
        value, reason = math.nan, None
        with metered_as_reward() as ledger:
            try:
                asked = [self._likelihood(trajectory, text) for text in (*self.positive, *self.negative)]
                found = await asyncio.gather(*asked, return_exceptions=True)  # all are waited for: what they cost is charged even where one fails
                likelihoods = [_raised(one) for one in found]
                value = float(np.mean(likelihoods[: len(self.positive)]) - np.mean(likelihoods[len(self.positive) :]))
            except FAILURES as error:
                reason = f"reading probabilities failed: {error}"
        scores = outcome_scores(len(trajectory), value, reason, scale=self.scale, source=source)
        return replace(scores, threshold=0.0, usage=ledger.usage.as_reward())

    async def _likelihood(self, trajectory: Trajectory, follow_up: str) -> float:
        """Mean log-probability a token of the follow-up; the text between does not count."""
        read = Trajectory(trajectory.problem, (*trajectory.steps, *([Step(self.before)] if self.before else []), Step(follow_up)))
        tokens = (await self.policy.logprobs(read)).steps[-1]
        if not tokens:
            raise InputError(f"the policy reads no token in the follow-up {follow_up!r}; choose another text")
        return float(np.mean(tokens))


def _raised(found: float | BaseException) -> float:
    """The number, or its exception raised."""
    if isinstance(found, BaseException):
        raise found
    return found
