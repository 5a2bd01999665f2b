"""StepLabels: what a labeler says about every step, and in which of three senses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stepward.core.aggregation import Floats
from stepward.core.errors import CountMismatch, InputError
from stepward.core.outcome import Outcome
from stepward.core.record import FrozenDict, canonical_json, check_header, freeze, header, nullable, record_kind, require, thaw
from stepward.core.scores import check_reasons, frozen_floats
from stepward.core.usage import NO_USAGE, Usage

Semantics = Literal["value", "local", "prefix"]
NO_ERROR = -1  # first_error of a solution without an error; None means unknown


@dataclass(frozen=True)
class Count:
    """`successes` of `rollouts` completions that ended right; `unscored` more could not be graded and count as neither."""

    successes: int
    rollouts: int
    unscored: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.rollouts or self.unscored < 0:
            raise InputError(f"Count needs 0 <= successes <= rollouts and unscored >= 0, got {self}")

    @property
    def value(self) -> float:
        """successes / rollouts; NaN without rollouts."""
        return self.successes / self.rollouts if self.rollouts else math.nan

    def interval(self, z: float = 1.959963984540054) -> tuple[float, float]:
        """Wilson score interval of the success probability; z = 1.96 gives 95 % (Wilson, Probable inference, 1927)."""
        n = self.rollouts
        if n == 0:
            return 0.0, 1.0
        p, z2 = self.value, z * z
        centre, half = p + z2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


@record_kind("step_labels")
@dataclass(frozen=True, eq=False)
class StepLabels:
    """One label a step.

    `values`: soft labels in [0, 1], shape [S]; NaN exactly where `reasons` says why a step is unlabelled.
    `hard`: True (good), False (bad) or None (not labelled) a step.
    `semantics`: what a label means. *value*: chance of a correct finish from here under a named completing policy; *local*: the step
    follows from what it states; *prefix*: no error so far. The three are never mixed in one object.
    `first_error`: index of the first wrong step, -1 for none, None for unknown. `counts`: the rollouts behind each value, None where a
    step was not rolled out (its outcome was graded instead).
    `confidence`: the labeler's own chance, in [0, 1], that `hard` is right, shape [S]; NaN where it does not say. `bounds`: an interval for each value at
    the level that `source` names, None where there is none. `evidence`: for each step what the label rests on (verdicts of tools, votes of judges,
    likelihoods), a tuple of JSON-like mappings.
    """

    values: Floats
    semantics: Semantics
    hard: tuple[bool | None, ...] = ()
    first_error: int | None = None
    reasons: tuple[str | None, ...] = ()
    error_types: tuple[str | None, ...] = ()
    rationales: tuple[str | None, ...] = ()
    counts: tuple[Count | None, ...] = ()
    confidence: Floats = field(default_factory=lambda: np.array([], dtype=np.float64))
    bounds: tuple[tuple[float, float] | None, ...] = ()
    evidence: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    source: Mapping[str, Any] = field(default_factory=FrozenDict)
    usage: Usage = NO_USAGE

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen_floats(self.values))
        n_steps = len(self.values)
        object.__setattr__(self, "reasons", check_reasons(self.values, self.reasons, "StepLabels"))
        for name, empty in (("hard", None), ("error_types", None), ("rationales", None), ("counts", None), ("bounds", None), ("evidence", ())):
            value = tuple(getattr(self, name)) or (empty,) * n_steps
            if len(value) != n_steps:
                raise CountMismatch(f"StepLabels: {n_steps} values but {len(value)} {name}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "evidence", tuple(tuple(map(freeze, items)) for items in self.evidence))
        confidence = frozen_floats(self.confidence if len(self.confidence) else np.full(n_steps, np.nan))
        if len(confidence) != n_steps:
            raise CountMismatch(f"StepLabels: {n_steps} values but {len(confidence)} confidence")
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "source", freeze(self.source))
        if self.semantics not in ("value", "local", "prefix"):
            raise InputError(f"StepLabels.semantics must be 'value', 'local' or 'prefix', got {self.semantics!r}")
        if bool(((self.values < 0.0) | (self.values > 1.0)).any()):
            raise InputError(f"StepLabels.values must lie in [0, 1], got {self.values.tolist()}")
        if bool(((confidence < 0.0) | (confidence > 1.0)).any()):
            raise InputError(f"StepLabels.confidence must lie in [0, 1], got {confidence.tolist()}")
        if any(pair is not None and not 0.0 <= pair[0] <= pair[1] <= 1.0 for pair in self.bounds):
            raise InputError(f"StepLabels.bounds must be pairs 0 <= low <= high <= 1, got {self.bounds}")
        if self.first_error is not None and not NO_ERROR <= self.first_error < n_steps:
            raise InputError(f"StepLabels.first_error must lie in -1..{n_steps - 1}, got {self.first_error}")

    @classmethod
    def from_hard(cls, hard: Sequence[bool | None], *, semantics: Semantics, reason: str = "not labelled", **fields: Any) -> StepLabels:
        """Labels that are certain: values are 1 and 0, NaN with `reason` where `hard` is None."""
        values = np.array([math.nan if good is None else float(good) for good in hard], dtype=np.float64)
        reasons = tuple(reason if good is None else None for good in hard)
        return cls(values, semantics, tuple(hard), reasons=reasons, **fields)

    @classmethod
    def from_counts(
        cls, counts: Sequence[Count | None], *, outcome: Outcome | None = None, reasons: Sequence[str | None] = (), threshold: float = 0.0, **fields: Any
    ) -> StepLabels:
        """Monte-Carlo labels: value_t = successes / rollouts, hard_t = value_t > threshold; a count without rollouts is unlabelled.

        `outcome`, when given, labels one more step after the counted ones: the last step of an ended trajectory, which is graded and
        not rolled out. The first error is the first step that is hard-labelled bad; unknown if an unlabelled step comes before it.
        """
        known = [math.nan if count is None else count.value for count in counts]
        why: list[str | None] = list(reasons) if reasons else [None] * len(known)
        every: tuple[Count | None, ...] = tuple(counts)
        if outcome is not None:
            known.append(math.nan if outcome.value is None else outcome.value)
            why.append(outcome.reason)
            every = (*every, None)
        if len(why) != len(known):
            raise CountMismatch(f"StepLabels.from_counts: {len(counts)} counts but {len(reasons)} reasons")
        filled = tuple((reason or "no completion was graded") if math.isnan(value) else None for value, reason in zip(known, why, strict=True))
        hard = tuple(None if math.isnan(value) else bool(value > threshold) for value in known)
        return cls(np.array(known, dtype=np.float64), "value", hard, first_bad(hard), filled, counts=every, **fields)

    @classmethod
    def unlabelled(cls, n_steps: int, reason: str, *, semantics: Semantics, **fields: Any) -> StepLabels:
        """No step could be labelled, for this reason."""
        return cls(np.full(n_steps, np.nan), semantics, reasons=(reason,) * n_steps, **fields)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepLabels) and canonical_json(self.to_record()) == canonical_json(other.to_record())

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_unlabelled(self) -> int:
        return int(np.isnan(self.values).sum())

    def intervals(self, z: float = 1.959963984540054) -> tuple[tuple[float, float] | None, ...]:
        """Wilson interval of every counted value; None where there is no count."""
        return tuple(None if count is None else count.interval(z) for count in self.counts)

    def to_record(self) -> dict[str, Any]:
        return header("step_labels") | {
            "values": nullable(self.values),
            "semantics": self.semantics,
            "hard": list(self.hard),
            "first_error": self.first_error,
            "reasons": list(self.reasons),
            "error_types": list(self.error_types),
            "rationales": list(self.rationales),
            "counts": [None if count is None else [count.successes, count.rollouts, count.unscored] for count in self.counts],
            "confidence": nullable(self.confidence),
            "bounds": [None if pair is None else list(pair) for pair in self.bounds],
            "evidence": [thaw(items) for items in self.evidence],
            "source": thaw(self.source),
            "usage": self.usage.to_record(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StepLabels:
        check_header(record, "step_labels")
        return cls(
            confidence=np.array(record.get("confidence") or [], dtype=np.float64),  # the three came later
            bounds=tuple(None if pair is None else (pair[0], pair[1]) for pair in record.get("bounds") or ()),
            evidence=tuple(tuple(items) for items in record.get("evidence") or ()),
            values=np.array(require(record, "values", (list, tuple)), dtype=np.float64),
            semantics=require(record, "semantics", str),
            hard=tuple(require(record, "hard", (list, tuple))),
            first_error=require(record, "first_error", (int, type(None))),
            reasons=tuple(require(record, "reasons", (list, tuple))),
            error_types=tuple(require(record, "error_types", (list, tuple))),
            rationales=tuple(require(record, "rationales", (list, tuple))),
            counts=tuple(None if count is None else Count(*count) for count in require(record, "counts", (list, tuple))),
            source=require(record, "source", Mapping),
            usage=Usage.from_record(require(record, "usage", Mapping)),
        )


def first_bad(hard: Sequence[bool | None]) -> int | None:
    """Index of the first False; -1 when all are True; None when a None comes before the first False."""
    for index, good in enumerate(hard):
        if good is None:
            return None
        if not good:
            return index
    return NO_ERROR
