"""Calibrated: a reward model whose scores go through a fitted calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from stepward.core import Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage, content_hash, price_of_score
from stepward.rewards.calibration.record import Calibration

OtherModel = Literal["refuse", "allow"]


class Calibrated:
    """score_t = calibration(model_t), a probability; the model's own scores are the aspect "uncalibrated", bounds the aspects "low" and "high".

    What the model does not score stays unscored with its reason. A calibration belongs to the model that it was fitted on: one that names another
    fingerprint is refused unless other_model="allow"; one that names none is taken. `threshold`: below it a step counts as wrong, on the calibrated scale.

    Raises: InputError for another model's calibration, or one that takes another scale.
    """

    scale: Scale = "probability"

    def __init__(self, model: RewardModel, calibration: Calibration, *, threshold: float = 0.5, other_model: OtherModel = "refuse") -> None:
        if other_model not in get_args(OtherModel):
            raise InputError(f"other_model must be one of {', '.join(get_args(OtherModel))}, got {other_model!r}")
        if other_model == "refuse" and calibration.model and calibration.model != model.fingerprint:
            raise InputError(
                f"the calibration was fitted on {calibration.model}, the model is {model.fingerprint}; fit one on this model (stepward calibrate), "
                "or say other_model=allow"
            )
        if calibration.scale != model.scale:
            raise InputError(f"the calibration takes scores on the {calibration.scale} scale, {model.fingerprint} gives {model.scale} scores")
        if not 0.0 <= threshold <= 1.0:
            raise InputError(f"threshold must lie in [0, 1], got {threshold!r}")
        self.model, self.calibration, self.threshold = model, calibration, threshold

    @property
    def fingerprint(self) -> str:
        return f"calibrated-{self.calibration.method}:{content_hash(self.model.fingerprint, self.calibration.fingerprint, str(self.threshold))}"

    @property
    def granularity(self) -> Granularity:
        return self.model.granularity

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One probability a step, shape [S]."""
        scores = await self.model.score(trajectory)
        return replace(
            scores,
            values=self.calibration(scores.values),
            scale=self.scale,
            threshold=self.threshold,
            source={"model": self.fingerprint, "members": [self.model.fingerprint], "calibration": self.calibration.fingerprint},
            aspects={**scores.aspects, "uncalibrated": scores.values, **self.calibration.bounds(scores.values)},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The model's."""
        return price_of_score(self.model, trajectory)
