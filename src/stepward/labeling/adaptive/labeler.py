"""Adaptive: our Monte-Carlo labeler, which spends rollouts where they change a label. Its two targets are in `first_error` and `values`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stepward.core import Count, InputError, Semantics, StepLabels, Trajectory, canonical_json, content_hash, metered
from stepward.labeling.adaptive.first_error import label_first_error
from stepward.labeling.adaptive.half_width import HalfWidth
from stepward.labeling.adaptive.prior import DEFAULT_PRIOR, Prior
from stepward.labeling.adaptive.stopping import StopRule
from stepward.labeling.adaptive.values import label_values
from stepward.labeling.adaptive.witness import Witness
from stepward.labeling.completer import Completer

Target = Literal["first_error", "value"]


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Step labels for as few policy tokens as possible, each with the confidence that it deserves. Not from a paper; derived in docs/adaptive.md.

    target "first_error": a posterior over the first error, by exact inference in a change-point model with drift (`changepoint`); the next rollouts
    start where they tell most about it per policy token (`choice`). It ends when the first error is known with chance 1 - `error`, when the best use of an
    average rollout's tokens promises less than `least_gain` nats, or after `max_rollouts`. Semantics *prefix*: values are P(no error up to this step),
    `confidence` is P(hard label right) in the model. Both are right as far as the prior is: fit it (`fit_prior`) on trajectories of the run.

    target "value": rollouts from every step until `rule` stops, counting those from earlier steps that pass through; unbiased estimates and exact intervals
    of level `level`, the rule taken into account (`stopped`). Semantics *value*; hard labels say value > `threshold`. No prior is involved, but for
    `confidence`, which is P(V on the hard label's side) under Beta(1/2, 1/2).

    batch: rollouts drawn at once (first_error). witnesses: judges and tools heard when that is the best use of tokens. pools: outcomes of other solutions of
    a problem, by problem key: free evidence about V of the bare problem. Draws of a prefix are always its first ones, so labels depend on nothing but the
    trajectory and these parameters.
    """

    completer: Completer
    target: Target = "first_error"
    prior: Prior = DEFAULT_PRIOR
    error: float = 0.05
    least_gain: float = 0.01
    batch: int = 2
    max_rollouts: int = 256
    witnesses: tuple[Witness, ...] = ()
    pools: Mapping[str, Count] = field(default_factory=dict, hash=False)
    rule: StopRule = HalfWidth()  # noqa: RUF009 (frozen)
    level: float = 0.95
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.target not in ("first_error", "value"):
            raise InputError(f"Adaptive.target must be 'first_error' or 'value', got {self.target!r}")
        if not 0.0 < self.error < 1.0 or not self.least_gain >= 0.0:
            raise InputError(f"Adaptive needs error in (0, 1) and least_gain >= 0, got {self.error} and {self.least_gain}")
        if self.batch < 1 or self.max_rollouts < 0:
            raise InputError(f"Adaptive needs batch >= 1 and max_rollouts >= 0, got {self.batch} and {self.max_rollouts}")
        if not 0.5 <= self.level < 1.0 or not 0.0 <= self.threshold < 1.0:
            raise InputError(f"Adaptive needs level in [0.5, 1) and threshold in [0, 1), got {self.level} and {self.threshold}")

    @property
    def semantics(self) -> Semantics:
        return "prefix" if self.target == "first_error" else "value"

    @property
    def fingerprint(self) -> str:
        pools = sorted((key, count.successes, count.rollouts) for key, count in self.pools.items())
        search = [self.prior.key, self.error, self.least_gain, self.batch, self.max_rollouts, [witness.parts for witness in self.witnesses], pools]
        parts = [self.target, *(search if self.target == "first_error" else [repr(self.rule), self.threshold]), self.level]
        return f"adaptive/{content_hash(canonical_json([self.completer.parts, parts]))}"

    async def label(self, trajectory: Trajectory) -> StepLabels:
        with metered() as ledger:
            if self.target == "value":
                labels = await label_values(self.completer, trajectory, rule=self.rule, level=self.level, threshold=self.threshold)
            else:
                labels = await label_first_error(
                    self.completer,
                    trajectory,
                    prior=self.prior,
                    error=self.error,
                    least_gain=self.least_gain,
                    batch=self.batch,
                    max_rollouts=self.max_rollouts,
                    witnesses=self.witnesses,
                    pool=self.pools.get(trajectory.problem.key),
                    level=self.level,
                )
        return replace(labels, source={**self.describe(), **labels.source}, usage=ledger.usage)

    def describe(self) -> dict[str, Any]:
        """What made a label; `first_error` and `values` add how its search ended."""
        made = {"method": "adaptive", "target": self.target, "fingerprint": self.fingerprint, "level": self.level, **self.completer.describe()}
        if self.target == "value":
            return made | {"rule": repr(self.rule), "threshold": self.threshold}
        return made | {
            "prior": self.prior.describe(),
            "error": self.error,
            "least_gain": self.least_gain,
            "batch": self.batch,
            "max_rollouts": self.max_rollouts,
            "witnesses": [witness.model.fingerprint for witness in self.witnesses],
        }
