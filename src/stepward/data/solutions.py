"""Plain solutions: rows {problem, steps} or {problem, solution} without labels, as anyone would write them by hand to have them scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stepward.core import Example, FormatError, Problem, Trajectory
from stepward.core.record import require, thaw
from stepward.data.rows import OnError, PathLike, Row, read_rows, strings, without, write_rows
from stepward.data.segment import segment
from stepward.data.set_aside import SetAside

NAME = "solutions"
_LABELS = ("label", "labels", "first_error", "step_labels", "error_steps")
_OWN = ("id", "problem", "steps", "solution", "answer")


def read(path: PathLike, *, rule: str = "auto", on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Example]:
    """The examples of a file of plain solutions, one a row, unlabelled. `rule`: how a `solution` text is cut into steps (`segment`)."""
    return read_rows(path, lambda row: [from_row(row, rule=rule)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write problem, steps and the reference answer, without labels; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row, *, rule: str = "auto") -> Example:
    """One row: `problem`, then `steps` (strings) or `solution` (one text, cut by `rule`); `answer` and `id` may be there. Other fields go to metadata.

    Raises: FormatError naming the field; also where both or neither of `steps` and `solution` are given, and for a row with labels, which would be lost.
    """
    labelled = next((field for field in _LABELS if field in row), None)
    if labelled is not None:
        raise FormatError("plain solutions have no labels; name the format that this row is in, or take the field away", field=labelled)
    if ("steps" in row) == ("solution" in row):
        raise FormatError("a row has either 'steps', a list of strings, or 'solution', one text", field="steps")
    problem = Problem(require(row, "problem", str), _text_or_none(row, "answer"))
    if "steps" in row:
        trajectory = Trajectory.from_texts(problem, strings(row, "steps"))
    else:
        trajectory = Trajectory(problem, segment(require(row, "solution", str), rule), finished=True)
    kept = without(row, *_OWN)
    return Example(trajectory, id=_text_or_none(row, "id") or "", source=NAME, metadata={NAME: kept} if kept else {})


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example: what `from_row` reads. Labels, outcome and how steps were separated are left out."""
    trajectory = example.trajectory
    answer = {} if trajectory.problem.answer is None else {"answer": trajectory.problem.answer}
    kept: dict[str, Any] = thaw(example.metadata.get(NAME, {}))
    return {"id": example.id, "problem": trajectory.problem.prompt, "steps": [step.text for step in trajectory.steps]} | answer | kept


def _text_or_none(row: Row, field: str) -> str | None:
    value = row.get(field)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise FormatError(f"expected a string, got {type(value).__name__}", field=field)
