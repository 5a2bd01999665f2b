"""Search cost: what a labeler spends and finds on ladders of given lengths. One function, for tests and benchmarks alike."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepward.core import DEFAULT_SAMPLING, Environment, Labeler, Policy, Sampling, Trajectory, Until
from stepward.testing.ladder import Climber, Ladder


@dataclass(frozen=True, kw_only=True)
class SearchCost:
    """Means over the solutions of one length. `rollouts`: completions drawn; `tokens`: policy tokens written; `exact`: share of first errors found,
    with its standard error `exact_se`."""

    n_steps: int
    n: int
    rollouts: float
    tokens: float
    exact: float
    exact_se: float


async def search_cost(
    make: Callable[[Policy, Environment, Sampling], Labeler], lengths: Sequence[int], *, policy: Climber | None = None, n: int = 64, seed: int = 0
) -> list[SearchCost]:
    """Label `n` wrong solutions of every length whose first errors are spread evenly over its steps; the same every time.

    `make(policy, environment, sampling)` gives the labeler. `policy` defaults to one that solves half the time from a right prefix and never from a wrong
    one, with every rung written in one of a million ways, so that no completion passes through the given solution.
    """
    world = Ladder()
    climber = policy or Climber(clean=0.5, routes=1_000_000)
    rows = []
    for n_steps in lengths:
        cases = [(world.problem(n_steps, f"{seed}/{index}"), index * n_steps // n) for index in range(n)]
        counting = [_Counting(climber) for _ in cases]
        labelers = [make(policy_, world, Sampling(seed=seed)) for policy_ in counting]
        given = await asyncio.gather(
            *(labeler.label(world.wrong_solution(problem, k, route=-1)) for labeler, (problem, k) in zip(labelers, cases, strict=True))
        )
        exact = sum(labels.first_error == k for labels, (_, k) in zip(given, cases, strict=True)) / n
        rows.append(
            SearchCost(
                n_steps=n_steps,
                n=n,
                rollouts=sum(policy_.drawn for policy_ in counting) / n,
                tokens=sum(labels.usage.policy_tokens for labels in given) / n,
                exact=exact,
                exact_se=math.sqrt(exact * (1.0 - exact) / n),
            )
        )
    return rows


class _Counting:
    """The same policy, counting the completions that it wrote."""

    def __init__(self, policy: Climber) -> None:
        self.policy, self.drawn = policy, 0

    @property
    def fingerprint(self) -> str:
        return self.policy.fingerprint

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        self.drawn += n
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)
