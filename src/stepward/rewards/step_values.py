"""From a head's numbers to step scores and aspects, and which steps are left unjudged: the arithmetic of a convention."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stepward.core import ABSTAINED
from stepward.core.aggregation import Floats
from stepward.rewards.convention import Convention

_AFTER_ERROR = f"{ABSTAINED}: an earlier step is wrong, and this model judges none after it"


def step_values(convention: Convention, outputs: NDArray[np.float64]) -> tuple[Floats, dict[str, Floats]]:
    """Scores [T] and aspects by name, [T] each, from a head's numbers [T, K]. NaN stays NaN.

    softmax: sum over `good` of softmax(z / temperature); margin: the good class's probability minus the other's; sigmoid(z / temperature); or z itself.
    """
    scaled = outputs / convention.temperature
    if convention.activation == "none":
        return outputs[:, 0].copy(), {}
    with np.errstate(invalid="ignore"):  # NaN stays NaN, and infinite logits become it
        if convention.activation == "sigmoid":
            return np.exp(-np.logaddexp(0.0, -scaled[:, 0])), {}
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
        probs = exponents / exponents.sum(axis=1, keepdims=True)
    values = _sum(probs, convention.good_classes)
    aspects = {aspect.name: _sum(probs, aspect.classes) for aspect in convention.aspects}
    return 2.0 * values - 1.0 if convention.activation == "margin" else values, aspects


def silence_after_error(convention: Convention, values: Floats, reasons: list[str | None]) -> None:
    """Where the convention stops at the first wrong step, unscore in place every step after it."""
    wrong = np.flatnonzero(values < convention.threshold)
    if convention.after_error == "continue" or not len(wrong):
        return
    for index in range(int(wrong[0]) + 1, len(values)):
        values[index], reasons[index] = np.nan, _AFTER_ERROR


def _sum(probs: NDArray[np.float64], classes: tuple[int, ...]) -> Floats:
    total: Floats = np.minimum(probs[:, list(classes)].sum(axis=1), 1.0)
    return total
