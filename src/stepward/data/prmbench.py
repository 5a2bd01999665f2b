"""PRMBench: solutions with injected errors of nine classes (PRMBench: A Fine-grained and Challenging Benchmark, 2025).

Row: {original_question, modified_question, original_process, modified_process, modified_steps, error_steps, reason, idx, question,
classification}; problem and steps are the modified ones, `error_steps` are **1-based**.
Labels are *local*, not *prefix*: the benchmark judges every step by itself, and a step after an error may be good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stepward.core import Example, FormatError, InputError, Problem, StepLabels, Trajectory, first_bad
from stepward.core.record import require, thaw
from stepward.data.rows import OnError, PathLike, Row, read_rows, strings, without, write_rows
from stepward.data.set_aside import SetAside

NAME, SOURCE = "prmbench", "PRMBench"
_OWN = ("idx", "modified_question", "modified_process", "error_steps", "classification")


def read(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Example]:
    """The examples of a PRMBench file, one a row."""
    return read_rows(path, lambda row: [from_row(row)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write PRMBench rows; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row) -> Example:
    """One row. The bad steps carry the classification as error type; the original process and the rest are kept in metadata["prmbench"].

    Raises: FormatError naming the field.
    """
    steps = strings(row, "modified_process")
    wrong = _error_steps(row, len(steps))
    kind = require(row, "classification", str)
    hard = [index + 1 not in wrong for index in range(len(steps))]
    labels = StepLabels.from_hard(
        hard,
        semantics="local",
        first_error=first_bad(hard),
        error_types=tuple(None if good else kind for good in hard),
        source={"labeler": "injected errors"},
    )
    trajectory = Trajectory.from_texts(Problem(require(row, "modified_question", str)), steps)
    kept = without(row, *_OWN) | {"classification": kind}
    if list(row["error_steps"]) != sorted(wrong):
        kept["error_steps"] = row["error_steps"]  # order and repetitions as written
    return Example(trajectory, labels, id=require(row, "idx", str), source=f"{SOURCE}/{kind}", metadata={NAME: kept})


def _error_steps(row: Row, n_steps: int) -> set[int]:
    numbers = require(row, "error_steps", list)
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= n_steps:
            raise FormatError(f"must be step numbers in 1..{n_steps} (1-based), got {number!r}", field="error_steps")
    return set(numbers)


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example; the inverse of `from_row`. Parts that the example does not have are the problem itself and empty lists.

    Raises: InputError for labels that are not local, or not hard on every step.
    """
    labels, prompt = example.labels, example.trajectory.problem.prompt
    kept: dict[str, Any] = thaw(example.metadata.get(NAME, {}))
    if labels is None or labels.semantics != "local" or None in labels.hard:
        raise InputError(f"example {example.id!r}: PRMBench needs a hard local label for every step; write 'normalised' or 'stepwise'")
    error_steps = [index + 1 for index, good in enumerate(labels.hard) if not good]
    as_written = kept.pop("error_steps", None)
    types = [kind for kind in labels.error_types if kind]
    return {
        "original_question": prompt,
        "modified_question": prompt,
        "original_process": [],
        "modified_process": [step.text for step in example.trajectory.steps],
        "modified_steps": [],
        "error_steps": as_written if as_written and sorted(set(as_written)) == error_steps else error_steps,
        "reason": "",
        "idx": example.id,
        "question": prompt,
        "classification": types[0] if types else "",
    } | kept
