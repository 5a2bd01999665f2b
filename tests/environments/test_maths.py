"""Maths grades final answers; what is not known stays unscored."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.protocols import Environment
from stepward.core.trajectory import Trajectory
from stepward.environments.maths import Maths

PROBLEM = Problem("What is 48 / 2 + 3?", answer="27")


@pytest.fixture(scope="module")
def maths() -> Iterator[Maths]:
    environment = Maths()
    yield environment
    environment.close()


def grade(maths: Maths, trajectory: Trajectory) -> Outcome:
    return asyncio.run(maths.grade(trajectory))


def solution(*texts: str, problem: Problem = PROBLEM, finished: bool = True) -> Trajectory:
    return Trajectory.from_texts(problem, list(texts), finished=finished)


def test_it_is_an_environment_that_never_answers(maths: Maths) -> None:
    assert isinstance(maths, Environment)
    trajectory = solution("48 / 2 = 24.", finished=False)
    assert asyncio.run(maths.observe(trajectory)) is trajectory


def test_right_and_wrong_answers(maths: Maths) -> None:
    assert grade(maths, solution("48 / 2 = 24.", r"So \boxed{24+3}.")) == Outcome(1.0, "24+3")
    assert grade(maths, solution("The answer is 27 apples.")) == Outcome(1.0, "27")
    assert grade(maths, solution("#### 28")) == Outcome(0.0, "28")


def test_a_finished_solution_without_an_answer_is_wrong(maths: Maths) -> None:
    outcome = grade(maths, solution("I give up."))
    assert outcome.value == 0.0
    assert outcome.answer is None


def test_what_is_not_known_is_unscored(maths: Maths) -> None:
    cut_off = replace(solution(r"\boxed{27}", finished=False), truncated=True)
    assert grade(maths, cut_off) == Outcome.unscored("truncated", answer="27")
    assert not grade(maths, solution("So", finished=False)).scored
    assert not grade(maths, solution(r"\boxed{27}", problem=Problem("?"))).scored


def test_a_stated_answer_finishes_a_solution(maths: Maths) -> None:
    assert maths.is_finished(solution("So", r"\boxed{27}", finished=False))
    assert not maths.is_finished(solution("48 / 2 = 24", finished=False))
    assert not maths.is_finished(solution(finished=False))


def test_votes_use_canonical_answers(maths: Maths) -> None:
    assert maths.answer(solution(r"\boxed{\frac{54}{2}}")) == maths.answer(solution("The answer is 27.0.")) == "27"
    assert maths.answer(solution("nothing")) is None


def test_it_agrees_with_recorded_correctness_of_real_solutions(maths: Maths, shared_data: Path) -> None:
    with gzip.open(shared_data / "candidates" / "math_100x8_qwen_rm.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    agree = n = 0
    for row in rows:
        for text, correct in zip(row["code"][:2], row["score"][:2], strict=True):
            outcome = grade(maths, solution(text, problem=Problem(row["question"], answer=row["gt"])))
            n += 1
            agree += outcome.correct == correct
    assert agree / n >= 0.97, f"{agree} of {n}"
