"""Platt and beta calibration: logistic regression on a score's logit, or on the two logarithms that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError, Scale
from stepward.rewards.calibration.logistic import logistic
from stepward.rewards.calibration.logits import Logits, sigmoid
from stepward.rewards.calibration.pairs import Pairs, checked_pairs
from stepward.rewards.calibration.record import Calibration, CalibrationMap


@dataclass(frozen=True)
class Platt(CalibrationMap):
    """p = sigmoid(slope z + intercept), slope > 0."""

    slope: float
    intercept: float
    logits: Logits = Logits()  # noqa: RUF009 (frozen)
    method: ClassVar[str] = "platt"

    def __call__(self, scores: Floats) -> Floats:
        return sigmoid(self.slope * self.logits(scores) + self.intercept)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Platt:
        return cls(float(record["slope"]), float(record["intercept"]), Logits(**record["logits"]))


@dataclass(frozen=True)
class Beta(CalibrationMap):
    """p = sigmoid(a log s - b log(1 - s) + c) of a score s in [0, 1], with a, b >= 0; a = b is Platt's map."""

    a: float
    b: float
    c: float
    logits: Logits = Logits()  # noqa: RUF009 (frozen)
    method: ClassVar[str] = "beta"

    def __call__(self, scores: Floats) -> Floats:
        return sigmoid(_logarithms(scores, self.logits) @ np.array([self.a, self.b, self.c]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Beta:
        return cls(float(record["a"]), float(record["b"]), float(record["c"]), Logits(**record["logits"]))


def fit_platt(
    scores: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, *, scale: Scale = "probability", model: str = "", data: str = ""
) -> Calibration:
    """sigmoid(slope z + intercept) with the smallest cross-entropy; z is the logit of a probability, or the score itself on any other scale.

    As in the paper, targets are drawn in by what a uniform prior would add: y -> y t+ + (1 - y) t-, t+ = (N+ + 1) / (N+ + 2), t- = 1 / (N- + 2), N+ and N-
    being the weights of the good and the bad; so the fit is finite even where scores separate the classes. Keeps the order of scores.

    Raises: InputError for unusable pairs, and for scores that fall as targets rise.
    Reference: Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods (1999).
    """
    pairs = checked_pairs(scores, targets, weights, scale=scale)
    logits = Logits.of(pairs.scores, scale)
    z = logits(pairs.scores)
    _check_distinct(z)
    centre, spread = float(z.mean()), float(z.std())
    slope, intercept = logistic(np.stack([(z - centre) / spread, np.ones_like(z)], axis=1), softened(pairs), pairs.weights)  # conditioning only
    slope, intercept = float(slope / spread), float(intercept - slope * centre / spread)
    if slope <= 0.0:
        raise InputError("the scores are no higher for good steps than for bad ones, so no increasing map can calibrate them; check the labels and the model")
    return _calibration(Platt(slope, intercept, logits), pairs, scale, model, data)


def fit_beta(
    scores: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, *, scale: Scale = "probability", model: str = "", data: str = ""
) -> Calibration:
    """sigmoid(a log s - b log(1 - s) + c) with the smallest cross-entropy and a, b >= 0: three parameters, for probabilities whose two ends err differently.

    A coefficient that comes out negative is set to 0 and the others are fitted again. Targets are drawn in as by `fit_platt`.

    Raises: InputError for scores that are no probabilities, unusable pairs, and scores that fall as targets rise.
    Reference: Beta calibration: a well-founded and easily implemented improvement on logistic calibration for binary classifiers (2017).
    """
    if scale != "probability":
        raise InputError(f"beta calibration takes probabilities, got scores on the {scale} scale; use platt")
    pairs = checked_pairs(scores, targets, weights, scale=scale)
    logits = Logits.of(pairs.scores, scale)
    _check_distinct(logits(pairs.scores))
    features, soft = _logarithms(pairs.scores, logits), softened(pairs)
    free = [0, 1, 2]
    coefficients = np.zeros(3)
    while True:
        coefficients[:] = 0.0
        coefficients[free] = logistic(features[:, free], soft, pairs.weights)
        negative = [index for index in free[:-1] if coefficients[index] < 0.0]
        if not negative:
            break
        free.remove(min(negative, key=lambda index: float(coefficients[index])))
    if len(free) == 1:
        raise InputError("the scores are no higher for good steps than for bad ones, so no increasing map can calibrate them; check the labels and the model")
    return _calibration(Beta(float(coefficients[0]), float(coefficients[1]), float(coefficients[2]), logits), pairs, scale, model, data)


def softened(pairs: Pairs) -> Floats:
    """Targets drawn in from 0 and 1 by what a uniform prior adds."""
    good = float(pairs.weights @ pairs.targets)
    bad = float(pairs.weights @ (1.0 - pairs.targets))
    return np.asarray(pairs.targets * (good + 1.0) / (good + 2.0) + (1.0 - pairs.targets) / (bad + 2.0))


def _check_distinct(z: Floats) -> None:
    if z.std() == 0.0 or z.min() == z.max():
        raise InputError(f"all {len(z)} scores are equal; there is nothing to fit")


def _logarithms(scores: Floats, logits: Logits) -> Floats:
    """[N, 3]: log s, -log(1 - s), 1."""
    s = np.clip(scores, logits.low, logits.high)
    return np.stack([np.log(s), -np.log1p(-s), np.ones_like(s)], axis=-1)


def _calibration(mapping: Platt | Beta, pairs: Pairs, scale: Scale, model: str, data: str) -> Calibration:
    return Calibration(map=mapping, scale=scale, n=len(pairs.scores), n_skipped=pairs.n_skipped, base_rate=pairs.base_rate, model=model, data=data)
