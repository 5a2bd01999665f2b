"""Filters of labelled data keep what they say, count the rest, and never change what a label says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stepward.cli.main import app
from stepward.core import Example, InputError, Outcome, Problem, StepLabels, Trajectory, Usage
from stepward.data import read_examples, read_records, write_records, write_rows
from stepward.data.curate import Overlap, balance, data_card, decontaminate, drop_duplicates, keep_confident


def example(prompt: str, hard: list[bool | None], *, confidence: list[float] | None = None, name: str = "", steps: list[str] | None = None) -> Example:
    first = next((index for index, good in enumerate(hard) if good is False), -1)
    texts = steps or [f"Step {index} of {prompt}" for index in range(len(hard))]
    labels = StepLabels.from_hard(hard, semantics="prefix", first_error=first, confidence=np.array(confidence or []), usage=Usage(policy_tokens=10))
    return Example(Trajectory.from_texts(Problem(prompt), texts, outcome=Outcome(float(first < 0))), labels, id=name)


def test_of_equal_solutions_the_best_labelled_stays() -> None:
    rows = [
        example("What is 1?", [True, None], steps=["One  is", "1"], name="a"),
        example("What  is 1?", [True, True], steps=["ONE is", "１"], confidence=[0.6, 0.6], name="b"),
        example("What is 1?", [True, False], steps=["one is", "1"], confidence=[0.9, 0.9], name="c"),
        example("What is 1?", [True, True], steps=["one is not", "1"], name="d"),
        example("What is 2?", [True, True], steps=["one is", "1"], name="e"),
    ]
    found = drop_duplicates(rows)
    assert [row.id for row in found.kept] == ["c", "d", "e"]
    assert found.counts == {"examples": 5, "dropped": 2, "groups_of_several": 1}


def test_unsure_labels_become_abstentions_and_the_first_error_follows() -> None:
    rows = [
        example("p", [True, False, False], confidence=[0.99, 0.95, 0.2], name="late"),
        example("q", [True, False, False], confidence=[0.99, 0.5, 0.95], name="early"),
        example("r", [True], confidence=[0.1], name="none"),
        example("s", [True], name="silent"),
    ]
    found = keep_confident(rows, 0.9)
    assert [row.id for row in found.kept] == ["late", "early", "silent"]
    late, early, silent = (row.labels for row in found.kept)
    assert late is not None
    assert early is not None
    assert (late.hard, late.first_error) == ((True, False, None), 1)
    assert (early.hard, early.first_error) == ((True, None, False), None), "an error may be where nothing is known now"
    assert (late.reasons[2] or "").startswith("abstained: confidence 0.2")
    assert silent is rows[3].labels
    assert [row.id for row in keep_confident(rows, 0.9, level="trajectory", unknown="drop").kept] == []
    assert [row.id for row in keep_confident(rows, 0.15, level="trajectory").kept] == ["late", "early", "silent"]
    with pytest.raises(InputError, match="least confidence"):
        keep_confident(rows, 2)


def test_balanced_kinds_are_equally_many_whatever_the_order() -> None:
    rows = [example(f"p{index}", [True, index % 4 == 0], name=str(index)) for index in range(100)]
    found = balance(rows, "has_error", ratio=2)
    errors = [row.labels.first_error for row in found.kept if row.labels is not None]
    assert (errors.count(-1), errors.count(1)) == (25, 50)
    assert {row.id for row in balance(rows[::-1], "has_error", ratio=2).kept} == {row.id for row in found.kept}
    assert {row.id for row in balance(rows, "has_error", ratio=2, seed=1).kept} != {row.id for row in found.kept}
    unknown = Example(rows[0].trajectory, None, id="unknown")
    assert balance([*rows, unknown]).counts["of_unknown_kind"] == 1
    with pytest.raises(InputError, match="by must be one of"):
        balance(rows, "colour")  # type: ignore[arg-type]


def test_shares_of_n_grams_are_those_of_the_definition() -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choice("abcdef") for _ in range(draw.randint(1, 30))) for _ in range(60)]
    overlap = Overlap(texts[:30], n=3)

    def grams(text: str) -> set[tuple[str, ...]]:
        found = text.split()
        return {tuple(found[start : start + 3]) for start in range(len(found) - 2)} if len(found) >= 3 else {("", *found)}

    for text in texts[30:]:
        shares = [len(grams(text) & grams(other)) / len(grams(text)) for other in texts[:30]]
        match = overlap.best(text)
        assert (match is None) == (max(shares) == 0)
        if match is not None:
            assert (match.share, match.index) == (max(shares), shares.index(max(shares)))


def test_an_evaluation_problem_in_other_clothes_is_found_and_a_new_one_is_not() -> None:
    asked = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did she sell altogether?"
    rows = [
        example(asked.upper().replace(",", " -"), [True], name="same"),
        example(f"Here is a problem. {asked}", [True], name="longer"),
        example("A train leaves at noon with 48 of her friends in April aboard and travels for three hours at a constant speed.", [True], name="new"),
        example("1 + 1?", [True], name="short"),
    ]
    assert [row.id for row in decontaminate(rows, [asked, "2 + 2?"]).kept] == ["new", "short"]
    assert decontaminate(rows, ["1+1"]).kept == rows[:3], "texts shorter than an n-gram match whole"
    with pytest.raises(InputError, match="threshold"):
        decontaminate(rows, [asked], threshold=0)


def test_the_card_counts_what_is_there() -> None:
    rows = [example(f"p{index}", [True, index % 2 == 0, None], confidence=[0.9, 0.8, float("nan")], name=str(index)) for index in range(10)]
    card = data_card({"train": rows[:8], "dev": rows[8:]}, title="Mine", filters=[drop_duplicates(rows)], made_by="stepward curate")
    assert "| train | 8 | 8 | 24 | 16 |" in card
    assert "| steps labelled good, bad, neither | 15, 5, 10 |" in card
    assert "| solutions without an error, with one, unknown | 5, 5, 0 |" in card
    assert "20 labels state it" in card
    assert "| policy tokens | 100 |" in card
    assert "| duplicates | {} | examples 10, dropped 0, groups_of_several 0 |" in card
    assert data_card({"train": rows[:8], "dev": rows[8:]}) != data_card({"train": rows[1:9], "dev": rows[8:]}), "the content hash says which data"


def test_the_verb_filters_splits_and_writes_a_card(tmp_path: Path) -> None:
    rows = [
        example(f"problem number {index} about {index * 7} apples in a basket of fruit", [True, index % 2 == 0], confidence=[0.9, 0.9]) for index in range(20)
    ]
    write_records([*rows, rows[0]], tmp_path / "labels.jsonl")
    write_rows([{"problem": rows[0].trajectory.problem.prompt, "steps": ["x"]}], tmp_path / "test.jsonl")
    arguments = ["curate", "--data", str(tmp_path / "labels.jsonl"), "--against", str(tmp_path / "test.jsonl"), "--min-confidence", "0.5"]
    arguments += ["--balance", "has_error", "--split", "train=0.8,dev=0.2", "--ngram", "5", "--overlap", "1", "--out", str(tmp_path / "set.jsonl.gz"), "--json"]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    summary = json.loads(ran.stdout)
    assert (summary["n_read"], summary["n_kept"]) == (21, 18)
    assert [row["filter"] for row in summary["filters"]] == ["confidence", "duplicates", "contamination", "balance"]
    train, dev = (list(read_examples(tmp_path / f"set.{part}.jsonl.gz")) for part in ("train", "dev"))
    assert (len(train), len(dev)) == (14, 4)
    assert {row.id for row in train + dev} < {row.id for row in rows}
    assert "# Step labels" in (tmp_path / "set.card.md").read_text()


def test_labels_with_confidence_bounds_and_evidence_are_read_back_from_both_stores(tmp_path: Path) -> None:
    labels = StepLabels(
        np.array([0.75, 0.0]), "value", (True, False), 1, confidence=np.array([0.9, np.nan]), bounds=((0.5, 1.0), None), evidence=((), ({"votes": [1, 0]},))
    )
    row = Example(Trajectory.from_texts(Problem("p"), ["a", "b"]), labels)
    for suffix in (".jsonl", ".parquet"):
        write_records([row], tmp_path / f"rows{suffix}")
        (again,) = read_records(tmp_path / f"rows{suffix}")
        assert again == row
        assert again.labels.bounds == ((0.5, 1.0), None)
        assert again.labels.evidence[1][0]["votes"] == (1, 0)
    old = {name: value for name, value in labels.to_record().items() if name not in ("confidence", "bounds", "evidence")}
    assert StepLabels.from_record(old).bounds == (None, None), "files from before these fields existed are read"
    with pytest.raises(InputError, match="bounds must be pairs"):
        StepLabels(np.array([0.5]), "value", bounds=((0.9, 0.1),))
    with pytest.raises(InputError, match="confidence must lie"):
        StepLabels(np.array([0.5]), "value", confidence=np.array([1.5]))
