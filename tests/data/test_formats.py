"""Every public format: what a row means, exact round trips, and refusals that name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.data import rows

from stepward.core import Example, FormatError, InputError, StepLabels, Trajectory
from stepward.core.record import thaw
from stepward.data import SetAside, math_shepherd, normalised, prm800k, prmbench, processbench, stepwise, write_rows

FORMATS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "processbench": (processbench, rows.PROCESSBENCH),
    "prmbench": (prmbench, rows.PRMBENCH),
    "prm800k": (prm800k, rows.PRM800K),
    "math_shepherd": (math_shepherd, rows.MATH_SHEPHERD),
    "stepwise": (stepwise, rows.STEPWISE),
    "normalised": (normalised, rows.NORMALISED),
}


@pytest.mark.parametrize("name", FORMATS)
def test_reading_writing_and_reading_again_is_the_identity(name: str, tmp_path: Path) -> None:
    module, official = FORMATS[name]
    write_rows(official, tmp_path / "official.jsonl")
    examples = list(module.read(tmp_path / "official.jsonl"))
    module.write(examples, tmp_path / "again.jsonl.gz")
    assert list(module.read(tmp_path / "again.jsonl.gz")) == examples
    kept = [row for row in official if not row.get("is_quality_control_question") and not row.get("is_initial_screening_question")]
    written = [json.loads(line) for line in _text(module, examples, tmp_path).splitlines()]
    assert written == kept
    assert [[type(label) for label in row.get("labels", ())] for row in written if name == "stepwise"] == [
        [type(label) for label in row["labels"]] for row in kept if name == "stepwise"
    ]


def _text(module: Any, examples: list[Example], folder: Path) -> str:
    module.write(examples, folder / "text.jsonl")
    return (folder / "text.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FORMATS)
def test_examples_survive_their_own_record(name: str, tmp_path: Path) -> None:
    module, official = FORMATS[name]
    write_rows(official, tmp_path / "official.jsonl")
    for example in module.read(tmp_path / "official.jsonl"):
        assert Example.from_record(json.loads(json.dumps(example.to_record()))) == example


def changed(row: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A deep copy with one (dotted) field changed; `...` removes it."""
    copy: Any = json.loads(json.dumps(row))
    inner = copy
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parents:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return dict(copy)


MALFORMED: list[tuple[str, int, str, Any, str, str]] = [
    ("processbench", 0, "steps", ..., "steps", "missing"),
    ("processbench", 0, "steps", "a", "steps", "expected list"),
    ("processbench", 0, "steps.1", 3, "steps[1]", "expected str, got int"),
    ("processbench", 0, "label", 2, "label", "must lie in -1..1 for 2 steps, got 2"),
    ("processbench", 0, "label", -2, "label", "got -2"),
    ("processbench", 0, "label", True, "label", "got bool"),
    ("processbench", 0, "label", "1", "label", "got str"),
    ("processbench", 0, "final_answer_correct", 1, "final_answer_correct", "expected bool"),
    ("processbench", 0, "id", 7, "id", "expected str"),
    ("prmbench", 0, "error_steps", [0], "error_steps", "1-based"),
    ("prmbench", 0, "error_steps", [5], "error_steps", "1..4"),
    ("prmbench", 0, "error_steps", ["2"], "error_steps", "got '2'"),
    ("prmbench", 0, "modified_process", ..., "modified_process", "missing"),
    ("prmbench", 0, "classification", None, "classification", "expected str"),
    ("prm800k", 0, "label.steps.0.completions.0.rating", 2, "label.steps[0].completions[0].rating", "must be -1, 0, 1 or null, got 2"),
    ("prm800k", 0, "label.steps.0.completions.0.text", ..., "label.steps[0].completions[0].text", "missing"),
    ("prm800k", 0, "label.steps.1.chosen_completion", 3, "label.steps[1].chosen_completion", "index into 3 completions, got 3"),
    ("prm800k", 0, "label.steps.1", "x", "label.steps[1]", "expected an object"),
    ("prm800k", 0, "label.steps", ..., "label.steps", "missing"),
    ("prm800k", 0, "question.problem", ..., "question.problem", "missing"),
    ("prm800k", 0, "is_quality_control_question", ..., "is_quality_control_question", "missing"),
    ("math_shepherd", 0, "label", "other", "label", "step 1: must equal input"),
    ("math_shepherd", 0, "input", "no tags", "input", "has no step tag"),
    ("math_shepherd", 0, "input", "p Step 1: a ки\nStep 2: b", "input", "text after the last step tag: 'Step 2: b'"),
    ("math_shepherd", 0, "input", "p First: a ки", "input", "has no 'Step 1:'"),
    ("math_shepherd", 0, "task", 3, "task", "expected str"),
    ("stepwise", 0, "labels", [True], "labels", "2 completions but 1 labels"),
    ("stepwise", 0, "labels", [True, 0.5], "labels", "mixed"),
    ("stepwise", 0, "labels", [True, "no"], "labels[1]", "got 'no'"),
    ("stepwise", 1, "labels", [0.5, 1.5, 1.0], "labels[1]", "[0, 1], got 1.5"),
    ("stepwise", 0, "prompt", ["p"], "prompt", "expected str"),
    ("stepwise", 4, "semantics", "truth", "semantics", "got 'truth'"),
    ("normalised", 0, "first_error", 4, "first_error", "must lie in -1..3"),
    ("normalised", 0, "first_error", ..., "first_error", "missing"),
    ("normalised", 0, "first_error", 1.0, "first_error", "got float"),
    ("normalised", 3, "step_labels", [1], "step_labels", "4 steps but 1 labels"),
    ("normalised", 3, "step_labels", [1, 1, 2, 1], "step_labels[2]", "got 2"),
    ("normalised", 3, "step_labels", [1, 1, True, 1], "step_labels[2]", "got True"),
    ("normalised", 3, "step_labels", [1, 1, 1, 0], "step_labels", "step 2 is the first error but labelled 1"),
    ("normalised", 3, "step_labels", [1, -1, -1, 0], "step_labels", "before the first error (2) is labelled bad"),
    ("normalised", 3, "step_labels", [1, 0, 0, 0], "step_labels", "before the first error (2) is labelled bad"),
    ("normalised", 1, "step_labels", [1, -1, 1, 1], "step_labels", "before the first error (-1) is labelled bad"),
    ("normalised", 0, "final_correct", 1, "final_correct", "expected bool or null"),
]


