"""What several tests of strategies share: a world, a solver and a reward model that knows its exact values; running searches; standard errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stepward.core import Node, Problem, RequestFailed, Search, SearchResult, StepScores, Trajectory
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.1, lucky=0.0)
_VALUES: dict[tuple[str, bool], float] = {}
PROBLEMS = list(WORLD.problems(3, 150, split="dev"))


@dataclass(frozen=True)
class Exact:
    """A reward model that knows the exact value of every prefix; it may be constant instead, or fail on some trajectories."""

    constant: float | None = None
    fail_every: int = 0
    fingerprint: str = "exact"
    granularity: Literal["step"] = "step"
    scale: Literal["probability", "logit"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[:4], 16) % self.fail_every == 0:
            raise RequestFailed("no answer")
        if self.constant is not None:
            return StepScores(np.full(len(trajectory), self.constant))
        for key, prefix in zip(trajectory.keys[1:], trajectory.prefixes(), strict=True):
            if (key, prefix.ended) not in _VALUES:
                _VALUES[key, prefix.ended] = SOLVER.value(prefix)
        values = np.array([_VALUES[key, prefix.ended] for key, prefix in zip(trajectory.keys[1:], trajectory.prefixes(), strict=True)])
        return StepScores(values, ["cut off" if math.isnan(value) else None for value in values])


def results(search: Search, problems: Sequence[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def right(found: Sequence[SearchResult]) -> np.ndarray[Any, Any]:
    """1.0 for every result whose chosen solution is right; nothing chosen is wrong."""
    return np.array([0.0 if result.chosen is None else SOLVER.value(result.chosen) for result in found])


def particles_of(result: SearchResult) -> list[Node]:
    """The particles that a filter was left with, one node a particle."""
    return [result.tree.nodes[index] for index, _ in result.source["notes"]["particles"]]


def standard_error(values: np.ndarray[Any, Any]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
