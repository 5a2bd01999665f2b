"""StepScores: what a reward model says about every step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from stepward.core.aggregation import Aggregation, Floats, aggregate
from stepward.core.errors import CountMismatch, InputError
from stepward.core.record import FrozenDict, canonical_json, check_header, freeze, header, nullable, record_kind, require, thaw
from stepward.core.usage import NO_USAGE, Usage

Scale = Literal["probability", "logit", "advantage", "logratio"]
ABSTAINED = "abstained"  # a reason that starts with this word: the model looked and declined to judge; any other reason is a failure


def frozen_floats(values: ArrayLike) -> Floats:
    """A read-only float64 copy of shape [S]."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"expected one value a step (shape [S]), got shape {array.shape}")
    array.setflags(write=False)
    return array


def check_reasons(values: Floats, reasons: Sequence[str | None], noun: str) -> tuple[str | None, ...]:
    """Exactly the unscored values carry a reason."""
    checked = tuple(reasons) if reasons else (None,) * len(values)
    if len(checked) != len(values):
        raise CountMismatch(f"{noun}: {len(values)} values but {len(checked)} reasons")
    for index, (value, reason) in enumerate(zip(values.tolist(), checked, strict=True)):
        if math.isnan(value) != bool(reason):
            raise InputError(f"{noun}: step {index} is {value!r} with reason {reason!r}; exactly the unscored (NaN) values carry a reason")
        if math.isinf(value):
            raise InputError(f"{noun}: step {index} is infinite; use a finite value, or NaN with a reason")
    return checked


@record_kind("step_scores")
@dataclass(frozen=True, eq=False)
class StepScores:
    """One value a step, shape [S], higher is better; NaN exactly where `reasons` says why the step is unscored.

    A reason that starts with "abstained" means that the model looked and would not judge; any other reason is a failure.
    `scale` says what the values are, `threshold` below which value a step counts as wrong. `source` describes what made them.
    `aspects`: other values of each step by name, shape [S] each, NaN where unknown (ReasonEval's "redundancy", an ensemble's "std").
    """

    values: Floats
    reasons: tuple[str | None, ...] = ()
    scale: Scale = "probability"
    threshold: float = 0.5
    rationales: tuple[str | None, ...] = ()
    source: Mapping[str, Any] = field(default_factory=FrozenDict)
    usage: Usage = NO_USAGE
    aspects: Mapping[str, Floats] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen_floats(self.values))
        object.__setattr__(self, "aspects", FrozenDict({name: frozen_floats(self.aspects[name]) for name in sorted(self.aspects)}))
        object.__setattr__(self, "reasons", check_reasons(self.values, self.reasons, "StepScores"))
        object.__setattr__(self, "rationales", tuple(self.rationales) or (None,) * len(self.values))
        object.__setattr__(self, "source", freeze(self.source))
        if len(self.rationales) != len(self.values):
            raise CountMismatch(f"StepScores: {len(self.values)} values but {len(self.rationales)} rationales")
        for name, values in self.aspects.items():
            if len(values) != len(self.values):
                raise CountMismatch(f"StepScores: {len(self.values)} values but {len(values)} of aspect {name!r}")
        if self.scale == "probability" and bool(((self.values < 0.0) | (self.values > 1.0)).any()):
            raise InputError(f"StepScores on the probability scale must lie in [0, 1], got {self.values.tolist()}")

    @classmethod
    def unscored(cls, n_steps: int, reason: str, **fields: Any) -> StepScores:
        """No step could be scored, for this reason."""
        return cls(np.full(n_steps, np.nan), (reason,) * n_steps, **fields)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepScores) and canonical_json(self.to_record()) == canonical_json(other.to_record())

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_unscored(self) -> int:
        """How many steps carry no value, abstentions included."""
        return int(np.isnan(self.values).sum())

    @property
    def n_failed(self) -> int:
        """How many steps carry no value for another reason than abstention."""
        return sum(reason is not None and not reason.startswith(ABSTAINED) for reason in self.reasons)

    def first_error(self, threshold: float | None = None) -> int | None:
        """Index of the first step whose value is below the threshold; -1 for none; None when a failure to score hides the answer.

        Abstentions are passed over: a verifier that declines to judge a step has found no error in it.
        """
        limit = self.threshold if threshold is None else threshold
        for index, (value, reason) in enumerate(zip(self.values, self.reasons, strict=True)):
            if reason is None and value < limit:
                return index
            if reason is not None and not reason.startswith(ABSTAINED):
                return None
        return -1

    def aggregate(self, how: Aggregation | str = "min", *, unscored: Literal["propagate", "skip"] = "propagate") -> float:
        """One number for the trajectory; see `stepward.core.aggregation`."""
        return aggregate(self.values, how, unscored=unscored)

    def overall(self, how: Aggregation | str = "min") -> float:
        """`aggregate` as searches and tables use it: abstentions are left out, a step that could not be scored makes the result unknown (NaN)."""
        return self.aggregate(how, unscored="propagate" if self.n_failed else "skip")

    def to_record(self) -> dict[str, Any]:
        return header("step_scores") | {
            "values": nullable(self.values),
            "reasons": list(self.reasons),
            "scale": self.scale,
            "threshold": self.threshold,
            "rationales": list(self.rationales),
            "source": thaw(self.source),
            "usage": self.usage.to_record(),
            "aspects": {name: nullable(values) for name, values in self.aspects.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StepScores:
        check_header(record, "step_scores")
        return cls(
            values=np.array(require(record, "values", (list, tuple)), dtype=np.float64),
            reasons=tuple(require(record, "reasons", (list, tuple))),
            scale=require(record, "scale", str),
            threshold=require(record, "threshold", (float, int)),
            rationales=tuple(require(record, "rationales", (list, tuple))),
            source=require(record, "source", Mapping),
            usage=Usage.from_record(require(record, "usage", Mapping)),
            aspects={name: np.array(values, dtype=np.float64) for name, values in record.get("aspects", {}).items()},
        )


def one_a_step(scores: StepScores, n_steps: int, model: str) -> StepScores:
    """The scores of the model with this fingerprint, if there is one a step. Raises: CountMismatch otherwise."""
    if len(scores) != n_steps:
        raise CountMismatch(f"reward model {model} gave {len(scores)} scores for {n_steps} steps; it has to give one a step, NaN with a reason where unknown")
    return scores
