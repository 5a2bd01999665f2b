"""Parity: the same steps scored by two reward models, side by side. Printing is elsewhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stepward.core import InputError, RewardModel, StepScores, Trajectory
from stepward.engine.concurrency import Failure, run_all

_EXCERPT = 60  # characters of a step that a row shows
_REASON = 200


@dataclass(frozen=True)
class Pair:
    """One step's value on both sides; NaN where its side has a reason. `name` is "score", or the name of an aspect."""

    trajectory: int
    step: int
    text: str
    name: str
    local: float
    remote: float

    @property
    def difference(self) -> float:
        """|local - remote|; NaN where one of them is unknown."""
        return abs(self.local - self.remote)

    @property
    def one_sided(self) -> bool:
        """Known on one side only."""
        return math.isnan(self.local) != math.isnan(self.remote)


@dataclass(frozen=True)
class Parity:
    """Every step on both sides, and whether they agree: no difference above `tolerance`, the same steps unscored, and something compared at all."""

    pairs: tuple[Pair, ...]
    tolerance: float
    local_reasons: tuple[tuple[str, int], ...]
    remote_reasons: tuple[tuple[str, int], ...]
    n_trajectories: int
    n_other_first_error: int

    @cached_property
    def _differences(self) -> list[float]:
        return [pair.difference for pair in self.pairs if not math.isnan(pair.difference)]

    @property
    def largest(self) -> float:
        """The largest absolute difference; NaN when nothing could be compared."""
        return max(self._differences, default=math.nan)

    @property
    def mean(self) -> float:
        """The mean absolute difference; NaN when nothing could be compared."""
        return sum(self._differences) / len(self._differences) if self._differences else math.nan

    @property
    def n_one_sided(self) -> int:
        """Values known on one side only."""
        return sum(pair.one_sided for pair in self.pairs)

    @property
    def agree(self) -> bool:
        return bool(self._differences) and self.largest <= self.tolerance and not self.n_one_sided

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.agree:
            return f"agree within {self.tolerance:g}"
        if not self._differences:
            return "nothing could be compared"
        found = [f"{sum(value > self.tolerance for value in self._differences)} values differ by more than {self.tolerance:g}"] * (
            self.largest > self.tolerance
        )
        found += [f"{self.n_one_sided} values are known on one side only"] * bool(self.n_one_sided)
        return "; ".join(found)

    def worst(self, n: int) -> list[Pair]:
        """The n rows worth looking at first: known on one side only, then by difference."""
        return sorted(self.pairs, key=lambda pair: (not pair.one_sided, -pair.difference if not math.isnan(pair.difference) else 0.0))[:n]

    def to_record(self) -> dict[str, Any]:
        """The summary as JSON, without the rows; NaN where nothing was compared."""
        return {
            "agree": self.agree,
            "verdict": self.verdict,
            "tolerance": self.tolerance,
            "n_trajectories": self.n_trajectories,
            "n_values": len(self.pairs),
            "n_compared": len(self._differences),
            "largest_difference": self.largest,
            "mean_difference": self.mean,
            "n_one_sided": self.n_one_sided,
            "n_other_first_error": self.n_other_first_error,
            "local_unscored": dict(self.local_reasons),
            "remote_unscored": dict(self.remote_reasons),
        }


async def compare(
    local: RewardModel,
    remote: RewardModel,
    trajectories: Sequence[Trajectory],
    *,
    tolerance: float = 0.02,
    concurrency: int = 256,
    on_done: Callable[[], None] = lambda: None,
) -> Parity:
    """Score every trajectory with both; a request that fails leaves its steps unscored with the reason. `on_done` is called 2 x len(trajectories) times.

    Raises: InputError for models whose scores mean different things, or a tolerance below 0.
    """
    if not tolerance >= 0.0:
        raise InputError(f"tolerance must be at least 0, got {tolerance!r}")
    if (local.scale, local.granularity) != (remote.scale, remote.granularity):
        raise InputError(
            f"{local.fingerprint} gives a {local.scale} for each {local.granularity}, {remote.fingerprint} a {remote.scale} for each {remote.granularity}; "
            "compare models whose scores mean the same"
        )
    mine, theirs = [await _scores(model, trajectories, concurrency, on_done) for model in (local, remote)]
    pairs = [
        Pair(index, step, trajectory.steps[step].text[:_EXCERPT], name, float(one), float(other))
        for index, trajectory in enumerate(trajectories)
        for name, ones, others in _columns(mine[index], theirs[index])
        for step, (one, other) in enumerate(zip(ones, others, strict=True))
    ]
    return Parity(
        tuple(pairs),
        tolerance,
        local_reasons=_reasons(mine),
        remote_reasons=_reasons(theirs),
        n_trajectories=len(trajectories),
        n_other_first_error=sum(one.first_error() != other.first_error() for one, other in zip(mine, theirs, strict=True)),
    )


async def _scores(model: RewardModel, trajectories: Sequence[Trajectory], concurrency: int, on_done: Callable[[], None]) -> list[StepScores]:
    results = await run_all(trajectories, model.score, limit=concurrency, on_done=lambda _, __: on_done())
    return [
        StepScores.unscored(len(trajectory), result.reason, scale=model.scale) if isinstance(result, Failure) else result
        for trajectory, result in zip(trajectories, results, strict=True)
    ]


def _columns(left: StepScores, right: StepScores) -> list[tuple[str, Any, Any]]:
    unknown = np.full(len(left), np.nan)
    names = sorted({*left.aspects, *right.aspects})
    return [("score", left.values, right.values), *((name, left.aspects.get(name, unknown), right.aspects.get(name, unknown)) for name in names)]


def _reasons(side: Sequence[StepScores]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(reason[:_REASON] for scores in side for reason in scores.reasons if reason).most_common(10))
