"""Resampling: which particles go on, from their weights and given uniform numbers. Pure functions; who the particles are is particles.py's business."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stepward.core.aggregation import Floats
from stepward.core.errors import InputError

Resampling = Literal["multinomial", "systematic", "stratified"]
RESAMPLINGS = ("multinomial", "systematic", "stratified")


def normalised(log_weights: Sequence[float] | Floats) -> Floats:
    """p_i = w_i / sum_j w_j from natural-log weights [n]; log weight -inf is weight 0. All zero: all equal."""
    logs = np.asarray(log_weights, dtype=np.float64)
    if not logs.size or np.isneginf(logs.max()):
        return np.full(logs.shape, 1.0 / max(1, logs.size))
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def log_mean(log_weights: Sequence[float] | Floats) -> float:
    """ln of the mean weight, from natural-log weights [n]; -inf where all weights are 0."""
    logs = np.asarray(log_weights, dtype=np.float64)
    largest = float(logs.max())
    return largest if math.isinf(largest) else largest + math.log(float(np.exp(logs - largest).mean()))


def effective_sample_size(weights: Floats) -> float:
    """1 / sum_i p_i^2 for weights p that sum to 1: n for equal ones, 1 where one particle has all."""
    return 1.0 / float((weights**2).sum())


def n_uniforms(method: Resampling, n: int) -> int:
    """How many uniform numbers `resample` of n particles takes."""
    return 1 if method == "systematic" else n


def resample(weights: Floats, uniforms: Sequence[float], *, n: int | None = None, method: Resampling = "multinomial") -> NDArray[np.intp]:
    """Ancestors [n] of the next particles: particle i is named n p_i times on average. `n` defaults to the number of weights.

    multinomial: n independent draws. stratified: one draw in each n-th of [0, 1). systematic: the same place u in each n-th, so that particle i is named
    floor(n p_i) or ceil(n p_i) times. `uniforms` in (0, 1): n of them, 1 for systematic. (Douc and Cappé, Comparison of Resampling Schemes for Particle
    Filtering, 2005.)

    Raises: InputError for an unknown method or the wrong number of uniforms.
    """
    check_resampling(method)
    count = len(weights) if n is None else n
    if len(uniforms) != n_uniforms(method, count):
        raise InputError(f"{method} resampling of {count} particles takes {n_uniforms(method, count)} uniform numbers, got {len(uniforms)}")
    places = np.asarray(uniforms, dtype=np.float64)
    if method != "multinomial":
        places = (np.arange(count) + places) / count
    cumulative = np.cumsum(weights)
    last = int(np.flatnonzero(weights)[-1])  # rounding must not reach a particle of weight 0
    return np.minimum(np.searchsorted(cumulative, places, side="right"), last)


def check_resampling(method: str) -> None:
    """Raises: InputError for an unknown method."""
    if method not in RESAMPLINGS:
        raise InputError(f"unknown resampling {method!r}; choose one of {', '.join(RESAMPLINGS)}")
