"""The synchronous face."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import stepward
from stepward.core import Problem, RequestFailed, Sampling, StepLabels, Trajectory, Until
from stepward.environments.grade_school import GradeSchool
from stepward.labeling import OracleLabels
from stepward.policies.scripted import ScriptedSolver

WORLD, SOLVER = GradeSchool.easy(), ScriptedSolver()
PROBLEMS = list(WORLD.problems(seed=0, n=3))


def test_search_stays_a_function_whoever_imports_the_room_of_that_name() -> None:
    code = "import stepward, stepward.search.load, stepward.search.beam; assert callable(stepward.search), stepward.search"
    source = str(Path(stepward.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": source})


def test_search_can_be_called_again_and_also_where_a_loop_is_running() -> None:
    async def notebook() -> list[stepward.SearchResult]:
        return stepward.search(PROBLEMS, policy=SOLVER, environment=WORLD, strategy="majority", n=2, quiet=True)

    first, second = asyncio.run(notebook()), asyncio.run(notebook())
    assert [result.chosen for result in first] == [result.chosen for result in second]


def test_a_beam_takes_its_width() -> None:
    (found,) = stepward.search(PROBLEMS[:1], policy=SOLVER, environment=WORLD, model="oracle:grade-school", strategy="beam", n=6, width=2, quiet=True)
    assert len(found.tree.root.children) == 6


@dataclass(frozen=True)
class Gone:
    """A policy whose server is gone."""

    fingerprint: str = "gone"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        raise RequestFailed("connection refused")


def test_a_problem_that_could_not_be_sampled_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="stepward"):
        assert stepward.sample(PROBLEMS[:2], policy=Gone(), environment=WORLD, quiet=True) == [[], []]
    assert "2 of 2 failed" in caplog.text
    assert "connection refused" in caplog.text


def test_labels_that_failed_keep_the_meaning_of_their_method() -> None:
    foreign = Trajectory.from_texts(Problem("not of this world"), ["a", "b"])
    (found,) = stepward.label([foreign], environment=WORLD, method=OracleLabels(WORLD, "local"), quiet=True)
    assert isinstance(found, StepLabels)
    assert found.semantics == "local"
    assert found.n_unlabelled == 2


def test_every_method_is_found_by_name_with_its_own_parameters() -> None:
    (written,) = stepward.sample(PROBLEMS[:1], policy=SOLVER, environment=WORLD, quiet=True)
    chosen: dict[str, dict[str, Any]] = {"adaptive": {"error": 0.2}, "oracle": {}, "omega-prm": {"rollouts": 2}, "scan": {"n": 2, "n_root": 4}}
    for method, settings in chosen.items():
        (labels,) = stepward.label(written, policy=SOLVER, environment=WORLD, method=method, quiet=True, **settings)
        assert len(labels) == len(written[0])
    (plain,) = stepward.label(written, policy=SOLVER, environment=WORLD, quiet=True)
    assert plain.source["n"] == 8
