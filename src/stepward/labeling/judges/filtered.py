"""JudgedMonteCarlo: Monte-Carlo labels filtered by a judge, in one labeler. How two labelers are compared is in `consensus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from stepward.core import Environment, Policy, RewardModel, Sampling, Semantics, StepLabels, Trajectory, canonical_json, content_hash
from stepward.labeling.consensus import Consensus, Level, OnDisagreement
from stepward.labeling.judges.labels import JudgeLabels
from stepward.labeling.judges.sheet import Meaning
from stepward.labeling.monte_carlo import MonteCarlo


@dataclass(frozen=True, kw_only=True)
class JudgedMonteCarlo:
    """Hard Monte-Carlo labels (`n` rollouts a step, good if more than `threshold` of them end right) where `judge` agrees.

    `level`="first_error" with "drop" is the filter of The Lessons of Developing Process Reward Models in Mathematical Reasoning (2025); "response" that of
    GenPRM (2025), whose Monte-Carlo labels are relative progress (compose `Consensus` for that). `judged`: what the judge's verdicts mean, see `JudgeLabels`.
    Semantics: *prefix*. See `Consensus` for what becomes of disagreements.
    """

    policy: Policy
    environment: Environment
    judge: RewardModel
    sampling: Sampling = Sampling(temperature=1.0)
    n: int = 8
    threshold: float = 0.0
    judged: Meaning = "prefix"
    level: Level = "first_error"
    on_disagreement: OnDisagreement = "drop"

    method: ClassVar[str] = "consensus-monte-carlo"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        _ = self.consensus

    @property
    def consensus(self) -> Consensus:
        """The two labelers and how they are compared."""
        rollouts = MonteCarlo(
            policy=self.policy, environment=self.environment, sampling=self.sampling, n=self.n, threshold=self.threshold, estimate="hard", batch=self.n
        )
        judge = JudgeLabels(judge=self.judge, semantics=self.judged)
        return Consensus(a=rollouts, b=judge, level=self.level, on_disagreement=self.on_disagreement)

    @property
    def fingerprint(self) -> str:
        return f"{self.method}/{content_hash(canonical_json(self.consensus.fingerprint))}"

    def describe(self) -> dict[str, Any]:
        return {**self.consensus.describe(), "method": self.method, "n": self.n, "threshold": self.threshold, "judged": self.judged}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        return await self.consensus.label(trajectory)
