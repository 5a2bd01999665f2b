"""Monte-Carlo step labels: what a policy makes of every prefix."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stepward.core import (
    FAILURES,
    Count,
    Environment,
    InputError,
    Outcome,
    Policy,
    Sampling,
    StepLabels,
    Trajectory,
    canonical_json,
    content_hash,
    metered,
)
from stepward.environments.episode import complete, grade


@dataclass(frozen=True)
class Pool:
    """The graded rollouts from one prefix; `reason` says why there is none."""

    count: Count
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class MonteCarlo:
    """A step's value is the share of `n` completions from it that end right (Math-Shepherd, 2023).

    Soft estimation: value_t = successes_t / n. Hard estimation: step t is good if value_t > `threshold` (0: one success is enough).
    Both are in the labels. With V_t the completing policy's true chance, E[value_t] = V_t and, at threshold 0,
    P(hard_t good) = 1 - (1 - V_t)^n. The last step of a finished trajectory is graded, not rolled out, and costs nothing.

    A completion that a limit cut off or that cannot be graded is neither a success nor a failure: it is counted as unscored.
    Semantics: *value* under `policy`. Difference from the paper: counts and soft values are kept beside the hard labels.
    """

    policy: Policy
    environment: Environment
    n: int = 8
    threshold: float = 0.0
    sampling: Sampling = Sampling(temperature=1.0)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"MonteCarlo.n must be at least 1, got {self.n}")
        if not 0.0 <= self.threshold < 1.0:
            raise InputError(f"MonteCarlo.threshold must lie in [0, 1), got {self.threshold}; a step is good when its value is above it")

    @property
    def fingerprint(self) -> str:
        parts = [self.policy.fingerprint, self.environment.fingerprint, self.n, self.threshold, self.sampling.to_record()]
        return f"monte-carlo/{content_hash(canonical_json(parts))}"

    async def label(self, trajectory: Trajectory) -> StepLabels:
        with metered() as ledger:
            open_prefixes = [trajectory.prefix(k) for k in range(1, len(trajectory))]
            pools = list(await asyncio.gather(*(self.rollouts(prefix) for prefix in open_prefixes)))
            if len(trajectory) and not trajectory.ended:
                pools.append(await self.rollouts(trajectory))
            last = await self.grade(trajectory) if len(trajectory) and trajectory.ended else None
        counts, reasons = [pool.count for pool in pools], [pool.reason for pool in pools]
        return StepLabels.from_counts(counts, outcome=last, reasons=reasons, threshold=self.threshold, source=self.describe(), usage=ledger.usage)

    async def rollouts(self, prefix: Trajectory) -> Pool:
        """`n` completions of an open prefix, graded."""
        try:
            ends = await complete(self.policy, self.environment, prefix, self.n, sampling=self.sampling)
        except FAILURES as error:
            return Pool(Count(0, 0, self.n), f"rollouts failed: {error}")
        outcomes = await asyncio.gather(*(self.grade(end) for end in ends))
        known = [outcome.correct for outcome in outcomes if outcome.scored]
        lost = [outcome.reason for outcome in outcomes if not outcome.scored]
        count = Count(sum(map(bool, known)), len(known), len(lost))
        return Pool(count, None if known else f"no rollout could be graded: {lost[0] if lost else 'none came back'}")

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return trajectory.outcome if trajectory.outcome is not None else await grade(self.environment, trajectory)

    def describe(self) -> dict[str, object]:
        return {
            "method": "monte-carlo",
            "policy": self.policy.fingerprint,
            "environment": self.environment.fingerprint,
            "rollouts": self.n,
            "threshold": self.threshold,
            "sampling": self.sampling.to_record(),
        }
