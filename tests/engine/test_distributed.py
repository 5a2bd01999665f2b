"""A run on several processes ends in the results of a run in one, whoever is killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepward.core import InputError, RequestFailed, Sampling, Trajectory, Usage, charge, metered
from stepward.core.problem import Problem
from stepward.engine.concurrency import Failure
from stepward.engine.distributed import run_distributed
from stepward.engine.distributed.journal import RemoteJournal
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver

pytest.importorskip("ray", reason="the ray extra is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@dataclass(frozen=True)
class Recorded:
    """Samples a problem twice from a scripted policy that notes every draw in a file of its process; `die_at`: problems at which the worker is killed once."""

    folder: str
    die_at: tuple[str, ...] = ()
    always: bool = False

    def open(self, journal: RemoteJournal | None) -> Any:
        policy: Any = _Noting(self.folder)
        writer = policy if journal is None else JournaledPolicy(policy, journal)

        async def work(item: tuple[str, Problem]) -> list[str]:
            name, problem = item
            if name == "bad":
                raise InputError("a bad item")
            if name == "broken":
                raise AssertionError("our own mistake")
            first = await writer.sample(Trajectory(problem), 2, sampling=Sampling(seed=1))
            mark = Path(self.folder) / f"died-{name}"
            if name in self.die_at and (self.always or not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            second = await writer.sample(first[0], 1, sampling=Sampling(seed=1)) if not first[0].ended else []
            return [trajectory.text for trajectory in [*first, *second]]

        return work


class _Noting:
    def __init__(self, folder: str) -> None:
        self._inner = ScriptedSolver()
        self._folder = Path(folder)
        self.fingerprint = self._inner.fingerprint

    async def sample(self, prefix: Trajectory, n: int = 1, *, draw: int = 0, **options: Any) -> list[Trajectory]:
        with (self._folder / f"draws-{os.getpid()}").open("a") as notes:
            notes.writelines(f"{prefix.key} {draw + index}\n" for index in range(n))
        charge(Usage(calls=1))
        await asyncio.sleep(0)
        return await self._inner.sample(prefix, n, draw=draw, **options)


def items(n: int) -> list[tuple[str, Problem]]:
    problems = list(GradeSchool.easy().problems(seed=0, n=n))
    return [(f"p{index}", problem) for index, problem in enumerate(problems) for _ in range(2)]


def draws(folder: Path) -> Counter[str]:
    return Counter(line for file in folder.glob("draws-*") for line in file.read_text().splitlines())


def alone(given: list[tuple[str, Problem]], folder: Path) -> list[Any]:
    folder.mkdir()
    work = Recorded(str(folder)).open(None)
    return [asyncio.run(work(item)) for item in given]


def test_workers_give_the_results_of_one_process_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    given = items(12)
    expected = alone(given, tmp_path / "alone")
    shared = tmp_path / "shared"
    shared.mkdir()
    journal = tmp_path / "kept.journal"
    seen: list[int] = []
    with metered() as ledger:
        results, report = run_distributed(
            given, Recorded(str(shared)), key=lambda item: item[0], workers=2, journal=journal, on_done=lambda position, _: seen.append(position)
        )
    assert results == expected
    assert sorted(seen) == list(range(24))
    assert set(draws(shared).values()) == {1}, "equal items share a worker, so nothing is drawn twice"
    assert set(draws(shared)) == set(draws(tmp_path / "alone"))
    assert sum(report.done_by.values()) == 24
    assert report.n_deaths == 0
    assert ledger.usage.calls > ledger.paid.calls > 0
    with Journal(journal) as kept:
        assert kept.stats().n_records["sample"] == len(draws(shared))

    with metered() as again:
        results, _ = run_distributed(given, Recorded(str(shared)), key=lambda item: item[0], workers=1, journal=journal)
    assert results == expected, "another number of workers finds everything"
    assert again.paid.calls == 0
    assert again.usage == ledger.usage
    assert set(draws(shared).values()) == {1}


def test_a_worker_that_is_killed_is_replaced_and_what_it_paid_for_is_found(tmp_path: Path) -> None:
    given = [*items(10), ("bad", Problem("x"))]
    expected = alone(given[:-1], tmp_path / "alone")
    shared = tmp_path / "shared"
    shared.mkdir()
    dying = Recorded(str(shared), die_at=("p1", "p6"))
    results, report = run_distributed(given, dying, key=lambda item: item[0], workers=2, journal=tmp_path / "kept.journal", concurrency=4)
    assert results[:-1] == expected
    assert isinstance(results[-1], Failure)
    assert results[-1].reason == "InputError: a bad item"
    assert 1 <= report.n_deaths <= 2
    first_draws = {f"{Trajectory(problem).key} 0" for name, problem in given if name in ("p1", "p6")}
    assert all(draws(shared)[draw] == 1 for draw in first_draws), "what was committed before the kill was not drawn again"


def test_an_item_that_kills_every_worker_fails_and_the_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepward.engine.distributed.runner._DEATHS_IN_COMPANY", 1)
    monkeypatch.setattr("stepward.engine.distributed.runner._DEATHS_ALONE", 2)
    given = items(2)
    expected = alone(given[2:], tmp_path / "alone")
    (tmp_path / "shared").mkdir()
    killer = Recorded(str(tmp_path / "shared"), die_at=("p0",), always=True)
    results, report = run_distributed(given, killer, key=lambda item: item[0], workers=1, concurrency=2)
    assert results[2:] == expected
    assert all(isinstance(result, Failure) and isinstance(result.error, RequestFailed) and "workers died" in result.reason for result in results[:2])
    assert report.n_deaths == 3


def test_mistakes_of_ours_and_of_the_caller_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be at least 1"):
        run_distributed([], Recorded(str(tmp_path)), key=lambda item: item, workers=0)
    from stepward.core.errors import StopRun

    with pytest.raises(StopRun, match="our own mistake"):
        run_distributed([("broken", Problem("x"))], Recorded(str(tmp_path)), key=lambda item: item[0], workers=1)