@pytest.mark.parametrize(("name", "index", "field", "value", "place", "reason"), MALFORMED)
def test_a_malformed_row_is_refused_or_set_aside(name: str, index: int, field: str, value: Any, place: str, reason: str, tmp_path: Path) -> None:
    module, official = FORMATS[name]
    file = tmp_path / "rows.jsonl"
    write_rows([official[0], changed(official[index], field, value), official[1]], file)
    with pytest.raises(FormatError) as caught:
        list(module.read(file))
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(file), 2, place)
    assert reason in caught.value.reason

    aside = SetAside()
    survivors = list(module.read(file, on_error="set_aside", set_aside=aside))
    write_rows(official[:2], tmp_path / "good.jsonl")
    assert survivors == list(module.read(tmp_path / "good.jsonl"))
    assert [(row.line, row.field) for row in aside] == [(2, place)]


def labels_of(example: Example) -> StepLabels:
    assert example.labels is not None
    return example.labels


def test_processbench_labels_are_prefix_labels() -> None:
    wrong, right, late = (processbench.from_row(row) for row in rows.PROCESSBENCH)
    assert labels_of(wrong).hard == (False, False)
    assert labels_of(right).hard == (True, True)
    assert labels_of(late).hard == (True, True, False)
    assert [labels_of(example).first_error for example in (wrong, right, late)] == [0, -1, 2]
    assert labels_of(late).semantics == "prefix"
    assert late.trajectory.outcome is not None
    assert late.trajectory.outcome.correct, "a right answer with a wrong step occurs by design"
    assert wrong.metadata["processbench"]["generator"] == "Model-A"


def test_prmbench_labels_are_local_and_error_steps_count_from_one() -> None:
    example, clean = (prmbench.from_row(row) for row in rows.PRMBENCH)
    labels = labels_of(example)
    assert labels.hard == (True, False, False, True)
    assert labels.error_types == (None, "counterfactual", "counterfactual", None)
    assert (labels.first_error, labels.semantics) == (1, "local")
    assert example.trajectory.problem.prompt == "What is 2 + 3, if 3 is 4?"
    assert labels_of(clean).first_error == -1


def texts(example: Example) -> list[str]:
    return [step.text for step in example.trajectory.steps]


