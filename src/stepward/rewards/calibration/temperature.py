"""Temperature: one number that makes a model more or less sure, and never changes what it prefers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError, Scale
from stepward.rewards.calibration.logits import Logits, sigmoid
from stepward.rewards.calibration.pairs import checked_pairs
from stepward.rewards.calibration.record import Calibration, CalibrationMap

BOUNDS = (0.01, 100.0)


@dataclass(frozen=True)
class Temperature(CalibrationMap):
    """p = sigmoid(z / tau)."""

    tau: float
    logits: Logits = Logits()  # noqa: RUF009 (frozen)
    method: ClassVar[str] = "temperature"

    def __call__(self, scores: Floats) -> Floats:
        return sigmoid(self.logits(scores) / self.tau)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Temperature:
        return cls(float(record["tau"]), Logits(**record["logits"]))


def fit_temperature(
    scores: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, *, scale: Scale = "probability", model: str = "", data: str = ""
) -> Calibration:
    """p = sigmoid(z / tau) with the tau in [0.01, 100] of the smallest cross-entropy sum_i w_i [log(1 + e^{z_i / tau}) - y_i z_i / tau].

    The loss is convex in 1 / tau, so the minimum is found exactly; at a bound of the interval the loss would fall further beyond it (scores that separate the
    classes, or that are worse than none). tau > 1: the model was too sure. The order of scores, and AUROC with it, never changes. It cannot correct a bias.

    Raises: InputError for unusable pairs (see `checked_pairs`), or scores that all have logit 0, which no temperature changes.
    Reference: On Calibration of Modern Neural Networks (2017).
    """
    pairs = checked_pairs(scores, targets, weights, scale=scale)
    logits = Logits.of(pairs.scores, scale)
    z = logits(pairs.scores)
    if not z.any():
        raise InputError(f"all {len(z)} scores have logit 0, which no temperature changes; there is nothing to fit")

    def slope(log_tau: float) -> float:
        """Derivative of the loss by 1 / tau; rises with 1 / tau."""
        return float(pairs.weights @ ((sigmoid(z * math.exp(-log_tau)) - pairs.targets) * z))

    low, high = math.log(BOUNDS[0]), math.log(BOUNDS[1])
    if slope(low) <= 0.0:
        high = low
    elif slope(high) >= 0.0:
        low = high
    while high - low > 1e-14 * max(1.0, abs(low)):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) > 0.0 else (low, middle)
    return Calibration(
        map=Temperature(float(np.clip(math.exp((low + high) / 2.0), *BOUNDS)), logits),
        scale=scale,
        n=len(z),
        n_skipped=pairs.n_skipped,
        base_rate=pairs.base_rate,
        model=model,
        data=data,
    )
