"""Lifted: an outcome model as a step model."""

from __future__ import annotations

import asyncio
from typing import Literal, get_args

import numpy as np

from stepward.core import Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage
from stepward.rewards.combine.members import OUTCOME_ONLY, name_of, price_of, scored, source_of

How = Literal["prefixes", "last"]


class Lifted:
    """score_t = the model's score of the solution's first t + 1 steps, read at their last step: what it would say if the solution stopped there.

    how="prefixes" asks for every prefix, S requests a solution, awaited together; a model that caches prefixes computes each token once. Outcome models
    are trained on finished solutions: on a prefix they extrapolate. how="last" asks once and fills the last step only; the others abstain.
    Also makes a step model's scores comparable to an outcome model's.
    """

    granularity: Granularity = "step"

    def __init__(self, model: RewardModel, *, how: How = "prefixes") -> None:
        if how not in get_args(How):
            raise InputError(f"how must be one of {', '.join(get_args(How))}, got {how!r}")
        self.model, self.how = model, how

    @property
    def fingerprint(self) -> str:
        return name_of(f"lifted-{self.how}", [self.model])

    @property
    def scale(self) -> Scale:
        return self.model.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S]."""
        source = source_of(self.fingerprint, [self.model])
        n_steps = len(trajectory)
        if n_steps == 0:
            return StepScores(np.zeros(0), (), self.scale, source=source)
        first = 0 if self.how == "prefixes" else n_steps - 1
        read = list(await asyncio.gather(*(scored(self.model, trajectory.prefix(k)) for k in range(first + 1, n_steps + 1))))
        return StepScores(
            np.array([*[np.nan] * first, *[scores.values[-1] for scores in read]]),
            (*[OUTCOME_ONLY] * first, *[scores.reasons[-1] for scores in read]),
            self.scale,
            read[-1].threshold,
            rationales=(*[None] * first, *[scores.rationales[-1] for scores in read]),
            source=source,
            usage=Usage.total(scores.usage for scores in read),
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """Of the model on every prefix that it is asked about."""
        return price_of((self.model, trajectory.prefix(k)) for k in range(1 if self.how == "prefixes" else max(1, len(trajectory)), len(trajectory) + 1))
