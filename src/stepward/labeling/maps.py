"""Maps from the values of steps to labels. Pure functions on arrays; NaN (unknown) stays unknown. Values are in `estimators`, first errors in `decoders`.

Shapes: `values` [S], one a step; `root` is the value of the problem before any step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from stepward.core import Floats, InputError

Hard = tuple[bool | None, ...]
Base = Literal["previous", "root"]


def threshold(values: Sequence[float] | Floats, bar: float = 0.0) -> Hard:
    """Good iff value > bar."""
    return tuple(None if math.isnan(value) else bool(value > bar) for value in values)


def at_least(values: Sequence[float] | Floats, bar: float) -> Hard:
    """Good iff value >= bar."""
    return tuple(None if math.isnan(value) else bool(value >= bar) for value in values)


def bases(values: Sequence[float] | Floats, root: float, base: Base = "previous") -> Floats:
    """What each step's value is compared with: the value before the step (V_{t-1}, the first step's is `root`) or the root's."""
    known = np.asarray(values, dtype=np.float64)
    return np.concatenate([[root], known[:-1]])[: len(known)] if base == "previous" else np.full(len(known), root)


def ratios(values: Sequence[float] | Floats, root: float, base: Base = "previous") -> Floats:
    """Relative progress V_t / V_{t-1} (or V_t / root). 0 / 0 is 0: what had failed before has failed; V > 0 after 0 is infinite."""
    known, before = np.asarray(values, dtype=np.float64), bases(values, root, base)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = known / before
    return np.where((known == 0.0) & (before == 0.0), 0.0, quotient)


def advantages(values: Sequence[float] | Floats, root: float, base: Base = "previous") -> Floats:
    """Progress A_t = V_t - V_{t-1} (or V_t - root), in [-1, 1]; along a chain it adds up to V_S - root."""
    progress: Floats = np.asarray(values, dtype=np.float64) - bases(values, root, base)
    return progress


def effective_rewards(values: Sequence[float] | Floats, progress: Sequence[float] | Floats, alpha: float) -> Floats:
    """Q + alpha A: what a policy with step values Q is steered by when a prover's progress A helps it (Rewarding Progress, 2024)."""
    total: Floats = np.asarray(values, dtype=np.float64) + alpha * np.asarray(progress, dtype=np.float64)
    return total


def soften(first_error: int, shares: Sequence[float] | Floats, confidence: float, depth: int = 2) -> Floats:
    """Noise-tolerant targets up to the first error, shape [first_error + 1]: 1, then min(1, share / confidence) for the `depth` steps before it, 0 at it.

    `shares`: shares of right rollouts of at least these steps; `confidence`: the policy's own share of right solutions of the problem, which
    is what a share is worth when nothing has gone wrong. Source: SCAN (2025).
    """
    if not 0.0 < confidence <= 1.0:
        raise InputError(f"confidence must lie in (0, 1], got {confidence!r}")
    targets = np.ones(first_error + 1)
    targets[first_error] = 0.0
    for step in range(max(0, first_error - depth), first_error):
        targets[step] = min(1.0, shares[step] / confidence) if not math.isnan(shares[step]) else math.nan
    return targets


def signed(values: Sequence[float] | Floats) -> Floats:
    """2 v - 1: from [0, 1] to [-1, 1]."""
    spread: Floats = 2.0 * np.asarray(values, dtype=np.float64) - 1.0
    return spread


def min_max(values: Sequence[float] | Floats) -> Floats:
    """(v - min) / (max - min) over the known values; 0 where all are equal. Keeps ranks within one set of values; not comparable across sets."""
    known = np.asarray(values, dtype=np.float64)
    if not len(known) or bool(np.isnan(known).all()):
        return known
    low, high = np.nanmin(known), np.nanmax(known)
    return np.where(np.isnan(known), np.nan, 0.0) if high == low else (known - low) / (high - low)


def discount_to_go(values: Sequence[float] | Floats, gamma: float) -> Floats:
    """gamma^(S - t) v_t for step t = 1..S: the further the end, the less a share of right ends is worth; gamma 1 changes nothing."""
    known = np.asarray(values, dtype=np.float64)
    if not 0.0 < gamma <= 1.0:
        raise InputError(f"gamma must lie in (0, 1], got {gamma!r}")
    discounted: Floats = known * gamma ** np.arange(len(known) - 1, -1, -1)
    return discounted
