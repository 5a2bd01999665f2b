"""Gold proofs of public data are supported and never refuted; with one step corrupted they are caught."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stepward.core import Problem, Trajectory
from stepward.engine.loop import run_sync
from stepward.environments.deduction import Deduction, ErrorType, corrupt
from stepward.environments.deduction.judgement import HARMLESS
from stepward.labeling.perturb.logic import corrupt_logic
from stepward.rewards.logic import Logic
from stepward.rewards.logic.theory import lexicon_of, read_theory
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier

MEANINGS = {"A": "true", "B": "false", "C": "unknown", "True": "true", "False": "false", "Uncertain": "unknown"}


@pytest.fixture(scope="module")
def tools() -> ToolVerifier:
    return ToolVerifier([Logic()])


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / "logic" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def judged(tools: ToolVerifier, prompt: str, steps: list[str]) -> tuple[StepVerdict, ...]:
    return run_sync(tools.judge(Trajectory.from_texts(Problem(prompt), steps, finished=True)))


def posed(row: dict[str, Any]) -> tuple[str, list[str]]:
    if "context" in row:
        return f"{row['context']} {row['question']}", row.get("explanation", [])
    return f"{row['question']} {row['query']}", row["chain_of_thought"]


@pytest.mark.parametrize("name", ["prontoqa_fictional", "prontoqa_true_345hop"])
def test_gold_proofs_of_prontoqa_are_supported_and_their_perturbations_refuted(tools: ToolVerifier, shared_data: Path, name: str) -> None:
    gold: Counter[State] = Counter()
    wrong: Counter[State] = Counter()
    for number, row in enumerate(islice(rows(shared_data, name), 0, None, 25)):
        prompt, steps = posed(row)
        gold.update(verdict.state for verdict in judged(tools, prompt, [*steps, f"So the statement is {MEANINGS[row['answer']]}."]))
        place = random.Random(number).randrange(len(steps))
        changed = corrupt_logic(steps[place], prompt, seed=number)
        assert changed is not None
        wrong[judged(tools, prompt, [*steps[:place], changed.text])[-1].state] += 1
    assert set(gold) == {State.SUPPORTED}, gold
    assert wrong[State.REFUTED] >= 0.95 * wrong.total(), wrong


@pytest.mark.parametrize("name", ["prontoqa_fictional", "prontoqa_true_345hop", "proofwriter_dev"])
def test_every_sentence_of_these_sets_is_read(shared_data: Path, name: str) -> None:
    for row in rows(shared_data, name)[::4]:
        prompt, _ = posed(row)
        theory = read_theory(prompt, lexicon_of([prompt]))
        assert (theory.unread, theory.closed, theory.question is not None) == ((), True, True), prompt


@pytest.mark.parametrize(("name", "least_agreed"), [("proofwriter_dev", 11), ("folio_validation", 9)])
def test_labels_of_statements_are_what_z3_finds(tools: ToolVerifier, shared_data: Path, name: str, least_agreed: int) -> None:
    found: Counter[State] = Counter()
    for row in islice(rows(shared_data, name), 0, 204, 17):
        if name == "folio_validation":
            prompt, label = "\n".join(row["premises-FOL"]) + "\nTrue or false: " + row["conclusion-FOL"], MEANINGS[row["label"]]
        else:
            prompt, label = posed(row)[0], MEANINGS[row["answer"]]
        found[judged(tools, prompt, [f"The statement is {label}."])[0].state] += 1
    assert found[State.SUPPORTED] >= least_agreed, "a few labels are not what the sentences say; benchmarks/domains.py counts them"
    assert found[State.REFUTED] <= 1


@pytest.mark.parametrize("configuration", [Deduction.easy(), Deduction.medium()])
def test_errors_of_the_deduction_environment_are_refuted_and_harmless_steps_are_not(tools: ToolVerifier, configuration: Deduction) -> None:
    made: Counter[tuple[ErrorType, State]] = Counter()
    for seed, problem in enumerate(configuration.problems(5, 4)):
        gold = Trajectory.from_texts(problem, problem.reference_steps, finished=True)
        for kind in ErrorType:
            try:
                wrong = corrupt(gold, kind, seed=seed)
            except ValueError:
                continue
            made[kind, run_sync(tools.judge(wrong.trajectory.prefix(wrong.place + 1)))[-1].state] += 1
    for (kind, state), count in made.items():
        expected = State.SUPPORTED if kind in HARMLESS else State.ABSTAIN if kind is ErrorType.UNREADABLE else State.REFUTED
        assert state is expected, (kind, state, count)
    assert len(made) >= 7
