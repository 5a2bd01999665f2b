"""Aggregation: one number for a trajectory from the numbers of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepward.core.errors import InputError

Floats = NDArray[np.float64]
Aggregation = Literal["last", "min", "max", "mean", "product", "geometric", "softmin", "mean_logit"]

_TINY = 1e-12  # products and logits of probabilities stay finite


def _softmin(values: Floats, tau: float = 0.1) -> float:
    weights = np.exp(-(values - values.min()) / tau)
    return float(values @ weights / weights.sum())


def _mean_logit(values: Floats) -> float:
    clipped = np.clip(values, _TINY, 1.0 - _TINY)
    return float(1.0 / (1.0 + np.exp(-np.mean(np.log(clipped) - np.log1p(-clipped)))))


AGGREGATIONS: dict[str, Callable[[Floats], float]] = {
    "last": lambda v: float(v[-1]),
    "min": lambda v: float(v.min()),
    "max": lambda v: float(v.max()),
    "mean": lambda v: float(v.mean()),
    "product": lambda v: float(np.exp(np.log(np.maximum(v, _TINY)).sum())),
    "geometric": lambda v: float(np.exp(np.log(np.maximum(v, _TINY)).mean())),
    "softmin": _softmin,
    "mean_logit": _mean_logit,
}
_ON_PROBABILITIES = frozenset({"product", "geometric", "mean_logit"})


def check_aggregation(how: str) -> None:
    """Refuse an unknown name before anything is paid for. Raises: InputError listing the known ones."""
    if how not in AGGREGATIONS:
        raise InputError(f"unknown aggregation {how!r}; choose one of {', '.join(AGGREGATIONS)}")


def aggregate(values: ArrayLike, how: Aggregation | str = "min", *, unscored: Literal["propagate", "skip"] = "propagate") -> float:
    """One number for the values s_0..s_{S-1} of a trajectory's steps.

    last s_{S-1}; min; max; mean; product exp(sum log s); geometric exp(mean log s); softmin sum s e^{-s/t} / sum e^{-s/t} with t = 0.1;
    mean_logit sigmoid(mean logit s). Logarithms and logits take a probability below 1e-12 as 1e-12, so that they
    stay finite. For s in [1e-12, 1]: product <= min <= geometric <= mean <= max; all agree for S = 1.
    Unscored steps (NaN) make the result NaN ("propagate") or are left out ("skip"; NaN when none is left). No steps give NaN.

    Raises: InputError for an unknown name, or for values outside [0, 1] where the formula needs probabilities.
    """
    check_aggregation(how)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"aggregate takes one value a step (shape [S]), got shape {array.shape}")
    known = array[~np.isnan(array)]
    if known.size == 0 or (unscored == "propagate" and known.size < array.size):
        return float("nan")
    if how in _ON_PROBABILITIES and (known.min() < 0.0 or known.max() > 1.0):
        raise InputError(f"aggregation {how!r} needs probabilities in [0, 1], got values from {known.min():.6g} to {known.max():.6g}; use min, mean or last")
    return AGGREGATIONS[how](known)
