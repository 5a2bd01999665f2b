"""Plain solutions, as a newcomer writes them down to have them scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepward.core import FormatError
from stepward.data import SetAside, detect, read_examples, write_examples, write_rows
from stepward.data.solutions import from_row

STEPS = {"problem": "What is 48 / 2 + 3?", "steps": ["48 / 2 = 24.", "24 + 3 = 27."]}
TEXT = {"problem": "What is 48 / 2 + 3?", "solution": "48 / 2 = 24.\n\n24 + 3 = 27.", "answer": 27, "id": "a"}


def test_rows_of_steps_and_of_whole_texts_are_read_without_being_told_the_format(tmp_path: Path) -> None:
    write_rows([STEPS, TEXT, {**STEPS, "answer": None, "model": "m"}], tmp_path / "rows.jsonl")
    assert detect(tmp_path / "rows.jsonl") == "solutions"
    first, second, third = read_examples(tmp_path / "rows.jsonl")
    assert [step.text for step in first.trajectory.steps] == [step.text for step in second.trajectory.steps] == STEPS["steps"]
    assert second.trajectory.text == TEXT["solution"]
    assert (first.labels, second.id, second.trajectory.problem.answer, third.metadata["solutions"]["model"]) == (None, "a", "27", "m")
    assert first.trajectory.finished
    assert second.trajectory.finished


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    examples = [from_row({**STEPS, "id": "x", "answer": "27", "model": "m"}), from_row(TEXT)]
    assert write_examples(examples, tmp_path / "out.jsonl", "solutions") == 2
    again = list(read_examples(tmp_path / "out.jsonl"))
    assert [one.id for one in again] == ["x", "a"]
    assert again[0] == examples[0]
    assert [step.text for step in again[1].trajectory.steps] == STEPS["steps"]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"solution": "x"}, "steps", "either 'steps', a list of strings, or 'solution', one text"),
        ({"steps": "one text"}, "steps", "expected"),
        ({"problem": 3}, "problem", "expected str"),
        ({"answer": ["27"]}, "answer", "expected a string, got list"),
    ],
)
def test_malformed_rows_name_the_field(change: dict[str, Any], field: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=reason) as raised:
        from_row({**STEPS, **change})
    assert raised.value.field == field
    write_rows([STEPS, {**STEPS, **change}], tmp_path / "rows.jsonl")
    aside = SetAside()
    assert len(list(read_examples(tmp_path / "rows.jsonl", on_error="set_aside", set_aside=aside))) == 1
    assert len(aside) == 1


def test_labels_are_not_read_past(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="plain solutions have no labels; name the format"):
        from_row({**STEPS, "label": 1})
    labelled = {**STEPS, "label": 1, "id": "x", "final_answer_correct": False}
    write_rows([STEPS, labelled], tmp_path / "rows.jsonl")
    with pytest.raises(FormatError, match="plain solutions have no labels"):
        list(read_examples(tmp_path / "rows.jsonl"))
    aside = SetAside()
    (example,) = read_examples(tmp_path / "rows.jsonl", on_error="set_aside", set_aside=aside)
    assert example.labels is not None, "one row with labels says what the file is"
    assert [row.line for row in aside] == [1]