def test_prm800k_gives_the_chosen_path_and_every_other_rated_candidate() -> None:
    examples = prm800k.from_row(rows.PRM800K[0])
    assert [texts(example) for example in examples] == [
        ["First.", "Neutral.", "Mine.", "So four.\n\n# Answer\n\n4"],
        ["First.", "Wrong."],
        ["First.", "Neutral.", "Bad 1."],
        ["First.", "Neutral.", "Bad 2."],
    ]
    chosen, wrong, bad, _ = (labels_of(example) for example in examples)
    assert chosen.hard == (True, True, None, True)
    assert chosen.reasons == (None, None, "written by the labeler", None)
    assert (chosen.first_error, wrong.first_error, bad.first_error) == (-1, 1, 2)
    assert {labels.semantics for labels in (chosen, wrong, bad)} == {"local"}
    assert [example.trajectory.finished for example in examples] == [True, False, False, False]
    assert examples[0].trajectory.problem.answer == "4"
    assert len({example.id for example in examples}) == 4
    assert [texts(example) for example in prm800k.from_row(rows.PRM800K[0], paths="chosen")] == [texts(examples[0])]


def test_prm800k_path_ends_with_the_solutions_own_step_where_nothing_was_chosen() -> None:
    main, other = prm800k.from_row(rows.PRM800K[1])
    assert texts(main) == ["Right.", "Wrong."]
    assert labels_of(main).hard == (True, False)
    assert texts(other) == ["Right.", "Better."]
    assert not main.trajectory.finished


def test_prm800k_leaves_out_quality_control_and_screening() -> None:
    assert prm800k.from_row(rows.PRM800K[2]) == prm800k.from_row(rows.PRM800K[3]) == []


def test_prm800k_steps_after_the_first_minus_one_are_unlabelled() -> None:
    labels = labels_of(prm800k.from_row(rows.PRM800K[4])[0])
    assert labels.hard == (False, None)
    assert labels.reasons == (None, "after the first error")


def test_prm800k_neutral_changes_only_steps_rated_zero() -> None:
    by = {neutral: labels_of(prm800k.from_row(rows.PRM800K[0], neutral=neutral)[0]) for neutral in ("positive", "mask", "negative")}  # type: ignore[arg-type]
    assert [labels.hard for labels in by.values()] == [(True, True, None, True), (True, None, None, True), (True, False, None, True)]
    assert by["mask"].reasons[1] == "rated neutral"
    assert [labels.first_error for labels in by.values()] == [-1, -1, 1]
    with pytest.raises(InputError, match="neutral must be 'positive', 'mask' or 'negative', got 'drop'"):
        prm800k.from_row(rows.PRM800K[0], neutral="drop")  # type: ignore[arg-type]


def test_prm800k_refuses_to_write_what_would_be_lost() -> None:
    main, *others = prm800k.from_row(rows.PRM800K[0])
    with pytest.raises(InputError, match="must be written just before it"):
        list(prm800k._rows(others))
    with pytest.raises(InputError, match="was changed since it was read"):
        prm800k.to_row(replace(main, labels=StepLabels.from_hard([True] * 4, semantics="local")))


def test_prm800k_holds_foreign_examples() -> None:
    labels = StepLabels.from_hard([True, False], semantics="local", first_error=1)
    row = prm800k.to_row(Example(Trajectory.from_texts("p", ["a", "b"]), labels))
    (again,) = prm800k.from_row(row)
    assert labels_of(again).hard == (True, False)
    assert row["label"]["finish_reason"] == "found_error"


def test_math_shepherd_tags_are_not_part_of_the_text() -> None:
    example = math_shepherd.from_row(rows.MATH_SHEPHERD[0])
    assert example.trajectory.problem.prompt == "Ducks lay 16 eggs. How many in 2 days?"
    assert example.trajectory.text == "Step 1: 16 eggs a day.\nStep 2: 16 * 2 = 33.\nStep 3: The answer is: 33"
    labels = labels_of(example)
    assert (labels.hard, labels.first_error, labels.semantics) == ((True, False, False), 1, "value")
    assert example.source == "Math-Shepherd/GSM8K"
    assert texts(math_shepherd.from_row(rows.MATH_SHEPHERD[1])) == ["Step 1: a", "Step 2: b\nc"]


def test_math_shepherd_numbers_foreign_steps_and_refuses_the_tag_in_text() -> None:
    labels = StepLabels.from_hard([True, False], semantics="value")
    row = math_shepherd.to_row(Example(Trajectory.from_texts("p", ["a", "b"]), labels))
    assert row["input"] == "p Step 1: a ки\nStep 2: b ки"
    assert row["label"] == "p Step 1: a +\nStep 2: b -"
    with pytest.raises(InputError, match="contains the step tag"):
        math_shepherd.to_row(Example(Trajectory.from_texts("p", ["a ки", "b"]), labels))


