"""Every checkpoint family: a tiny random checkpoint scored in one concurrent batch equals a plain-loop reference written from the authors' code.

Tolerances are absolute: 1e-4 for probabilities, margins and raw values; log-ratios are of the order beta = 0.001 a nat, and must agree to 1e-6.
Inputs that the authors' code itself trips over (a marker or control token spelled in the text, a step without text) are part of it: the references
say what is meant, see `references`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.rewards.references import REFERENCES, Checkpoint, Scorer
from tests.rewards.references.classifiers import redundancy
from tests.rewards.references.solutions import solutions

from stepward.core import Problem, Step, StepScores, Trajectory
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import FAMILIES, Family
from stepward.rewards.implicit import ImplicitModel
from stepward.rewards.load import load_reward_model
from stepward.rewards.pathfinder import PathFinderModel
from stepward.testing.checkpoints import tiny_checkpoint

CONTEXT = 4096
TOLERANCE = {"probability": 1e-4, "advantage": 1e-4, "logit": 1e-4, "logratio": 1e-6}
NAMES = [family.name for family in FAMILIES]


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest) -> Family:
    return next(family for family in FAMILIES if family.name == request.param)


@pytest.fixture(scope="module")
def checkpoint(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    root = tmp_path_factory.mktemp(family.name)
    folder = tiny_checkpoint(family.name, root / "model", max_tokens=CONTEXT)
    other = tiny_checkpoint(family.name, root / "reference", max_tokens=CONTEXT, seed=1) if family.reader == "implicit" else None
    return Checkpoint(folder, other)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loaded(family: Family, checkpoint: Checkpoint, **changes: Any) -> Any:
    """The model as a user loads it; with a changed convention, by its class."""
    reference = checkpoint.reference and checkpoint.reference.folder
    if not changes:
        return load_reward_model(checkpoint.folder, convention=family.name, reference=reference)
    convention = replace(family.convention, **changes)
    if family.reader == "implicit":
        return ImplicitModel.from_pretrained(checkpoint.folder, reference=reference, convention=convention)
    kind = PathFinderModel if family.reader == "pathfinder" else DiscriminativeModel
    return kind.from_pretrained(checkpoint.folder, convention=convention)


def trajectory(problem: str, steps: Sequence[str], *, finished: bool = True) -> Trajectory:
    return Trajectory(Problem(problem), tuple(Step(step, "\n\n") for step in steps), finished=finished)


def score_together(model: Any, asked: Sequence[Trajectory]) -> list[StepScores]:
    async def scores() -> list[StepScores]:
        return await asyncio.gather(*(model.score(one) for one in asked))

    return asyncio.run(scores())


def reference_of(family: Family, *, finished: bool = True) -> Scorer:
    return partial(REFERENCES[family.name], finished=finished) if family.reader == "implicit" else REFERENCES[family.name]


def test_every_family_has_a_reference() -> None:
    assert set(REFERENCES) == set(NAMES)


def test_200_solutions_in_one_batch_equal_the_reference(family: Family, checkpoint: Checkpoint) -> None:
    model = loaded(family, checkpoint)
    asked = solutions(200, seed=1, spelled=tuple(checkpoint.tokenizer.names))
    finished = [index % 4 > 0 for index in range(len(asked))]
    found = score_together(model, [trajectory(*one, finished=ended) for one, ended in zip(asked, finished, strict=True)])
    worst = 0.0
    for (problem, steps), ended, scores in zip(asked, finished, found, strict=True):
        assert not any(scores.reasons), f"{scores.reasons} for {steps!r}"
        expected = reference_of(family, finished=ended)(checkpoint, problem, steps)
        assert len(scores) == len(expected) == len(steps)
        difference = float(np.abs(scores.values - expected).max())
        assert difference <= TOLERANCE[model.scale], f"{difference:.2g}: {scores.values} and {expected} for {problem!r}, {steps!r}"
        worst = max(worst, difference)
    values = np.concatenate([scores.values for scores in found])
    assert values.std() > 100 * TOLERANCE[model.scale], "the fixture's scores must differ for this to mean anything"


def test_beyond_the_context_the_kept_steps_are_equal_and_the_rest_has_a_reason(family: Family, checkpoint: Checkpoint) -> None:
    problem, steps = "How many fruits has Tom?", [f"Tom has {k} + 4 = {k + 4} fruits, <extra_0> ки so he eats {k} of them." for k in range(60)]

    def reference(n: int) -> tuple[list[float], int]:
        """Scores of the first n steps, and the tokens of the longest sequence they took."""
        checkpoint.lengths.clear()
        return reference_of(family, finished=False)(checkpoint, problem, steps[:n]), max(checkpoint.lengths)

    limit = reference(1)[1] + 400
    (scores,) = score_together(loaded(family, checkpoint, max_tokens=limit), [trajectory(problem, steps, finished=False)])
    kept = int((~np.isnan(scores.values)).sum())
    assert 3 < kept < 60
    assert scores.reasons == (None,) * kept + (f"does not fit the context of {limit} tokens",) * (60 - kept)
    expected, length = reference(kept)
    assert scores.values[:kept] == pytest.approx(expected, abs=TOLERANCE[scores.scale])
    assert length <= limit + 8, "the kept steps must fit, a template's closing tokens aside"
    assert reference(kept + 1)[1] > limit, "one more step would have fitted"


def test_a_problem_beyond_the_context_leaves_every_step_unscored_with_the_reason(family: Family, checkpoint: Checkpoint) -> None:
    (scores,) = score_together(loaded(family, checkpoint), [trajectory("Tom has 3 apples. " * CONTEXT, ["one", "", "three"])])
    assert np.isnan(scores.values).all()
    assert len(scores) == 3
    assert all(reason and "context" in reason for reason in scores.reasons)


@pytest.mark.parametrize("name", ["reasoneval-34b", "reasoneval-7b"])
def test_redundancy_equals_the_reference(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_checkpoint(name, tmp_path, max_tokens=CONTEXT))
    asked = solutions(30, seed=2)
    found = score_together(DiscriminativeModel.from_pretrained(tmp_path), [trajectory(*one) for one in asked])
    for (problem, steps), scores in zip(asked, found, strict=True):
        assert scores.aspects["redundancy"] == pytest.approx(redundancy(checkpoint, problem, steps, shift=int(name.endswith("7b"))), abs=1e-4)


@pytest.mark.parametrize("name", ["eurus-prm", "implicit-prm"])
def test_differenced_log_ratios_add_up_to_the_reference(name: str, tmp_path: Path) -> None:
    folder, other = tiny_checkpoint(name, tmp_path / "a", max_tokens=CONTEXT), tiny_checkpoint(name, tmp_path / "b", max_tokens=CONTEXT, seed=1)
    family = next(family for family in FAMILIES if family.name == name)
    model = ImplicitModel.from_pretrained(folder, reference=other, convention=replace(family.convention, mode="difference", beta=0.005))
    checkpoint = Checkpoint(folder, other)
    for problem, steps in solutions(30, seed=3):
        (scores,) = score_together(model, [trajectory(problem, steps)])
        assert np.cumsum(scores.values) == pytest.approx(REFERENCES[name](checkpoint, problem, steps, beta=0.005), abs=1e-5)  # type: ignore[call-arg]


def test_the_page_on_checkpoints_names_every_family_and_published_id() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        assert f"`{family.name}`" in page
        for published in family.published:
            assert f"`{published}`" in page
