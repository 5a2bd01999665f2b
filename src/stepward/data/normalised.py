"""The normalised schema: one row for every public set of step labels, whatever its own format was.

Row: {id, source, problem, steps, first_error, step_labels, label_kind, answer, final_correct, meta}; `first_error` is 0-based, -1 for
none, null for unknown; `step_labels` has 1, 0, -1 or null a step, or is null.
With step_labels the labels are *local*; with first_error alone they are *prefix* (False from the first error on); with neither, none.
An extra field `semantics` overrides this; the writer adds it where it is needed.
What 0 means depends on the source and is decided row by row: beside a first error that is labelled 0, zeros are bad (sets that use 1 and
0); otherwise they are neutral (sets that use 1, 0 and -1) and treated as the parameter `neutral` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from stepward.core import Example, FormatError, InputError, Outcome, Problem, StepLabels, Trajectory
from stepward.core.labels import NO_ERROR
from stepward.core.record import require, thaw
from stepward.data.hard import Neutral, check_neutral, from_first_error, hard_rating, is_hard
from stepward.data.rows import OnError, PathLike, Row, read_rows, strings, without, write_rows
from stepward.data.set_aside import SetAside

NAME = "normalised"
_OWN = ("id", "source", "problem", "steps", "first_error", "final_correct", "semantics")
_REASON = "not labelled in the data"


def read(path: PathLike, *, neutral: Neutral = "positive", on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Example]:
    """The examples of a file in the normalised schema, one a row."""
    return read_rows(path, lambda row: [from_row(row, neutral=neutral)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write rows in the normalised schema; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row, *, neutral: Neutral = "positive") -> Example:
    """One row. Original step labels, label_kind and meta are kept in metadata["normalised"], as is an answer that is no string.

    Raises: FormatError naming the field, also where first_error and step_labels contradict each other.
    """
    check_neutral(neutral)
    steps = strings(row, "steps")
    first_error = require(row, "first_error", (int, type(None)))
    if first_error is not None and not NO_ERROR <= first_error < len(steps):
        raise FormatError(f"must lie in -1..{len(steps) - 1} for {len(steps)} steps, got {first_error}", field="first_error")
    ratings = require(row, "step_labels", (list, type(None)))
    answer = row.get("answer")
    correct = require(row, "final_correct", (bool, type(None)))
    meta = row.get("meta")
    trajectory = Trajectory.from_texts(
        Problem(require(row, "problem", str), answer if isinstance(answer, str) else None),
        steps,
        finished=not (isinstance(meta, dict) and meta.get("is_solution") is False),  # PRM800K's paths to a candidate are open
        outcome=None if correct is None else Outcome(float(correct)),
    )
    kept = without(row, *_OWN, *(("answer",) if isinstance(answer, str) else ()))
    labels = _labels(ratings, first_error, len(steps), neutral, row)
    if labels is not None and labels.first_error != first_error:
        kept["first_error"] = first_error
    return Example(trajectory, labels, id=require(row, "id", str), source=require(row, "source", str), metadata={NAME: kept})


def _labels(ratings: Sequence[Any] | None, first_error: int | None, n_steps: int, neutral: Neutral, row: Row) -> StepLabels | None:
    semantics: Any = row.get("semantics", "prefix" if ratings is None else "local")
    if semantics not in ("value", "local", "prefix"):
        raise FormatError(f"must be 'value', 'local' or 'prefix', got {semantics!r}", field="semantics")
    source = {"label_kind": row["label_kind"]} if row.get("label_kind") else {}
    if ratings is None:
        return None if first_error is None else from_first_error(n_steps, first_error, source=source)
    hard = _hard(ratings, first_error, n_steps, neutral)
    if first_error is not None and False in hard and (first_error == NO_ERROR or hard.index(False) < first_error):
        first_error = hard.index(False)  # a neutral step that counts as bad
    reasons = tuple("rated neutral" if rating == 0 else _REASON for rating in ratings)
    values = [float("nan") if good is None else float(good) for good in hard]
    return StepLabels(
        values=values,  # type: ignore[arg-type]  # becomes an array
        semantics=semantics,
        hard=hard,
        first_error=first_error,
        reasons=tuple(reason if good is None else None for reason, good in zip(reasons, hard, strict=True)),
        source=source | ({"neutral": neutral} if 0 in ratings else {}),
    )


def _hard(ratings: Sequence[Any], first_error: int | None, n_steps: int, neutral: Neutral) -> tuple[bool | None, ...]:
    if len(ratings) != n_steps:
        raise FormatError(f"{n_steps} steps but {len(ratings)} labels", field="step_labels")
    for index, rating in enumerate(ratings):
        if rating is not None and (type(rating) is not int or rating not in (-1, 0, 1)):
            raise FormatError(f"must be 1, 0, -1 or null, got {rating!r}", field=f"step_labels[{index}]")
    at_error = ratings[first_error] if first_error is not None and first_error != NO_ERROR else None
    if at_error == 1:
        raise FormatError(f"step {first_error} is the first error but labelled 1", field="step_labels")
    zero: Neutral = "negative" if at_error == 0 else neutral
    before = ratings[: n_steps if first_error == NO_ERROR else first_error or 0]
    if -1 in before or (at_error == 0 and 0 in before):
        raise FormatError(f"a step before the first error ({first_error}) is labelled bad", field="step_labels")
    return tuple(hard_rating(rating, zero) for rating in ratings)


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example; the inverse of `from_row`. Bad steps become -1, unlabelled ones null; metadata of other formats goes into meta.

    Raises: InputError for soft labels, which this schema cannot hold.
    """
    labels, trajectory = example.labels, example.trajectory
    others = thaw(example.metadata)
    kept = others.pop(NAME, {})
    first_error, ratings = _written(example.id, labels, kept.pop("first_error", None), kept.pop("step_labels", None))
    row: dict[str, Any] = {
        "id": example.id,
        "source": example.source,
        "problem": trajectory.problem.prompt,
        "steps": [step.text for step in trajectory.steps],
        "first_error": first_error,
        "step_labels": ratings,
        "label_kind": "" if labels is None else str(labels.source.get("labeler", "")),
        "answer": trajectory.problem.answer,
        "final_correct": None if trajectory.outcome is None else trajectory.outcome.correct,
        "meta": {},
    } | kept
    if others:
        row["meta"] = {**(row["meta"] or {}), **others}
    if labels is not None and labels.semantics != ("prefix" if ratings is None else "local"):
        row["semantics"] = labels.semantics
    return row


def _written(identity: str, labels: StepLabels | None, first_error: int | None, ratings: list[int | None] | None) -> tuple[int | None, list[int | None] | None]:
    """first_error and step_labels: as they were read if they still say the same, else made from the hard labels."""
    if labels is None:
        return None, None
    if not is_hard(labels):
        raise InputError(f"example {identity!r} has soft labels, which the normalised schema cannot hold; write 'stepwise' or a record store")
    if ratings is None and labels.semantics == "prefix" and labels.first_error is not None:
        implied = from_first_error(len(labels), labels.first_error)
        if implied.hard == labels.hard:
            return labels.first_error, None
    if ratings is not None and len(ratings) == len(labels):
        original = labels.first_error if first_error is None else first_error
        with suppress(FormatError):
            if _hard(ratings, original, len(labels), labels.source.get("neutral", "positive")) == labels.hard:
                return original, ratings
    return labels.first_error, [None if good is None else 1 if good else -1 for good in labels.hard]
