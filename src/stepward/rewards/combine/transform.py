"""LogSigmoid: scores centred at what a problem's solutions usually get, so that sums of several rewards act like a logical "and"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stepward.core import Granularity, Problem, RewardModel, Scale, StepScores, Trajectory, Usage
from stepward.rewards.combine.members import name_of, price_of, source_of


class LogSigmoid:
    """u_t = log sigmoid(score_t - reference(problem)): log P(better than the reference) under a Bradley-Terry model; at most 0.

    `reference` is the score that counts as middling for a problem, for example the 85th percentile of the scores of sampled solutions; `name` names it in
    the fingerprint. Adding a constant of the problem to score and reference changes nothing; improving a bad solution gains more than improving a
    good one. For models on the logit scale.

    Reference: Transforming and Combining Rewards for Aligning Large Language Models (2024).
    """

    scale: Scale = "logit"

    def __init__(self, model: RewardModel, reference: Callable[[Problem], float], *, name: str) -> None:
        self.model, self.reference, self.name = model, reference, name

    @property
    def fingerprint(self) -> str:
        return name_of("log-sigmoid", [self.model], reference=self.name)

    @property
    def granularity(self) -> Granularity:
        return self.model.granularity

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S]; what the model does not score stays unscored. The threshold is log 1/2, the reference itself."""
        scores = await self.model.score(trajectory)
        values = -np.logaddexp(0.0, self.reference(trajectory.problem) - scores.values)
        source = source_of(self.fingerprint, [self.model])
        return replace(scores, values=values, scale=self.scale, threshold=float(-np.log(2.0)), source=source)

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The model's."""
        return price_of([(self.model, trajectory)])
