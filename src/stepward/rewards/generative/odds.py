"""Odds: how likely a policy finds two words as the next thing it writes. Where the words are and what they mean is the task's."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from stepward.core import FAILURES, ChoicePolicy, LogprobPolicy, Policy, Step, Trajectory
from stepward.engine.journaled import JournaledPolicy


@dataclass(frozen=True)
class Odds:
    """Natural-log probabilities of the word for good and of the word for bad."""

    good: float
    bad: float

    @property
    def share(self) -> float:
        """p(good) / (p(good) + p(bad))."""
        gap = self.bad - self.good
        return math.exp(-gap) / (1.0 + math.exp(-gap)) if gap > 0 else 1.0 / (1.0 + math.exp(gap))

    @property
    def mass(self) -> float:
        """p(good) + p(bad): how sure it is that one of the two comes next."""
        return math.exp(self.good) + math.exp(self.bad)


def tells_odds(policy: Policy) -> bool:
    """Can this policy say how likely given text is?"""
    return isinstance(_inner(policy), ChoicePolicy | LogprobPolicy)


async def read_odds(policy: Policy, prefix: Trajectory, words: tuple[str, str]) -> Odds | None:
    """The odds of `words` = (good, bad) right after an open prefix; None where the policy does not tell or could not.

    A ChoicePolicy is asked once. A LogprobPolicy is asked for the probability of prefix + word, once a word; of a word of several tokens it is the product.
    """
    inner = _inner(policy)
    try:
        if isinstance(inner, ChoicePolicy):
            good, bad = await inner.choice_logprobs(prefix, words)
        elif isinstance(inner, LogprobPolicy):
            read = await asyncio.gather(*(inner.logprobs(prefix.extend(Step(word))) for word in words))
            good, bad = (math.fsum(logprobs.steps[-1]) for logprobs in read)
        else:
            return None
    except FAILURES:
        return None
    return Odds(good, bad) if math.isfinite(good) and math.isfinite(bad) else None


def _inner(policy: Policy) -> Policy:
    """Probabilities of given text are not journaled: they are read from the policy itself."""
    return policy.inner if isinstance(policy, JournaledPolicy) else policy
