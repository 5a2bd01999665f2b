"""Searches with a journal, killed in the middle: the same command ends in the same results and pays for the rest alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.search.searcher import PaidPolicy, Till

from stepward.core import Trajectory, canonical_json
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledEnvironment, JournaledPolicy
from stepward.search import Majority
from stepward.testing.planted import PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughPolicy

ROOT = Path(__file__).resolve().parents[2]
IN_FLIGHT = 3 * 16  # searches at once, and requests of one


def start(folder: Path, paid: str = "paid") -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.search.searcher", str(folder / "journal"), str(folder / paid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def payments(folder: Path, paid: str = "paid") -> Counter[str]:
    path = folder / paid
    return Counter(path.read_text().splitlines() if path.exists() else [])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Counter[str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return finish(start(folder)), payments(folder)


def test_strategies_that_ask_for_the_same_draw_pay_for_it_once(undisturbed: tuple[str, Counter[str]]) -> None:
    """Budgets, strategies and searches of one run share the journal."""
    assert set(undisturbed[1].values()) == {1}


def test_killed_in_the_middle_a_rerun_pays_for_the_rest_and_ends_in_the_same_results(undisturbed: tuple[str, Counter[str]], tmp_path: Path) -> None:
    whole, wanted = undisturbed
    moments = [1, len(wanted) // 4, len(wanted) // 2]
    for moment in moments:
        process = start(tmp_path)
        assert process.stderr is not None
        for _ in range(moment):
            if not process.stderr.readline():
                break
        process.kill()
        process.communicate(timeout=60)
    killed = sum(payments(tmp_path).values())
    assert finish(start(tmp_path)) == whole
    paid = payments(tmp_path)
    assert set(paid) == set(wanted), "a resumed search asks for what the undisturbed one asks for, and for nothing else"
    assert killed < sum(paid.values())
    assert sum(paid.values()) - len(wanted) <= len(moments) * IN_FLIGHT, "only what was in flight at a kill is paid twice"
    assert finish(start(tmp_path, "paid again")) == whole
    assert not payments(tmp_path, "paid again"), "when all is kept, nothing is paid"


class Talking(PlantedTree):
    """A world that counts what it is asked, and that may say something else next time."""

    said: list[str]
    mood: str

    def __init__(self) -> None:
        super().__init__(interactive=True)
        object.__setattr__(self, "said", [])
        object.__setattr__(self, "mood", "")

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        observed = await super().observe(trajectory)
        last = observed.steps[-1]
        self.said.append(trajectory.key)
        return replace(observed, steps=(*observed.steps[:-1], replace(last, observation=f"{last.observation}{self.mood}")))


def test_a_resumed_agent_asks_its_world_again_and_pays_for_no_step_while_the_answers_are_the_same(tmp_path: Path) -> None:
    """Observations are not kept. A world that answers otherwise makes another episode, which is paid for."""
    world, problem = Talking(), PlantedTree().random(1, depth=4, branching=2)

    async def run() -> None:
        with Journal(tmp_path / "journal") as journal:
            policy = JournaledPolicy(PaidPolicy(RoughPolicy(PlantedPolicy(interactive=True)), Till(tmp_path / "paid")), journal)
            search = Majority(policy=policy, environment=JournaledEnvironment(world, journal), n=3)
            first = await search.search(problem)
            n_said, n_paid = len(world.said), sum(payments(tmp_path).values())
            again = await search.search(problem)
            assert canonical_json(again.to_record()) == canonical_json(first.to_record())
            assert world.said[n_said:] == world.said[:n_said]
            assert sum(payments(tmp_path).values()) == n_paid == 3 * 4
            assert not again.paid
            object.__setattr__(world, "mood", ", it seems")
            other = await search.search(problem)
            assert other.tree.ends[0].trajectory.steps[0].text == first.tree.ends[0].trajectory.steps[0].text
            assert sum(payments(tmp_path).values()) == n_paid + 3 * 3, "the first steps are kept ones; what follows another answer is new"

    asyncio.run(run())
