"""OracleReward: the exact truth of an environment as a reward model, the upper bound for every other one."""

from __future__ import annotations

from typing import Protocol

from stepward.core import Granularity, Scale, Semantics, StepLabels, StepScores, Trajectory, Usage
from stepward.core.usage import NO_USAGE


class LabelOracle(Protocol):
    """An environment that knows the truth about every step."""

    @property
    def fingerprint(self) -> str: ...

    def labels(self, trajectory: Trajectory, semantics: Semantics = "prefix") -> StepLabels: ...


class OracleReward:
    """score_t = 1 while no error has happened up to step t, else 0 (*prefix* semantics); no compute."""

    granularity: Granularity = "step"
    scale: Scale = "probability"

    def __init__(self, environment: LabelOracle) -> None:
        self.environment = environment

    @property
    def fingerprint(self) -> str:
        return f"oracle:{self.environment.fingerprint}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """Shape [S], each 0 or 1; unscored where the oracle has no label.

        Raises: InputError for a problem that is not the environment's.
        """
        labels = self.environment.labels(trajectory, "prefix")
        return StepScores(labels.values, labels.reasons, self.scale, source={"model": self.fingerprint})

    def price(self, trajectory: Trajectory) -> Usage:
        """Nothing."""
        del trajectory
        return NO_USAGE


def grade_school_oracle() -> OracleReward:
    """The oracle of the grade-school environment."""
    from stepward.environments.grade_school import GradeSchool

    return OracleReward(GradeSchool())


def deduction_oracle() -> OracleReward:
    """The oracle of the deduction environment."""
    from stepward.environments.deduction import Deduction

    return OracleReward(Deduction())
