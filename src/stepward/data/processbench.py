"""ProcessBench: the first wrong paragraph of a solution, by human experts (ProcessBench: Identifying Process Errors, 2024).

Row: {id, generator, problem, steps, final_answer_correct, label}; `label` is the 0-based index of the first wrong step, -1 for none.
Labels are *prefix* labels: False from the first error on. A right final answer with a wrong step occurs, by design.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stepward.core import Example, FormatError, InputError, Outcome, Problem, Trajectory
from stepward.core.record import require, thaw
from stepward.data.hard import from_first_error
from stepward.data.rows import OnError, PathLike, Row, read_rows, strings, without, write_rows
from stepward.data.set_aside import SetAside

NAME, SOURCE = "processbench", "ProcessBench"
_OWN = ("id", "problem", "steps", "final_answer_correct", "label")


def read(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Example]:
    """The examples of a ProcessBench file, one a row."""
    return read_rows(path, lambda row: [from_row(row)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write ProcessBench rows; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row) -> Example:
    """One row. `generator` and fields unknown here are kept in metadata["processbench"].

    Raises: FormatError naming the field.
    """
    steps = strings(row, "steps")
    try:
        labels = from_first_error(len(steps), require(row, "label", int), source={"labeler": "human"})
    except FormatError as error:
        raise FormatError(error.reason, field="label") from error
    outcome = Outcome(float(require(row, "final_answer_correct", bool)))
    trajectory = Trajectory.from_texts(Problem(require(row, "problem", str)), steps, outcome=outcome)
    return Example(trajectory, labels, id=require(row, "id", str), source=SOURCE, metadata={NAME: without(row, *_OWN)})


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example; the inverse of `from_row`.

    Raises: InputError when the first error or the final correctness is unknown.
    """
    trajectory, labels = example.trajectory, example.labels
    if labels is None or labels.first_error is None:
        raise InputError(f"example {example.id!r}: ProcessBench needs a known first error; leave out unlabelled examples or write 'normalised'")
    if trajectory.outcome is None or trajectory.outcome.correct is None:
        raise InputError(f"example {example.id!r}: ProcessBench needs final_answer_correct; grade the trajectory first or write 'normalised'")
    kept: dict[str, Any] = thaw(example.metadata.get(NAME, {}))
    return {
        "id": example.id,
        "generator": kept.get("generator", ""),
        "problem": trajectory.problem.prompt,
        "steps": [step.text for step in trajectory.steps],
        "final_answer_correct": trajectory.outcome.correct,
        "label": labels.first_error,
    } | kept
