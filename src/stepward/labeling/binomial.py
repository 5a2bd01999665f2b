"""Binomial: exact tails and intervals of a success probability, also where drawing stopped early. Estimates are in `estimators`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from stepward.core import Count, InputError

LEVEL = 0.95  # of the intervals that labels carry


def exactly(successes: int, n: int, chance: float) -> float:
    """P(Bin(n, chance) = successes)."""
    if not 0 <= successes <= n:
        return 0.0
    if chance <= 0.0 or chance >= 1.0:
        return float(successes == (n if chance >= 1.0 else 0))
    ways = math.lgamma(n + 1) - math.lgamma(successes + 1) - math.lgamma(n - successes + 1)
    return math.exp(ways + successes * math.log(chance) + (n - successes) * math.log1p(-chance))


def at_most(successes: int, n: int, chance: float) -> float:
    """P(Bin(n, chance) <= successes)."""
    return min(1.0, math.fsum(exactly(k, n, chance) for k in range(min(successes, n) + 1)))


def at_least(successes: int, n: int, chance: float) -> float:
    """P(Bin(n, chance) >= successes)."""
    return min(1.0, math.fsum(exactly(k, n, chance) for k in range(max(successes, 0), n + 1)))


def interval(count: Count, *, level: float = LEVEL, stop: int | None = None, last: int = 1) -> tuple[float, float]:
    """An exact interval of the success probability: it covers it with chance `level` or more, whatever it is.

    Without `stop` the number of rollouts was fixed: Clopper and Pearson's interval (The use of confidence or fiducial limits, 1934). With `stop`,
    drawing ended at the first request after which at least `stop` had succeeded, or at a cap; `last` is the number of graded rollouts of the last
    request. Ends are then ordered by time (earlier is better) and successes, and the interval collects the probabilities p under which neither
    "so good or better" nor "so bad or worse" has a chance below (1 - level) / 2. Unscored rollouts say nothing and drop out.

    Raises: InputError for a level outside (0, 1), or for more rollouts in the last request than in all.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie in (0, 1), got {level!r}")
    if count.rollouts == 0:
        return 0.0, 1.0
    if stop is None or count.successes < stop:  # ended at the cap: as if the number had been fixed
        return _interval(count.successes, count.rollouts, count.rollouts, math.inf, level)
    if not 1 <= last <= count.rollouts:
        raise InputError(f"last must lie in 1..{count.rollouts}, the graded rollouts of all requests, got {last}")
    return _interval(count.successes, count.rollouts, last, stop, level)


@lru_cache(maxsize=65536)
def _interval(successes: int, n: int, last: int, stop: float, level: float) -> tuple[float, float]:
    tail, before = (1.0 - level) / 2.0, n - last
    waiting = [j for j in range(min(before, successes) + 1) if j < stop]  # successes before the last request that let it be asked

    def so_good(chance: float) -> float:
        early = at_least(int(stop), before, chance) if stop <= before else 0.0
        return early + math.fsum(exactly(j, before, chance) * at_least(successes - j, last, chance) for j in range(before + 1) if j < stop)

    def so_bad(chance: float) -> float:
        return math.fsum(exactly(j, before, chance) * at_most(successes - j, last, chance) for j in waiting)

    low = 0.0 if successes == 0 else _root(lambda chance: so_good(chance) - tail)
    high = 1.0 if so_bad(1.0) > 0.0 else _root(lambda chance: tail - so_bad(chance))
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of a probability crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rising(middle) > 0.0 else (middle, high)
    return (low + high) / 2.0


def error_of_any(n: int, *, before: float, after: float, share: float) -> float:
    """Error rate of the label "good iff any of n rollouts succeeds".

    err(n) = (1 - share) (1 - (1 - after)^n) + share (1 - before)^n, with `before` and `after` the chance of success before and after an error and
    `share` the share of prefixes before one. Where `after` is positive it grows again: more rollouts make the label worse.
    """
    return (1.0 - share) * (1.0 - (1.0 - after) ** n) + share * (1.0 - before) ** n


def best_n_for_any(*, before: float, after: float, share: float) -> float:
    """The real n at which `error_of_any` is smallest: ln(share u / ((1 - share) w)) / (u - w), u = -ln(1 - before), w = -ln(1 - after).

    Infinite where errors are never repaired.

    Raises: InputError unless 0 <= after < before < 1 and share lies in (0, 1).
    """
    if not (0.0 <= after < before < 1.0 and 0.0 < share < 1.0):
        raise InputError(f"best_n_for_any needs 0 <= after < before < 1 and share in (0, 1), got after={after}, before={before}, share={share}")
    if after == 0.0:
        return math.inf
    u, w = -math.log1p(-before), -math.log1p(-after)
    return max(0.0, math.log(share * u / ((1.0 - share) * w)) / (u - w))


def draws_to_first_success(value: float, n: int) -> float:
    """Mean number of rollouts, one at a time, until the first success or n: (1 - (1 - V)^n) / V; n for V = 0."""
    return float(n) if value == 0.0 else (1.0 - (1.0 - value) ** n) / value
