"""The synchronous face."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import stepward
from stepward.core import InputError, Problem, RequestFailed, Sampling, SearchResult, StepLabels, StepScores, Trajectory, Until, metered
from stepward.data.store import read_records
from stepward.environments.grade_school import GradeSchool
from stepward.labeling import OracleLabels
from stepward.policies.scripted import ScriptedSolver
from stepward.search import Majority

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


def test_search_grades_what_it_chose_writes_it_and_goes_on_from_its_journal(tmp_path: Path) -> None:
    def run() -> list[SearchResult]:
        kept = {"out": tmp_path / "results.jsonl", "journal": tmp_path / "journal"}
        return stepward.search(PROBLEMS, policy=SOLVER, environment=WORLD, strategy="majority", n=2, quiet=True, **kept)

    with metered() as ledger:
        first = run()
    assert ledger.paid.policy_tokens
    assert all(result.chosen.outcome is not None and result.chosen.outcome.scored for result in first if result.chosen is not None)
    written = (tmp_path / "results.jsonl").read_bytes()
    assert len(list(read_records(tmp_path / "results.jsonl"))) == len(PROBLEMS)
    with metered() as ledger:
        run()
    assert not ledger.paid.policy_tokens
    assert (tmp_path / "results.jsonl").read_bytes() == written


@dataclass(frozen=True)
class OneScore:
    """Gives one score, whatever the number of steps."""

    fingerprint: str = "one"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.array([0.5]))


def test_another_number_of_scores_than_steps_is_unscored_and_says_so() -> None:
    scores = stepward.load(OneScore()).score("P", ["a", "b", "c"])
    assert len(scores) == 3
    assert np.isnan(scores.values).all()
    assert "1 scores for 3 steps" in str(scores.reasons[0])
    (found,) = stepward.search(PROBLEMS[:1], policy=SOLVER, environment=WORLD, model=OneScore(), strategy="best-of-n", n=2, quiet=True)
    assert found.chosen is None
    assert "1 scores for" in str(found.reason)


def test_slips_in_search_say_what_is_wanted() -> None:
    given = {"policy": SOLVER, "environment": WORLD, "quiet": True}
    with pytest.raises(InputError, match="budget must be"):
        stepward.search(PROBLEMS, budget={"calls": 3}, **given)
    with pytest.raises(InputError, match="search takes Problems"):
        stepward.search(["What is 3 + 4?"], strategy="majority", **given)
    with pytest.raises(InputError, match="a search that is made"):
        stepward.search(PROBLEMS, strategy=Majority, **given)
