"""Ensemble: several reward models as one. The arithmetic is in `fuse`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepward.core import Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage
from stepward.rewards.combine.fuse import Rule, check_rule, fuse
from stepward.rewards.combine.members import (
    Missing,
    check_missing,
    check_on_scale,
    check_same_scale,
    name_of,
    price_of,
    rationales_of,
    scores_of,
    source_of,
    step_reasons,
    threshold_of,
    usage_of,
)


class Ensemble:
    """score_t = rule of the members' scores of step t: mean, min, median, or the lower confidence bound mean - k std (`fuse`).

    Members are asked together. A step that a member does not score is unscored with that member's reason; with missing="skip" it is combined from the
    others. An abstention is never a value. On the probability scale a bound below 0 is 0. The members' spread is in the aspect "std".
    `threshold`: below it a step counts as wrong; by default the (weighted) mean of the members' own. Their rationales are kept.

    Raises: InputError for no member, members of different scales or granularities, or settings that `fuse` refuses.
    Reference: Reward Model Ensembles Help Mitigate Overoptimization (2023), for mean, min and the bound (there with variance in place of std).
    """

    def __init__(
        self,
        models: Sequence[RewardModel],
        rule: Rule | str = "mean",
        *,
        weights: Sequence[float] | None = None,
        k: float = 1.0,
        missing: Missing = "unscored",
        threshold: float | None = None,
    ) -> None:
        if not models:
            raise InputError("an ensemble needs at least one member")
        check_rule(rule, len(models), weights, k)
        check_missing(missing)
        check_same_scale(models)
        check_on_scale("threshold", threshold, models[0].scale)
        self.models, self.rule, self.k, self.missing, self.threshold = tuple(models), rule, k, missing, threshold
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)

    @property
    def fingerprint(self) -> str:
        settings = {"k": self.k if self.rule == "lcb" else None, "weights": self.weights, "missing": self.missing, "threshold": self.threshold}
        return name_of(f"ensemble-{self.rule}", self.models, **settings)

    @property
    def granularity(self) -> Granularity:
        return self.models[0].granularity

    @property
    def scale(self) -> Scale:
        return self.models[0].scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S], with the aspect "std"."""
        members = await scores_of(self.models, trajectory)
        values, std = fuse(np.stack([member.values for member in members]), self.rule, weights=self.weights, k=self.k)
        if self.scale == "probability":
            values = np.clip(values, 0.0, 1.0)
        reasons = step_reasons(members, self.missing)
        return StepScores(
            np.where([reason is None for reason in reasons], values, np.nan),
            reasons,
            self.scale,
            threshold_of(members, self.weights) if self.threshold is None else self.threshold,
            rationales_of(members),
            source=source_of(self.fingerprint, self.models),
            usage=usage_of(members),
            aspects={"std": std},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The sum of the members' prices."""
        return price_of((model, trajectory) for model in self.models)
