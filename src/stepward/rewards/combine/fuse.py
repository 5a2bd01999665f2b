"""Fusing several models' values of the same steps into one: pure functions of arrays. Reward models and their requests are elsewhere.

Shapes: M members, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError

Rule = Literal["mean", "min", "median", "lcb"]
RULES: tuple[Rule, ...] = get_args(Rule)


def fuse(values: ArrayLike, rule: Rule | str = "mean", *, weights: Sequence[float] | None = None, k: float = 1.0) -> tuple[Floats, Floats]:
    """One value and one spread a step, [S] each, from `values` [M, S]; members without a value (NaN) are left out, NaN where there is none.

    mean: sum_m w_m v_m / sum_m w_m. min: the smallest. median: the value with half of the weight on either side, the middle of two where that is not
    unique. lcb: mean - k std, the lower confidence bound. std = sqrt(sum_m w_m (v_m - mean)^2 / sum_m w_m), 0 for one member. Weights are equal unless
    given. With two members of equal weight, lcb with k = 1 is exactly min, and median is mean.

    Raises: InputError for an unknown rule, unusable weights, weights with min, or a negative k.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise InputError(f"fuse takes one row of step values a member (shape [M, S]), got shape {array.shape}")
    check_rule(rule, len(array), weights, k)
    known = ~np.isnan(array)
    filled = np.where(known, array, 0.0)
    shares = np.where(known, np.ones(len(array))[:, None] if weights is None else np.asarray(weights, dtype=np.float64)[:, None], 0.0)
    total = shares.sum(axis=0)
    usable = total > 0.0
    safe = np.where(usable, total, 1.0)
    mean = (shares * filled).sum(axis=0) / safe
    std = np.sqrt((shares * (filled - mean) ** 2).sum(axis=0) / safe)
    if rule == "mean":
        fused = mean
    elif rule == "lcb":
        fused = mean - k * std
    elif rule == "min":
        fused = np.where(known, array, np.inf).min(axis=0, initial=np.inf)
    else:
        fused = _median(filled, shares, total)
    return np.where(usable, fused, np.nan), np.where(usable, std, np.nan)


def check_rule(rule: str, n_members: int, weights: Sequence[float] | None, k: float) -> None:
    """Refuse what `fuse` cannot do, before anything is paid for."""
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}; choose one of {', '.join(RULES)}")
    if weights is not None:
        if rule == "min":
            raise InputError("the minimum takes no weights; leave them out, or use rule='mean'")
        if len(weights) != n_members:
            raise InputError(f"one weight a member is needed: {n_members} members but {len(weights)} weights")
        if not all(np.isfinite(weight) and weight > 0.0 for weight in weights):
            raise InputError(f"weights must be positive, got {list(weights)}; leave a member out instead of giving it no weight")
    if not (np.isfinite(k) and k >= 0.0):
        raise InputError(f"k must be at least 0, got {k!r}")


def _median(filled: Floats, shares: Floats, total: Floats) -> Floats:
    order = np.argsort(np.where(shares > 0.0, filled, np.inf), axis=0, kind="stable")
    ranked, below = np.take_along_axis(filled, order, axis=0), np.cumsum(np.take_along_axis(shares, order, axis=0), axis=0)
    half = total / 2.0
    last = len(filled) - 1
    slack = 1e-12 * total  # shares that add up to half but for rounding
    first = np.minimum((below < half - slack).sum(axis=0), last)
    second = np.minimum((below <= half + slack).sum(axis=0), last)
    columns = np.arange(filled.shape[1])
    return np.asarray((ranked[first, columns] + ranked[second, columns]) / 2.0)
