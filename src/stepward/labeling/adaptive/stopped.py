"""StoppedBinomial: the exact law of a count that a stop rule ended, and what may be said about V from it: unbiased estimates and exact intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cached_property, lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stepward.core import Floats, InputError
from stepward.labeling.adaptive.confidence import Interval
from stepward.labeling.adaptive.stopping import Decision, StopRule

LONGEST = 1000  # path shares under V = 1/2 stay above the smallest float
_FINENESS = 2000


class StoppedBinomial:
    """All ends (successes, rollouts) of a rule, with the number of ways to each.

    P(end | V) = ways V^S (1 - V)^(n - S): the rule decides where paths end, not how likely they are. From this all else is exact arithmetic.

    Raises: InputError for rules that may ask for more than 1,000 rollouts.
    """

    def __init__(self, rule: StopRule) -> None:
        if rule.limit > LONGEST:
            raise InputError(f"the law of {rule} cannot be tabulated: its limit is {rule.limit}, the most is {LONGEST}")
        self.rule = rule
        self._halves = {(0, 0): 1.0}  # ways / 2^n to every point that the rule reaches
        self._firsts: dict[tuple[int, int], float] = {}  # the same for ways that begin with a success
        self._ends: list[tuple[int, int, Decision]] = []
        self._known_intervals: dict[float, tuple[Floats, Floats]] = {}
        front = {(0, 0)}
        while front:
            following: set[tuple[int, int]] = set()
            for s, n in sorted(front):
                decision = rule.decide(s, n) if n else Decision.GO_ON
                if decision is not Decision.GO_ON:
                    self._ends.append((s, n, decision))
                    continue
                for point in ((s, n + 1), (s + 1, n + 1)):
                    self._halves[point] = self._halves.get(point, 0.0) + self._halves[s, n] / 2
                    first = float(point == (1, 1)) / 2 if n == 0 else self._firsts.get((s, n), 0.0) / 2
                    self._firsts[point] = self._firsts.get(point, 0.0) + first
                    following.add(point)
            front = following
        self._ends.sort(key=lambda end: (end[0] / end[1], -end[1] if 2 * end[0] < end[1] else end[1]))
        self._rank = {(s, n): rank for rank, (s, n, _) in enumerate(self._ends)}
        self.successes: NDArray[np.int64] = np.array([s for s, _, _ in self._ends])
        self.rollouts: NDArray[np.int64] = np.array([n for _, n, _ in self._ends])
        self._log_ways: Floats = np.log([self._halves[s, n] for s, n, _ in self._ends]) + self.rollouts * math.log(2.0)

    @property
    def ends(self) -> list[tuple[int, int, Decision]]:
        """(successes, rollouts, decision) of every end, by rising share of successes."""
        return list(self._ends)

    def law(self, v: float) -> Floats:
        """[ends]: chance of every end under V = v."""
        return np.asarray(self._law(np.array([v]))[0], dtype=np.float64)

    def _law(self, v: Floats) -> Floats:
        lost = self.rollouts - self.successes
        with np.errstate(divide="ignore", invalid="ignore"):
            won = np.where(self.successes > 0, self.successes * np.log(v)[:, None], 0.0)
            log = self._log_ways + won + np.where(lost > 0, lost * np.log1p(-v)[:, None], 0.0)
        return np.asarray(np.exp(log), dtype=np.float64)

    def mean_rollouts(self, v: float) -> float:
        """Expected number of rollouts under V = v."""
        return float(self.law(v) @ self.rollouts)

    def chance(self, decision: Decision, v: float) -> float:
        """Chance of ending with this decision under V = v."""
        return float(self.law(v) @ np.array([end[2] is decision for end in self._ends]))

    def estimate(self, successes: int, n: int) -> float:
        """The unbiased estimate of V at an end: the share of the ways to it that begin with a success.

        E[estimate] = V exactly, where S / n is biased by the rule. (Girshick, Mosteller and Savage, Unbiased Estimates for Certain Binomial Sampling
        Problems with Applications, 1946.) For `Fixed` it is S / n, for `InverseBinomial(r)` (r - 1) / (n - 1) at the r-th success.
        """
        self._known(successes, n)
        return self._firsts[successes, n] / self._halves[successes, n]

    def interval(self, successes: int, n: int, level: float = 0.95) -> Interval:
        """Exact interval at an end: it covers with chance at least `level` for every V, the rule taken into account.

        V is kept when the smaller tail of the ends' law at this end, plus the largest opposite tail that is no larger, exceeds 1 - level; ends are ordered by
        their share of successes. (Confidence curves and improved exact confidence intervals for discrete distributions, 2000, here for stopped counts.)
        Widened to the next 1/2000.
        """
        low, high = self._intervals(level)
        rank = self._known(successes, n)
        return float(low[rank]), float(high[rank])

    def _intervals(self, level: float) -> tuple[Floats, Floats]:
        if level not in self._known_intervals:
            self._known_intervals[level] = self._made_intervals(level)
        return self._known_intervals[level]

    def _made_intervals(self, level: float) -> tuple[Floats, Floats]:
        grid = np.linspace(0.0, 1.0, _FINENESS + 1)
        law = self._law(grid)
        lower = np.cumsum(law, axis=1)
        upper = np.cumsum(law[:, ::-1], axis=1)[:, ::-1]
        kept = np.empty(law.shape, dtype=bool)
        for row in range(len(grid)):
            tails_down, tails_up = np.concatenate([[0.0], lower[row]]), np.concatenate([[0.0], upper[row, ::-1]])
            down, up = lower[row], upper[row]
            opposite_up = tails_up[np.searchsorted(tails_up, down * (1.0 + 1e-9), side="right") - 1]
            opposite_down = tails_down[np.searchsorted(tails_down, up * (1.0 + 1e-9), side="right") - 1]
            kept[row] = np.where(down <= up, down + opposite_up, up + opposite_down) > 1.0 - level
        first, last = kept.argmax(axis=0), len(grid) - 1 - kept[::-1].argmax(axis=0)
        return grid[np.maximum(first - 1, 0)], grid[np.minimum(last + 1, _FINENESS)]

    @cached_property
    def _fewest(self) -> dict[tuple[int, int], int]:
        found: dict[tuple[int, int], int] = {}
        for s, n in sorted(self._halves, key=lambda point: -point[1]):
            found[s, n] = 0 if (s, n) in self._rank else 1 + min(found[s, n + 1], found[s + 1, n + 1])
        return found

    def fewest(self, successes: int, n: int) -> int:
        """The fewest further rollouts after which the rule can stop: so many can be drawn at once and none is wasted."""
        return self._fewest[successes, n]

    def _known(self, successes: int, n: int) -> int:
        rank = self._rank.get((successes, n))
        if rank is None:
            raise InputError(f"{self.rule} never stops at {successes} successes in {n} rollouts")
        return rank


def stopped_by(rule: StopRule) -> StoppedBinomial:
    """The law of a rule, which is a frozen dataclass; those of the last 32 rules are kept."""
    return _stopped_by(cast(Hashable, rule))


@lru_cache(maxsize=32)
def _stopped_by(rule: Hashable) -> StoppedBinomial:
    return StoppedBinomial(cast(StopRule, rule))
