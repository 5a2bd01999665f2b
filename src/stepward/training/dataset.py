"""StepDataset: labelled trajectories as token rows with a target for every step that is supervised. Batching is in `collation`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stepward.core import Example, InputError, StepLabels, content_hash
from stepward.core.aggregation import Floats
from stepward.rewards.encoding import Encoded, Encoder

Target = Literal["values", "hard"]
Keep = Literal["all", "to_first_error"]
Overflow = Literal["error", "unscored"]


@dataclass(frozen=True, eq=False)
class Row:
    """One trajectory in L tokens with N supervised steps; the ids end where the last of them is read."""

    ids: NDArray[np.int64]  # [L]
    read: NDArray[np.int64]  # [N]
    target: Floats  # [N], in [0, 1]
    n_steps: int  # of the trajectory
    steps: NDArray[np.int64]  # [N], the steps' indices
    first_error: int | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class DatasetCounts:
    """What became of the examples and their steps: n_steps = n_supervised + n_unlabelled + n_censored + n_overflow."""

    n_examples: int = 0
    n_rows: int = 0  # examples with at least one supervised step
    n_steps: int = 0
    n_supervised: int = 0
    n_unlabelled: int = 0  # no label
    n_censored: int = 0  # labelled, but after the first error
    n_overflow: int = 0  # labelled, but beyond the context
    n_tokens: int = 0

    def to_record(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class StepDataset:
    """Rows in the order of their examples, what the labels mean, and what was left out."""

    rows: tuple[Row, ...]
    counts: DatasetCounts
    semantics: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.array([len(row) for row in self.rows], dtype=np.int64)

    @classmethod
    def build(
        cls, examples: Iterable[Example], encoder: Encoder, *, target: Target = "values", keep: Keep = "all", on_overflow: Overflow = "error"
    ) -> StepDataset:
        """Encode examples.

        `target` "values": the soft labels as they are; "hard": 1 and 0 from `hard`. `keep` "to_first_error": steps after the first error are not
        supervised. A labelled step that does not fit the context is an error, or with `on_overflow` "unscored" left out and counted.

        Raises: InputError for such a step, for labels of mixed semantics, and when no step is left to learn from.
        """
        listed = list(examples)
        semantics = sorted({example.labels.semantics for example in listed if example.labels is not None})
        if len(semantics) > 1:
            raise InputError(f"examples mix labels that mean different things ({', '.join(semantics)}); train on one kind at a time")
        encoded = encoder.many([example.trajectory for example in listed])
        rows: list[Row] = []
        totals = dict.fromkeys((*DatasetCounts.__dataclass_fields__,), 0)
        for example, tokens in zip(listed, encoded, strict=True):
            row, counts = _row(example, tokens, target, keep, on_overflow)
            for name, count in counts.items():
                totals[name] += count
            if row is not None:
                rows.append(row)
                totals["n_tokens"] += len(row)
        totals["n_examples"], totals["n_rows"] = len(listed), len(rows)
        if not rows:
            raise InputError(f"none of {len(listed)} examples has a step with a {target!r} label to train on")
        return cls(tuple(rows), DatasetCounts(**totals), semantics[0], _fingerprint(rows))


def targets_of(labels: StepLabels | None, n_steps: int, target: Target) -> Floats:
    """One target a step, [S]; NaN where there is none. Soft labels stay soft.

    Raises: InputError for an unknown `target`.
    """
    if target not in ("values", "hard"):
        raise InputError(f"target must be 'values' or 'hard', got {target!r}")
    if labels is None:
        return np.full(n_steps, np.nan)
    if target == "values":
        return np.array(labels.values)
    return np.array([math.nan if good is None else float(good) for good in labels.hard])


def censor(labels: StepLabels | None, n_steps: int) -> NDArray[np.bool_]:
    """True up to and including the first error, [S]: the recorded one, or the first step that is labelled bad; all True when there is none."""
    first = None if labels is None else labels.first_error
    if labels is not None and first is None:
        first = next((index for index, good in enumerate(labels.hard) if good is False), None)
    last = n_steps if first is None or first < 0 else first
    return np.arange(n_steps) <= last


def _row(example: Example, tokens: Encoded, target: Target, keep: Keep, on_overflow: Overflow) -> tuple[Row | None, dict[str, int]]:
    if keep not in ("all", "to_first_error"):
        raise InputError(f"keep must be 'all' or 'to_first_error', got {keep!r}")
    if on_overflow not in ("error", "unscored"):
        raise InputError(f"on_overflow must be 'error' or 'unscored', got {on_overflow!r}")
    n_steps = len(example.trajectory)
    values = targets_of(example.labels, n_steps, target)
    labelled = ~np.isnan(values)
    wanted = labelled & (censor(example.labels, n_steps) if keep == "to_first_error" else True)
    lost = wanted & ~tokens.kept
    if lost.any() and on_overflow == "error":
        raise InputError(
            f"example {example.id!r}: labelled step {int(np.flatnonzero(lost)[0])} does not fit the context of {tokens.max_tokens} tokens; "
            "raise max_tokens, or set on_overflow='unscored' to train without such steps"
        )
    steps = np.flatnonzero(wanted & tokens.kept)
    counts = {
        "n_steps": n_steps,
        "n_supervised": len(steps),
        "n_unlabelled": int((~labelled).sum()),
        "n_censored": int((labelled & ~wanted).sum()),
        "n_overflow": int(lost.sum()),
    }
    if not len(steps):
        return None, counts
    read = tokens.read[steps]
    first_error = None if example.labels is None else example.labels.first_error
    return Row(tokens.ids[: read[-1] + 1], read, values[steps], n_steps, steps, first_error), counts


def _fingerprint(rows: Sequence[Row]) -> str:
    return content_hash(*(part.tobytes() for row in rows for part in (row.ids, row.read, row.target)))


def describe(dataset: StepDataset) -> dict[str, Any]:
    """For a record of the run: hash, semantics and counts."""
    return {"hash": dataset.fingerprint, "semantics": dataset.semantics, **dataset.counts.to_record()}
