"""Logits: the numbers that parametric calibrations are fitted on, from scores of any scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, Scale

TINY = 1e-12


@dataclass(frozen=True)
class Logits:
    """z = log p - log(1 - p) of a probability p taken as at least `low` and at most `high`; any other scale's score is its own z.

    A probability of exactly 0 or 1 has no logit: it has been rounded. So where the data hold exact ones, `high` lies half-way between 1 and the next
    smaller score (2^-9 below 1 for scores in bf16), and `low` likewise; otherwise nothing but the rounding of floats is cut off, and z keeps the order of
    the scores strictly. Scores beyond the bounds are tied, never reversed.
    """

    scale: Scale = "probability"
    low: float = TINY
    high: float = 1.0 - TINY

    @classmethod
    def of(cls, scores: Floats, scale: Scale) -> Logits:
        """Bounds for these (known) scores."""
        if scale != "probability":
            return cls(scale)
        inside = scores[(scores > 0.0) & (scores < 1.0)]
        low, high = TINY, 1.0 - TINY
        if (scores == 0.0).any() and inside.size:
            low = max(low, float(inside.min()) / 2.0)
        if (scores == 1.0).any() and inside.size:
            high = min(high, (1.0 + float(inside.max())) / 2.0)
        return cls(scale, low, max(low, high))

    def __call__(self, scores: ArrayLike) -> Floats:
        """z of every score; NaN where unknown."""
        array = np.asarray(scores, dtype=np.float64)
        if self.scale != "probability":
            return array
        p = np.clip(array, self.low, self.high)
        return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + e^-z) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))