def test_soft_labels_stay_soft() -> None:
    example = stepwise.from_row(rows.STEPWISE[1])
    labels = labels_of(example)
    assert labels.values.tolist() == [0.9, 0.25, 1.0]
    assert labels.hard == (None, None, None)
    assert labels.first_error is None
    counted = StepLabels(labels.values, "value", (True, True, True))
    assert stepwise.to_row(replace(example, labels=counted))["labels"] == [0.9, 0.25, 1.0], "hard labels beside soft values do not round them"


def test_stepwise_labels_mean_what_the_reader_says_unless_the_row_does() -> None:
    assert labels_of(stepwise.from_row(rows.STEPWISE[0])).semantics == "local"
    example = stepwise.from_row(rows.STEPWISE[0], semantics="value")
    assert labels_of(example).semantics == "value"
    assert stepwise.to_row(example)["semantics"] == "value", "written down, because the reader could not know"
    assert labels_of(stepwise.from_row(rows.STEPWISE[4])).semantics == "value"
    masked = labels_of(stepwise.from_row(rows.STEPWISE[2]))
    assert masked.hard == (True, None, False)
    assert math.isnan(masked.values[1])
    assert masked.first_error is None


def test_normalised_meaning_of_zero_is_decided_by_the_row() -> None:
    hard = [None if example.labels is None else example.labels.hard for example in map(normalised.from_row, rows.NORMALISED)]
    assert hard[0] == (True, True, False, False)
    assert hard[2] is None
    assert hard[3] == (True, True, False, True), "beside a first error labelled 0, zero is bad"
    assert hard[4] == (True, True, False, None), "beside a first error labelled -1, zero is neutral"
    assert hard[5] == (True, True, None, True), "without an error, zero is neutral"


def test_normalised_neutral_labels() -> None:
    row = rows.NORMALISED[4]
    by = [labels_of(normalised.from_row(row, neutral=neutral)) for neutral in ("positive", "mask", "negative")]  # type: ignore[arg-type]
    assert [labels.hard[1] for labels in by] == [True, None, False]
    assert [labels.first_error for labels in by] == [2, 2, 1]
    for neutral in ("mask", "negative"):
        assert normalised.to_row(normalised.from_row(row, neutral=neutral)) == row  # type: ignore[arg-type]


def test_normalised_semantics() -> None:
    found = [normalised.from_row(row).labels for row in rows.NORMALISED]
    assert [None if labels is None else labels.semantics for labels in found] == [
        "prefix", "prefix", None, "local", "local", "local", "local", "prefix", "value",
    ]  # fmt: skip
    assert not normalised.from_row(rows.NORMALISED[4]).trajectory.finished


def test_relabelled_examples_are_written_with_their_new_labels() -> None:
    example = normalised.from_row(rows.NORMALISED[3])
    row = normalised.to_row(replace(example, labels=StepLabels.from_hard([True, False, True, None], semantics="local", first_error=1)))
    assert (row["first_error"], row["step_labels"]) == (1, [1, -1, 1, None])
    bench = prmbench.from_row(rows.PRMBENCH[0])
    fixed = StepLabels.from_hard([True] * 4, semantics="local", first_error=-1)
    assert prmbench.to_row(replace(bench, labels=fixed))["error_steps"] == []


SOFT = StepLabels([0.5, 0.25], "value")  # type: ignore[arg-type]
PREFIX = StepLabels.from_hard([True, False], semantics="prefix", first_error=1)


@pytest.mark.parametrize(
    ("write", "labels", "message"),
    [
        (processbench.to_row, None, "known first error"),
        (processbench.to_row, PREFIX, "needs final_answer_correct"),
        (prmbench.to_row, PREFIX, "hard local label"),
        (prm800k.to_row, PREFIX, "hard local labels"),
        (prm800k.to_row, SOFT, "hard local labels"),
        (math_shepherd.to_row, SOFT, "hard value label"),
        (normalised.to_row, SOFT, "soft labels"),
        (stepwise.to_row, None, "has no labels"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(write: Callable[[Example], Any], labels: StepLabels | None, message: str) -> None:
    example = Example(Trajectory.from_texts("p", ["a", "b"]), labels, id="e-1")
    with pytest.raises(InputError, match=f"example 'e-1'.*{message}"):
        write(example)


def test_examples_move_between_formats() -> None:
    example = processbench.from_row(rows.PROCESSBENCH[2])
    moved = normalised.from_row(normalised.to_row(example))
    assert processbench.to_row(moved) | {"generator": "Model-B"} == rows.PROCESSBENCH[2]
    assert thaw(moved.metadata["normalised"]["meta"]) == {"processbench": {"generator": "Model-B"}}
    value = normalised.from_row(normalised.to_row(math_shepherd.from_row(rows.MATH_SHEPHERD[0])))
    assert labels_of(value).semantics == "value"
