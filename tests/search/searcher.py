"""A process that searches through a journal until it is done or killed: `python -m tests.search.searcher JOURNAL PAID`.

It appends every draw and every score to PAID before it is made, says on standard error when a request begins, and prints results and usage at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepward.core import Environment, Policy, RewardModel, Sampling, Search, Trajectory, Until, Usage, metered
from stepward.engine.concurrency import run_all
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledEnvironment, JournaledPolicy, JournaledRewardModel
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver
from stepward.search.budget import Budget
from stepward.search.load import load_search
from stepward.testing.planted import PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughModel, RoughPolicy

LIMIT = 3  # searches at once


@dataclass
class Till:
    """Takes note of what is paid for."""

    paid: Path
    file: int = field(init=False)

    def __post_init__(self) -> None:
        self.file = os.open(self.paid, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str) -> None:
        os.write(self.file, f"{what}\n".encode())
        os.write(2, b"paid\n")


@dataclass
class PaidPolicy:
    inner: RoughPolicy
    till: Till

    @property
    def fingerprint(self) -> str:
        return f"paid/{self.inner.fingerprint}"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        for number in range(draw, draw + n):
            self.till.note(f"draw {prefix.key} {until} {sampling.to_record()} {number}")
        await asyncio.sleep(0)
        return await self.inner.sample(prefix, n, until=until, sampling=sampling, draw=draw)

    def price(self, prefix: Trajectory, n: int = 1, **options: Any) -> Usage:
        return self.inner.price(prefix, n, **options)


class PaidModel(RoughModel):
    till: Till

    async def score(self, trajectory: Trajectory) -> Any:
        self.till.note(f"score {trajectory.key} {trajectory.finished} {trajectory.truncated}")
        return await super().score(trajectory)


def searches(journal: Journal, till: Till) -> list[tuple[Search, Any]]:
    """Some of every kind, in both worlds, with and without a budget."""
    model = PaidModel()
    object.__setattr__(model, "till", till)
    judged: RewardModel = JournaledRewardModel(model, journal)
    agents = PlantedTree(interactive=True)
    worlds: list[tuple[Environment, Policy, list[Any]]] = [
        (GradeSchool(), ScriptedSolver(), list(GradeSchool().problems(5, 2, split="dev"))),
        (agents, PlantedPolicy(interactive=True), [agents.random(seed, depth=4, branching=2) for seed in range(2)]),
    ]
    made: list[tuple[Search, Any]] = []
    for world, writer, problems in worlds:
        policy = JournaledPolicy(PaidPolicy(RoughPolicy(writer), till), journal)
        for name in ("best-of-n", "beam", "mcts"):
            for budget in (Budget(), Budget(policy_tokens=60), Budget(flops=20_000, calls=40)):
                search = load_search(name, policy=policy, environment=JournaledEnvironment(world, journal), model=judged, budget=budget)
                made += [(search, problem) for problem in problems]
    return made


async def work(path: Path, paid: Path) -> list[str]:
    till = Till(paid)
    with Journal(path) as journal, metered() as ledger:
        results = await run_all(searches(journal, till), lambda item: item[0].search(item[1]), limit=LIMIT)
    return [*(json.dumps(result.to_record(), sort_keys=True) for result in results), json.dumps(ledger.usage.to_record(), sort_keys=True)]  # type: ignore[union-attr]


if __name__ == "__main__":
    print("\n".join(asyncio.run(work(Path(sys.argv[1]), Path(sys.argv[2])))))
