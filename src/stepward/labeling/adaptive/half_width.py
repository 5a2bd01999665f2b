"""HalfWidth: rollouts until the exact interval is as narrow as was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stepward.core import InputError
from stepward.labeling.adaptive.stopped import StoppedBinomial
from stepward.labeling.adaptive.stopping import Decision


@dataclass(frozen=True)
class WilsonWidth:
    """Stop once the half width of Wilson's interval with this `z` is at most `half_width`: an approximate plan, needing few rollouts near 0 and 1."""

    half_width: float
    z: float

    @cached_property
    def limit(self) -> int:
        """Rollouts at V = 1/2, the most."""
        return max(1, math.ceil(self.z**2 * (1.0 / (4.0 * self.half_width**2) - 1.0)) + 1)

    def decide(self, successes: int, n: int) -> Decision:
        p, z2 = successes / n, self.z**2
        half = self.z * math.sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n)) / (1.0 + z2 / n)
        return Decision.OPEN if half <= self.half_width or n >= self.limit else Decision.GO_ON


@dataclass(frozen=True)
class HalfWidth:
    """Rollouts until the exact interval of level `level` for the stopped count has at most this half width.

    Guarantee: wherever it stops, the interval of `StoppedBinomial` is at most 2 `half_width` wide and covers with chance at least `level`, for every V.
    The plan is the loosest of `WilsonWidth`'s that achieves this, found by trying 30 of them.
    """

    half_width: float = 0.15
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 0.04 <= self.half_width < 0.5 or not 0.5 <= self.level < 1.0:
            raise InputError(f"HalfWidth needs half_width in [0.04, 0.5) and level in [0.5, 1), got {self.half_width} and {self.level}")

    @cached_property
    def plan(self) -> WilsonWidth:
        z = _normal_quantile(0.5 + self.level / 2)
        for share in np.linspace(1.12, 0.5, 32):
            plan = WilsonWidth(round(float(share) * self.half_width, 9), z)
            law = StoppedBinomial(plan)
            if all(high - low <= 2 * self.half_width + 1e-9 for low, high in (law.interval(s, n, self.level) for s, n, _ in law.ends)):
                return plan
        raise InputError(f"no plan reaches half width {self.half_width} at level {self.level}")

    @property
    def limit(self) -> int:
        return self.plan.limit

    def decide(self, successes: int, n: int) -> Decision:
        return self.plan.decide(successes, n)


def _normal_quantile(p: float) -> float:
    """By bisection on the error function."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        if 0.5 * (1.0 + math.erf(middle / math.sqrt(2.0))) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2
