"""Logistic: weighted logistic regression on a few features, by Newton's method. The only optimiser of the parametric calibrations."""

from __future__ import annotations

import numpy as np

from stepward.core import Floats
from stepward.rewards.calibration.logits import sigmoid

_STEPS = 100
_RIDGE = 1e-10  # of the mean Hessian's scale: only against a singular one


def logistic(features: Floats, targets: Floats, weights: Floats) -> Floats:
    """argmin_c sum_i w_i [log(1 + e^{z_i}) - y_i z_i] with z = features c: coefficients [K] from features [N, K], targets [N] in [0, 1], weights [N].

    Newton steps, halved until the loss falls. The loss is convex; its minimum exists when some targets lie strictly between 0 and 1, or the classes overlap.
    """
    coefficients = np.zeros(features.shape[1])
    scale = weights / weights.sum()

    def loss(c: Floats) -> float:
        z = features @ c
        return float(scale @ (np.logaddexp(0.0, z) - targets * z))

    value = loss(coefficients)
    for _ in range(_STEPS):
        p = sigmoid(features @ coefficients)
        gradient = features.T @ (scale * (p - targets))
        hessian = (features * (scale * p * (1.0 - p))[:, None]).T @ features
        hessian = hessian + _RIDGE * max(float(np.trace(hessian)), 1e-300) * np.eye(len(coefficients))
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        while size > 1e-12 and loss(coefficients - size * step) > value - 1e-4 * size * float(gradient @ step):
            size /= 2.0
        if size <= 1e-12:
            break
        coefficients = coefficients - size * step
        previous, value = value, loss(coefficients)
        if previous - value <= 1e-16 and float(np.abs(step).max()) < 1e-9 * (1.0 + float(np.abs(coefficients).max())):
            break
    return np.asarray(coefficients)
