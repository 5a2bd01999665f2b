"""Witness: a judge or tool whose verdicts on steps are evidence about the first error, beside rollouts and at its own price."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepward.core import FAILURES, InputError, RewardModel, Trajectory
from stepward.labeling.adaptive.chain import Chain
from stepward.labeling.adaptive.changepoint import Posterior


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A reward model that marks steps as wrong (score below its threshold), trusted as far as its error rates say.

    before, at, after: chance that it marks a step which comes before, is, or comes after the first error. A sound tool has a small `before`; a judge of
    prefixes has equal `at` and `after`; a local check has an `after` like its `before`. Given the first error, marks on different steps count as
    independent; a step that it does not judge tells nothing. tokens: its price for one trajectory, in policy tokens.
    """

    model: RewardModel
    before: float
    at: float
    after: float
    tokens: float = 0.0

    def __post_init__(self) -> None:
        if not all(0.0 < rate < 1.0 for rate in (self.before, self.at, self.after)):
            raise InputError(f"Witness.before, at and after must lie strictly between 0 and 1, got {(self.before, self.at, self.after)}; nobody is infallible")
        if not (math.isfinite(self.tokens) and self.tokens >= 0.0):
            raise InputError(f"Witness.tokens must be a finite number of at least 0, got {self.tokens!r}")

    @property
    def parts(self) -> list[Any]:
        """What a fingerprint must name."""
        return [self.model.fingerprint, self.before, self.at, self.after, self.tokens]

    def information(self, posterior: Posterior) -> float:
        """Expected information, in nats, of its verdicts about the first error: the sum over steps, at most the entropy that is left (an upper bound)."""
        chance = posterior.first_error
        place, step = np.arange(len(chance))[:, None], np.arange(len(chance) - 1)[None, :]
        marks = np.where(step < place, self.before, np.where(step == place, self.at, self.after))
        mean = chance @ marks
        gain = (_entropy(mean) - chance @ _entropy(marks)).sum()
        left = -(chance * np.log(np.maximum(chance, 1e-300))).sum()
        return float(max(0.0, min(gain, left)))

    async def testify(self, trajectory: Trajectory, chain: Chain) -> list[dict[str, Any] | None]:
        """Hear the model on every step: its verdicts enter `chain`, and what it said is returned, None where it did not judge."""
        try:
            scores = await self.model.score(trajectory)
        except FAILURES:
            return [None] * len(trajectory)
        said: list[dict[str, Any] | None] = []
        for step, value in enumerate(scores.values):
            if math.isnan(value):
                said.append(None)
                continue
            marked = bool(value < scores.threshold)
            rates = (self.before, self.at, self.after)
            chain.hear(step, *(math.log(rate if marked else 1.0 - rate) for rate in rates))
            said.append({"kind": "verdict", "model": self.model.fingerprint, "wrong": marked, "score": round(float(value), 6)})
        return said


def _entropy(p: Any) -> Any:
    p = np.clip(p, 1e-12, 1.0 - 1e-12)
    return -(p * np.log(p) + (1.0 - p) * np.log1p(-p))
