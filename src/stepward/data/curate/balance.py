"""Balance: as many examples of every kind, by leaving some of the frequent kinds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

from stepward.core import Example, InputError, content_hash
from stepward.core.labels import NO_ERROR
from stepward.data.curate.filtered import Filtered

By = Literal["first_error", "has_error", "outcome", "error_type", "last_step", "length"]


def balance(examples: Sequence[Example], by: By = "has_error", *, ratio: float = 1.0, seed: int = 0) -> Filtered:
    """At most `ratio` times as many examples of a kind as the rarest kind has.

    Kinds. has_error: whether there is a first error; first_error: its position; outcome: right or wrong final answer; error_type: type of the first
    error; last_step: the last step's label; length: number of steps. Examples of unknown kind (no labels, not graded) are left out and counted. Which
    stay is decided by a hash of seed and example, so it does not depend on the order of the examples.

    Raises: InputError for an unknown kind or a ratio below 1.
    """
    if by not in _KINDS:
        raise InputError(f"by must be one of {', '.join(_KINDS)}, got {by!r}")
    if not ratio >= 1.0:
        raise InputError(f"ratio must be at least 1, got {ratio!r}")
    kinds = [_KINDS[by](example) for example in examples]
    groups: dict[Hashable, list[int]] = {}
    for index, kind in enumerate(kinds):
        if kind is not None:
            groups.setdefault(kind, []).append(index)
    most = int(ratio * min(map(len, groups.values()), default=0))
    stay: set[int] = set()
    for group in groups.values():
        stay.update(sorted(group, key=lambda index: content_hash("balance", str(seed), examples[index].id))[:most])
    counts = Counter({"examples": len(examples), "dropped": len(examples) - len(stay), "of_unknown_kind": kinds.count(None), "kinds": len(groups)})
    return Filtered([examples[index] for index in sorted(stay)], "balance", {"by": by, "ratio": ratio, "seed": seed}, counts)


def _first_error(example: Example) -> int | None:
    return None if example.labels is None else example.labels.first_error


def _has_error(example: Example) -> bool | None:
    first = _first_error(example)
    return None if first is None else first != NO_ERROR


def _outcome(example: Example) -> bool | None:
    return None if example.trajectory.outcome is None else example.trajectory.outcome.correct


def _error_type(example: Example) -> str | None:
    first = _first_error(example)
    if example.labels is None or first is None:
        return None
    return "none" if first == NO_ERROR else example.labels.error_types[first]


def _last_step(example: Example) -> bool | None:
    return None if example.labels is None or not len(example.labels) else example.labels.hard[-1]


_KINDS: dict[str, Callable[[Example], Hashable | None]] = {
    "has_error": _has_error,
    "first_error": _first_error,
    "outcome": _outcome,
    "error_type": _error_type,
    "last_step": _last_step,
    "length": lambda example: len(example.trajectory),
}
