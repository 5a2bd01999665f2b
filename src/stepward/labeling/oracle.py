"""Labels that are exactly right, in worlds whose truth is computable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stepward.core import InputError, Policy, StepLabels, Trajectory
from stepward.core.labels import Semantics


class Oracle(Protocol):
    """An environment that knows the exact correctness of every step."""

    @property
    def fingerprint(self) -> str: ...

    def labels(self, trajectory: Trajectory, semantics: Semantics = "prefix") -> StepLabels: ...


class ValuedPolicy(Policy, Protocol):
    """A policy whose chance of a correct finish is known exactly."""

    def value(self, prefix: Trajectory) -> float: ...


@dataclass(frozen=True)
class OracleLabels:
    """The environment's own truth: *prefix* (no error so far) or *local* (the step follows from what it states)."""

    environment: Oracle
    semantics: Semantics = "prefix"

    def __post_init__(self) -> None:
        if not hasattr(self.environment, "labels"):
            raise InputError(f"environment {getattr(self.environment, 'fingerprint', self.environment)} has no oracle; use --method monte-carlo")

    @property
    def fingerprint(self) -> str:
        return f"oracle/{self.semantics}/{self.environment.fingerprint}"

    async def label(self, trajectory: Trajectory) -> StepLabels:
        return self.environment.labels(trajectory, self.semantics)


@dataclass(frozen=True)
class ExactValue:
    """The exact V(prefix) = P(correct finish | prefix) of a scripted policy for every step: what Monte-Carlo labels estimate."""

    policy: ValuedPolicy

    def __post_init__(self) -> None:
        if not hasattr(self.policy, "value"):
            raise InputError(f"policy {self.policy.fingerprint} has no exact values; use a scripted policy or --method monte-carlo")

    @property
    def fingerprint(self) -> str:
        return f"exact-value/{self.policy.fingerprint}"

    async def label(self, trajectory: Trajectory) -> StepLabels:
        values = np.array([self.policy.value(trajectory.prefix(k)) for k in range(1, len(trajectory) + 1)])
        return StepLabels(values, "value", source={"method": "exact value", "policy": self.policy.fingerprint})
