"""GenerativeModel: any judge task on top of any policy as a reward model. Prompts are in the tasks' files, asking and voting in the jury's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from stepward.core import Granularity, Policy, Sampling, Scale, StepScores, Trajectory, Usage, canonical_json, content_hash, metered_as_reward
from stepward.rewards.generative.jury import Jury, Read
from stepward.rewards.generative.task import JudgeTask, Slot, Vote
from stepward.rewards.generative.votes import Reduce

GREEDY = Sampling(temperature=0.0, max_tokens=8192)


class GenerativeModel:
    """score_t = what a judge says of step t: the share of "correct" among its two words, or 1 and 0 by the word it wrote, reduced over k answers.

    Steps without a verdict are unscored with the reason, which begins with "abstained" where the judge stopped on purpose. `aspects`: "votes", how many
    answers a score comes from, and "words", how many of those were read from the words alone; tasks add their own. `rationales` keep the judge's text.
    Cost is charged as a reward model's (`reward_tokens` read, `reward_written` written). `sampling.max_tokens` is the budget of one answer; its step limits
    do not apply. A greedy judge (temperature 0) is asked a second time at temperature 0.7, for its second answer would be its first. What a request costs is
    not known before (an answer without a verdict is asked for again), so searches with a budget of reward tokens or FLOPs refuse it.
    """

    scale: Scale = "probability"

    def __init__(
        self, policy: Policy, task: JudgeTask, *, k: int = 1, reduce: Reduce = "mean", read: Read = "probability", sampling: Sampling = GREEDY
    ) -> None:
        self.policy, self.task = policy, task
        self.jury = Jury(policy, sampling, k=k, reduce=reduce, read=read)

    @cached_property
    def fingerprint(self) -> str:
        """Names the policy, the prompts, k, how answers are read and reduced, and the sampling."""
        return f"judge:{self.task.name}:" + content_hash(self.task.key, canonical_json(self.jury.describe()))

    @property
    def granularity(self) -> Granularity:
        """ "step", or "outcome" where the task judges only the last step."""
        return self.task.granularity

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One probability a step, shape [S]; NaN with the reason where the judge could not be asked or gave no verdict."""
        questions = self.task.questions(trajectory) if trajectory.steps else ()
        with metered_as_reward() as ledger:
            heard = await asyncio.gather(*(self.jury.hear(self.task, question, images=trajectory.problem.images) for question in questions))
        votes: dict[Slot, Vote] = {}
        texts: dict[int, str] = {}
        for hearing in heard:
            votes |= hearing.votes
            texts |= hearing.rationales
        steps, aspects = self.task.combine(len(trajectory), votes) if questions else ([], {})
        return step_scores(steps, texts, source=self.source, usage=ledger.usage, aspects=aspects)

    @property
    def source(self) -> dict[str, object]:
        """What made the scores."""
        return {"model": self.fingerprint, "judge": self.task.name, "policy": self.policy.fingerprint, "k": self.jury.k, "reduce": self.jury.reduce}


def step_scores(
    votes: Sequence[Vote], texts: Mapping[int, str], *, source: Mapping[str, object], usage: Usage, aspects: Mapping[str, Sequence[float]]
) -> StepScores:
    """Scores of S steps from a vote each; `usage` as the policy charged it."""
    counts = {"votes": [float(vote.n_draws) for vote in votes], "words": [float(vote.n_words) for vote in votes]}
    return StepScores(
        np.array([vote.value for vote in votes], dtype=np.float64),
        tuple(vote.reason if math.isnan(vote.value) else None for vote in votes),
        scale="probability",
        rationales=tuple(texts.get(index) or None for index in range(len(votes))),
        source=source,
        usage=usage.as_reward(),
        aspects={name: np.array(values, dtype=np.float64) for name, values in {**counts, **aspects}.items()},
    )
