"""Cross-calibration: what a calibration does to pairs that it was not fitted on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError, Scale
from stepward.rewards.calibration.methods import fit


def cross_calibrated(
    method: str,
    scores: ArrayLike,
    targets: ArrayLike,
    groups: Sequence[Hashable],
    *,
    scale: Scale = "probability",
    folds: int = 5,
    seed: int = 0,
    **options: Any,
) -> Floats:
    """Every score [N] through a calibration fitted on the other folds. `groups` [N]: pairs of one group (a problem) are never on both sides.

    Groups are dealt into folds at random by the seed. NaN where the other folds cannot be fitted, for example because all their targets are alike.

    Raises: InputError for fewer groups than 2, fewer folds than 2, or unequal lengths.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if not len(s) == len(y) == len(groups):
        raise InputError(f"one target and one group a score are needed, got {len(s)} scores, {len(y)} targets and {len(groups)} groups")
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in groups], dtype=np.int64)
    if folds < 2 or len(numbers) < 2:
        raise InputError(f"cross-calibration needs at least 2 folds and 2 groups, got {folds} and {len(numbers)}")
    fold = (np.random.default_rng(seed).permutation(len(numbers)) % folds)[group]
    result = np.full(len(s), np.nan)
    for held_out in range(folds):
        here = fold == held_out
        try:
            result[here] = fit(method, s[~here], y[~here], scale=scale, **options)(s[here])
        except InputError:
            continue
    return result
