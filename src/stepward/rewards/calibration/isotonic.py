"""Isotonic calibration: the increasing map nearest to the data, without a formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError, Scale
from stepward.rewards.calibration.pairs import checked_pairs
from stepward.rewards.calibration.record import Calibration, CalibrationMap

Between = Literal["step", "linear"]


@dataclass(frozen=True)
class Isotonic(CalibrationMap):
    """Blocks of scores from `lows[b]` to `highs[b]` with value `values[b]`, all increasing.

    between="step": the right-continuous step function, f(s) = values[b] for the last block with lows[b] <= s. between="linear": constant inside a block,
    linear from the end of one block to the start of the next. The first value below all blocks, the last above them. Scores within a block are tied.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    values: tuple[float, ...]
    between: Between = "step"
    method: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        if not len(self.lows) == len(self.highs) == len(self.values) > 0:
            raise InputError("an isotonic map needs as many lows, highs and values, at least one of each")
        if self.between not in get_args(Between):
            raise InputError(f"between must be one of {', '.join(get_args(Between))}, got {self.between!r}")

    def __call__(self, scores: Floats) -> Floats:
        if self.between == "linear":
            knots = np.stack([self.lows, self.highs], axis=1).ravel()
            return np.asarray(np.interp(scores, knots, np.repeat(self.values, 2)))
        return np.asarray(np.array(self.values)[block_of(scores, self.lows)])

    def to_json(self) -> dict[str, Any]:
        return {"lows": list(self.lows), "highs": list(self.highs), "values": list(self.values), "between": self.between}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Isotonic:
        lows, highs, values = (tuple(map(float, record[name])) for name in ("lows", "highs", "values"))
        return cls(lows, highs, values, record["between"])


def fit_isotonic(
    scores: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    scale: Scale = "probability",
    model: str = "",
    data: str = "",
    between: Between = "step",
) -> Calibration:
    """The increasing f with the smallest sum_i w_i (f(s_i) - y_i)^2, by pooling adjacent violators; equal scores are pooled first.

    Works on any scale. Ties the scores of a block, so rankings lose detail; its end blocks can be exactly 0 or 1. Needs many pairs, a thousand or more.

    Raises: InputError for unusable pairs; see `checked_pairs`.
    Reference: Transforming Classifier Scores into Accurate Multiclass Probability Estimates (2002).
    """
    pairs = checked_pairs(scores, targets, weights, scale=scale)
    levels, at = np.unique(pairs.scores, return_inverse=True)
    weight: Floats = np.bincount(at, weights=pairs.weights).astype(np.float64)
    totals: Floats = np.bincount(at, weights=pairs.weights * pairs.targets).astype(np.float64)
    first, values = pool_adjacent_violators(totals / weight, weight)
    last = np.append(first[1:], len(levels)) - 1
    mapping = Isotonic(tuple(levels[first].tolist()), tuple(levels[last].tolist()), tuple(values.tolist()), between)
    return Calibration(map=mapping, scale=scale, n=len(pairs.scores), n_skipped=pairs.n_skipped, base_rate=pairs.base_rate, model=model, data=data)


def pool_adjacent_violators(means: Floats, weights: Floats) -> tuple[np.typing.NDArray[np.intp], Floats]:
    """Start index and value of every block of the weighted least-squares increasing fit to `means` [N]; values strictly increase. Linear time."""
    starts: list[int] = []
    sums: list[float] = []
    masses: list[float] = []
    for index, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        starts.append(index)
        sums.append(mean * weight)
        masses.append(weight)
        while len(starts) > 1 and sums[-2] * masses[-1] >= sums[-1] * masses[-2]:
            starts.pop()
            total, mass = sums.pop(), masses.pop()
            sums[-1] += total
            masses[-1] += mass
    return np.array(starts, dtype=np.intp), np.array(sums) / np.array(masses)


def block_of(scores: Floats, lows: tuple[float, ...]) -> np.typing.NDArray[np.intp]:
    """The last block that begins at or below each score; the first one for scores below all."""
    return np.maximum(np.searchsorted(np.array(lows), scores, side="right") - 1, 0)
