"""Rough parts: a policy that fails now and then and a reward model that guesses, both counting FLOPs and telling prices. For tests of budgets and failures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stepward.core import (
    DEFAULT_SAMPLING,
    Granularity,
    Policy,
    RequestFailed,
    Sampling,
    Scale,
    StepScores,
    Trajectory,
    Until,
    Usage,
    charge,
    metered,
    price_of_sample,
)
from stepward.engine.noise import uniforms


@dataclass(frozen=True)
class RoughPolicy:
    """`policy`, whose requests fail with chance `failing`, before they are charged. Counts `flops_per_token` FLOPs for
    every token written, and for one more a draw.
    """

    policy: Policy
    failing: float = 0.0
    flops_per_token: int = 100

    @property
    def fingerprint(self) -> str:
        return f"rough/{self.failing}/{self.flops_per_token}/{self.policy.fingerprint}"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """See `Policy.sample`. Raises: RequestFailed as `failing` says, the same for the same request."""
        if uniforms(sampling.seed, f"rough {prefix.key}", draw, 0)[0] < self.failing:
            raise RequestFailed("a rough policy does not answer")
        with metered() as ledger:
            drawn = await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)
        charge(self._flops(ledger.usage, n))
        return drawn

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most that `sample` charges."""
        price = price_of_sample(self.policy, prefix, n, until=until, sampling=sampling, draw=draw)
        return price + self._flops(price, n)

    def _flops(self, usage: Usage, n: int) -> Usage:
        return Usage(flops=self.flops_per_token * (usage.policy_tokens + n))


@dataclass(frozen=True)
class RoughModel:
    """Guesses: every step's score is uniform in (0, 1), the same for equal prefixes. It reads the words of problem and solution and writes one a step.

    `failing`: chance that a request fails, after it was charged. `silent`: chance that a step is not scored.
    """

    seed: int = 0
    failing: float = 0.0
    silent: float = 0.0
    flops_per_token: int = 10

    granularity: ClassVar[Granularity] = "step"
    scale: ClassVar[Scale] = "probability"

    @property
    def fingerprint(self) -> str:
        return f"rough-model/{self.seed}/{self.failing}/{self.silent}/{self.flops_per_token}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """Shape [S], in (0, 1) or NaN. Raises: RequestFailed as `failing` says."""
        charge(self.price(trajectory))
        noise = [self._noise(key) for key in trajectory.keys[1:]]
        if self._noise(f"request {trajectory.key}")[0] < self.failing:
            raise RequestFailed("a rough model does not answer")
        values = [math.nan if silence < self.silent else value for value, silence in noise]
        return StepScores(np.array(values, dtype=np.float64), tuple("no idea" if math.isnan(value) else None for value in values), self.scale)

    def price(self, trajectory: Trajectory) -> Usage:
        """What `score` charges."""
        n_words = len(trajectory.problem.prompt.split()) + len(trajectory.text.split())
        return Usage(reward_tokens=n_words, reward_written=len(trajectory), calls=1, flops=self.flops_per_token * (n_words + len(trajectory)))

    def _noise(self, key: str) -> tuple[float, float]:
        first, second = uniforms(self.seed, f"rough model {key}", 0, 0, 2).tolist()
        return first, second
