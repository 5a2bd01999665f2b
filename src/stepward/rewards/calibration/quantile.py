"""Quantile calibration: a success rate with bounds, from pairs of scores and observed success rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError, Scale
from stepward.rewards.calibration.isotonic import block_of
from stepward.rewards.calibration.pairs import checked_pairs
from stepward.rewards.calibration.record import Calibration, CalibrationMap

LEVELS = (0.1, 0.5, 0.9)
SMALLEST = 50


def pinball(targets: ArrayLike, predicted: ArrayLike, level: float) -> Floats:
    """max((q - 1) u, q u) with u = target - predicted, element by element; its mean is smallest at the q-quantile of the targets.

    Reference: Regression Quantiles (1978).
    """
    error = np.asarray(targets, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    return np.maximum((level - 1.0) * error, level * error)


@dataclass(frozen=True)
class Quantiles(CalibrationMap):
    """Three increasing step functions of the score: low, mid and high quantile of the target. Group g begins at `lows[g]`; `values` is [3][G]."""

    levels: tuple[float, float, float]
    lows: tuple[float, ...]
    values: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    method: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        if not self.lows or any(len(row) != len(self.lows) for row in self.values):
            raise InputError("a quantile map needs as many values of each level as it has groups, at least one")

    def __call__(self, scores: Floats) -> Floats:
        return self._read(scores, 1)

    def bounds(self, scores: Floats) -> dict[str, Floats]:
        return {"low": self._read(scores, 0), "high": self._read(scores, 2)}

    def _read(self, scores: Floats, which: int) -> Floats:
        return np.asarray(np.array(self.values[which])[block_of(scores, self.lows)])

    def to_json(self) -> dict[str, Any]:
        return {"levels": list(self.levels), "lows": list(self.lows), "values": [list(row) for row in self.values]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Quantiles:
        low, mid, high = (tuple(map(float, row)) for row in record["values"])
        a, b, c = map(float, record["levels"])
        return cls((a, b, c), tuple(map(float, record["lows"])), (low, mid, high))


def fit_quantiles(
    scores: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    scale: Scale = "probability",
    model: str = "",
    data: str = "",
    levels: Sequence[float] = LEVELS,
    smallest: int = SMALLEST,
) -> Calibration:
    """For each level q the increasing step function f with the smallest sum_i w_i pinball_q(y_i - f(s_i)), constant on groups of at least `smallest` pairs.

    The calibrated value is the middle level's; the outer two are the bounds "low" and "high", between which a share levels[2] - levels[0] of new targets is
    expected. For soft targets (success rates of rollouts, exact values): 0/1 targets have 0/1 quantiles. Rates of few rollouts carry their sampling noise
    into the bounds. Groups of neighbouring scores keep a bound from resting on a handful of pairs; smallest=1 gives the exact minimiser. Levels never cross.

    Raises: InputError for unusable pairs, or levels that are not three increasing numbers inside (0, 1).
    Reference: Know What You Don't Know: Uncertainty Calibration of Process Reward Models (2025), there as three outputs of the model's head.
    """
    if len(levels) != 3 or not 0.0 < levels[0] < levels[1] < levels[2] < 1.0:
        raise InputError(f"levels must be three increasing numbers inside (0, 1), got {list(levels)}")
    if smallest < 1:
        raise InputError(f"smallest must be at least 1, got {smallest!r}")
    pairs = checked_pairs(scores, targets, weights, scale=scale)
    order = np.argsort(pairs.scores, kind="stable")
    s, y, w = pairs.scores[order], pairs.targets[order], pairs.weights[order]
    starts = _groups(s, smallest)
    rows = [increasing_quantiles(y, w, starts, level) for level in levels]
    mapping = Quantiles((levels[0], levels[1], levels[2]), tuple(s[starts].tolist()), (tuple(rows[0]), tuple(rows[1]), tuple(rows[2])))
    return Calibration(map=mapping, scale=scale, n=len(s), n_skipped=pairs.n_skipped, base_rate=pairs.base_rate, model=model, data=data)


def increasing_quantiles(targets: Floats, weights: Floats, starts: Sequence[int], level: float) -> list[float]:
    """Value of every group of the increasing fit with the smallest pinball loss; groups are slices of `targets` that begin at `starts`.

    Adjacent violators are pooled, each block taking the `level` quantile of all its targets (the smallest one where several are quantiles). By the max-min
    formula this is max_{a <= g} min_{b >= g} quantile(groups a..b), which rises with the level.
    """
    ends = [*starts[1:], len(targets)]
    blocks: list[tuple[int, int, int, float]] = []  # first and last target, groups, value
    for start, end in zip(starts, ends, strict=True):
        blocks.append((start, end, 1, quantile(targets[start:end], weights[start:end], level)))
        while len(blocks) > 1 and blocks[-2][3] > blocks[-1][3]:
            _, last, right, _ = blocks.pop()
            first, _, left, _ = blocks.pop()
            blocks.append((first, last, left + right, quantile(targets[first:last], weights[first:last], level)))
    return [value for _, _, n_groups, value in blocks for _ in range(n_groups)]


def quantile(values: Floats, weights: Floats, level: float) -> float:
    """The smallest value with at least the share `level` of the weight at or below it: a minimiser of the weighted pinball loss."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, level * below[-1] * (1.0 - 1e-12), side="left")])


def _groups(scores: Floats, smallest: int) -> list[int]:
    """Starts of groups of at least `smallest` neighbouring scores; equal scores share a group, and a short rest joins the last one."""
    starts = [0]
    for index in range(1, len(scores)):
        if index - starts[-1] >= smallest and scores[index] != scores[index - 1] and len(scores) - index >= smallest:
            starts.append(index)
    return starts
