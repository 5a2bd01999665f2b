"""Fuzzed inputs of every family: texts cannot add, lose or move a score. The checks and the generator are those of `benchmarks/fuzz.py`, which runs 100,000."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.fuzz import Harness, fuzz, gathered

from stepward.core import Problem, Step, Trajectory
from stepward.rewards.families import FAMILIES, family_named

PLAIN = Trajectory.from_texts("Tom has 3 apples.", ["He eats 1.", "3 - 1 = 2 are left.", "The answer is: 2"])
SPELLED = Trajectory.from_texts("Tom has 3 apples.", ["He eats 1.", "3 - 1 = 2 <extra_0> are left.", "The answer is: 2"])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_no_hostile_text_adds_loses_or_moves_a_score() -> None:
    report = fuzz(2300, seed=7, score_share=0.08)
    assert report["wrong"] == 0, ascii(report["examples"])
    assert report["families"] == len(FAMILIES)
    assert report["inputs"] == 2300
    assert report["scored"] > 100
    assert report["typed_errors"] == 0, "no text is refused: even a lone surrogate has a replacement"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(family_named("qwen2.5-math-prm"), tmp_path_factory.mktemp("harness"), seed=0)


def broken(harness: Harness, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    sequences = harness.model.encoder.sequences
    monkeypatch.setattr(harness.model.encoder, "sequences", lambda trajectory: [change(trajectory, encoded) for encoded in sequences(trajectory)])


def test_the_harness_finds_a_marker_that_text_adds(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness.check_encoding(SPELLED) is None
    marker = next(index for index, token in harness.control.items() if token == "<extra_0>")

    def with_marker(trajectory: Trajectory, encoded: Any) -> Any:
        return replace(encoded, ids=np.append(marker, encoded.ids)) if "<extra_0>" in trajectory.text else encoded

    broken(harness, monkeypatch, with_marker)
    assert "control tokens" in str(harness.check_encoding(SPELLED))
    assert harness.check_encoding(PLAIN) is None


def test_the_harness_finds_steps_that_are_moved_lost_or_read_twice(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        broken(harness, patch, lambda trajectory, encoded: replace(encoded, span=np.roll(encoded.span, 1, axis=0)))
        assert "its tokens say" in str(harness.check_encoding(PLAIN))
    with monkeypatch.context() as patch:
        broken(harness, patch, lambda trajectory, encoded: replace(encoded, kept=np.array([False, True, True]), read=np.append(-1, encoded.read[1:])))
        assert "step 0 of 3 is read 0 times" in str(harness.check_encoding(PLAIN))
    twice = harness.model.encoder.sequences(PLAIN) * 2
    monkeypatch.setattr(harness.model.encoder, "sequences", lambda trajectory: twice)
    assert "is read 2 times" in str(harness.check_encoding(PLAIN))


def test_untyped_errors_and_wrong_counts_are_findings(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def one_too_few(trajectory: Trajectory) -> Any:
        if not trajectory.steps[0].text:
            raise KeyError("no text")
        return await score(trajectory.prefix(len(trajectory) - 1))

    score = harness.model.score
    monkeypatch.setattr(harness.model, "score", one_too_few)
    found = asyncio.run(gathered(harness, [PLAIN, Trajectory(Problem("Tom"), (Step(""),))]))
    assert found == ["2 scores for 3 steps", "untyped KeyError: 'no text'"]


def test_the_script_says_what_it_found(tmp_path: Path) -> None:
    report = fuzz(40, families=["skywork-o1-open-prm", "rlhflow-mistral"], score_share=1.0)
    assert (report["families"], report["inputs"], report["scored"], report["wrong"]) == (2, 40, 40, 0)
