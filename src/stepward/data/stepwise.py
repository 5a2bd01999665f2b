"""The stepwise supervision format of trainers: {"prompt", "completions", "labels"}, one label a completion (step).

Labels are booleans (hard), numbers in [0, 1] (soft, kept as they are and never cut to an integer) or null (not labelled; other
software may not know it). The format does not say what a label means: *local* unless the reader is told otherwise or the row has an
extra column `semantics`, which the writer adds where it is needed. Steps carry no separators here; reading puts a blank line between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from stepward.core import Example, FormatError, InputError, Problem, Semantics, StepLabels, Trajectory, first_bad
from stepward.core.record import require, thaw
from stepward.data.hard import is_hard
from stepward.data.rows import OnError, PathLike, Row, read_rows, strings, without, write_rows
from stepward.data.set_aside import SetAside

NAME = "stepwise"
_OWN = ("prompt", "completions", "labels", "semantics", "id")
_REASON = "not labelled in the data"


def read(
    path: PathLike, *, semantics: Semantics = "local", source: str = "stepwise", on_error: OnError = "raise", set_aside: SetAside | None = None
) -> Iterator[Example]:
    """The examples of a stepwise file, one a row. `semantics` of rows that do not say; `source` names the data set."""
    return read_rows(path, lambda row: [from_row(row, semantics=semantics, source=source)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write stepwise rows; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row, *, semantics: Semantics = "local", source: str = "stepwise") -> Example:
    """One row; further columns are kept in metadata["stepwise"].

    Hard labels (all booleans, or all 0 and 1 without a fraction) give `hard` and the first error. Soft labels give `values` only: where
    good ends is the user's threshold, so `hard` is None and the first error unknown.

    Raises: FormatError naming the field.
    """
    steps = strings(row, "completions")
    given = require(row, "labels", list)
    if len(given) != len(steps):
        raise FormatError(f"{len(steps)} completions but {len(given)} labels", field="labels")
    meaning = require(row, "semantics", str) if "semantics" in row else semantics
    if meaning not in ("value", "local", "prefix"):
        raise FormatError(f"must be 'value', 'local' or 'prefix', got {meaning!r}", field="semantics")
    identity = {"id": require(row, "id", str)} if "id" in row else {}
    kept = without(row, *_OWN)
    metadata = {NAME: kept} | ({"label_type": "int"} if _are_integers(given) else {})
    trajectory = Trajectory.from_texts(Problem(require(row, "prompt", str)), steps)
    return Example(trajectory, _labels(given, meaning), source=source, metadata=metadata, **identity)


def _are_integers(labels: Sequence[Any]) -> bool:
    known = [label for label in labels if label is not None]
    return bool(known) and all(type(label) is int for label in known)


def _labels(given: Sequence[Any], semantics: Any) -> StepLabels:
    kinds = set()
    for index, label in enumerate(given):
        if label is not None and not isinstance(label, bool | int | float):
            raise FormatError(f"expected true, false, a number or null, got {label!r}", field=f"labels[{index}]")
        if label is not None:
            kinds.add(type(label))
            if not 0 <= label <= 1:
                raise FormatError(f"must lie in [0, 1], got {label!r}", field=f"labels[{index}]")
    if bool in kinds and len(kinds) > 1:
        raise FormatError("booleans and numbers are mixed", field="labels")
    if float not in kinds:
        hard = [None if label is None else bool(label) for label in given]
        return StepLabels.from_hard(hard, semantics=semantics, first_error=first_bad(hard), reason=_REASON)
    values = np.array([math.nan if label is None else label for label in given], dtype=np.float64)
    return StepLabels(values, semantics, reasons=tuple(_REASON if label is None else None for label in given))


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example; the inverse of `from_row` up to the step separators, which the format cannot carry.

    Labels are written as booleans when every labelled step is certain (value 1 and good, or 0 and bad), else as numbers.

    Raises: InputError when nothing is known about the steps.
    """
    labels, trajectory = example.labels, example.trajectory
    if labels is None:
        raise InputError(f"example {example.id!r} has no labels; the stepwise format needs them")
    certain = is_hard(labels)
    kind = float if not certain else int if example.metadata.get("label_type") == "int" else bool
    row: dict[str, Any] = thaw(example.metadata.get(NAME, {})) | {
        "prompt": trajectory.problem.prompt,
        "completions": [step.text for step in trajectory.steps],
        "labels": [None if math.isnan(value) else kind(value) for value in labels.values],
    }
    if example.id != trajectory.key:
        row["id"] = example.id
    if labels.semantics != "local":
        row["semantics"] = labels.semantics
    return row
