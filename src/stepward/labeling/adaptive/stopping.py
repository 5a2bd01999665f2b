"""Stop rules: when the rollouts from one prefix are enough, and the verdict that they allow. What a rule costs and how it biases counts is in `stopped`.

A rule sees only the successes and the number of rollouts so far, after every single rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from stepward.core import InputError
from stepward.labeling.adaptive.beta import beta_cdf
from stepward.labeling.adaptive.confidence import log_mixture


class Decision(Enum):
    """GO_ON: draw another. GOOD, BAD: stop with a verdict about the step. OPEN: stop without one."""

    GO_ON = "go_on"
    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


class StopRule(Protocol):
    """A frozen dataclass, whose repr names it in fingerprints. `limit`: the most rollouts that it ever asks for.

    A rule with verdicts may have a `threshold`: GOOD then says V > threshold, and a label's confidence is about that.
    """

    @property
    def limit(self) -> int: ...

    def decide(self, successes: int, n: int) -> Decision: ...


@dataclass(frozen=True)
class Fixed:
    """`limit` rollouts; good when more than the share `threshold` of them end right (Math-Shepherd, 2023)."""

    limit: int
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _need(self.limit >= 1, "Fixed.limit must be at least 1", self.limit)

    def decide(self, successes: int, n: int) -> Decision:
        if n < self.limit:
            return Decision.GO_ON
        return Decision.GOOD if successes > self.threshold * n else Decision.BAD


@dataclass(frozen=True)
class FirstSuccess:
    """Good at the first success, bad after `limit` failures.

    Guarantee: on the same rollouts its verdicts are those of `Fixed(limit)`, for (1 - (1 - V)^limit) / V rollouts on average in place of `limit`.
    """

    limit: int

    threshold: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _need(self.limit >= 1, "FirstSuccess.limit must be at least 1", self.limit)

    def decide(self, successes: int, n: int) -> Decision:
        if successes:
            return Decision.GOOD
        return Decision.GO_ON if n < self.limit else Decision.BAD


@dataclass(frozen=True)
class InverseBinomial:
    """Until `successes` of them, or `limit` rollouts. Guarantee: the relative error of the unbiased estimate is about 1 / sqrt(successes) for every V."""

    successes: int
    limit: int

    threshold: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _need(1 <= self.successes <= self.limit, "InverseBinomial needs 1 <= successes <= limit", (self.successes, self.limit))

    def decide(self, successes: int, n: int) -> Decision:
        if successes >= self.successes:
            return Decision.GOOD
        return Decision.GO_ON if n < self.limit else (Decision.GOOD if successes else Decision.BAD)


@dataclass(frozen=True)
class Sprt:
    """Wald's sequential test of V <= `low` against V >= `high`, cut off undecided at `limit`.

    Guarantee (Sequential Tests of Statistical Hypotheses, 1945): P(good | V <= low) <= alpha / (1 - beta), P(bad | V >= high) <= beta / (1 - alpha); none in
    between. No test with these errors needs fewer rollouts on average at both ends, the overshoot aside.
    """

    low: float
    high: float
    alpha: float = 0.05
    beta: float = 0.05
    limit: int = 200

    def __post_init__(self) -> None:
        _need(0.0 < self.low < self.high < 1.0, "Sprt needs 0 < low < high < 1; for low = 0 use FirstSuccess", (self.low, self.high))
        _need(0.0 < self.alpha < 1.0 and 0.0 < self.beta < 1.0 - self.alpha, "Sprt needs alpha, beta > 0 of sum below 1", (self.alpha, self.beta))

    def decide(self, successes: int, n: int) -> Decision:
        odds = successes * math.log(self.high / self.low) + (n - successes) * math.log((1.0 - self.high) / (1.0 - self.low))
        if odds >= math.log((1.0 - self.beta) / self.alpha):
            return Decision.GOOD
        if odds <= math.log(self.beta / (1.0 - self.alpha)):
            return Decision.BAD
        return Decision.GO_ON if n < self.limit else Decision.OPEN


@dataclass(frozen=True)
class BetaPosterior:
    """Until P(V > threshold | rollouts) leaves [error, 1 - error], under the prior Beta(a, b); undecided at `limit`.

    Guarantee: of the verdicts at most the share `error` is wrong on average over the prior, whatever the stop rule; for a single V none.
    """

    threshold: float
    error: float = 0.05
    a: float = 0.5
    b: float = 0.5
    limit: int = 200

    def __post_init__(self) -> None:
        _need(0.0 < self.threshold < 1.0 and 0.0 < self.error < 0.5, "BetaPosterior needs threshold in (0, 1), error in (0, 0.5)", (self.threshold, self.error))
        _need(self.a > 0.0 and self.b > 0.0, "BetaPosterior.a and b must be positive", (self.a, self.b))

    def decide(self, successes: int, n: int) -> Decision:
        below = beta_cdf(self.threshold, self.a + successes, self.b + n - successes)
        if below < self.error:
            return Decision.GOOD
        if below > 1.0 - self.error:
            return Decision.BAD
        return Decision.GO_ON if n < self.limit else Decision.OPEN


@dataclass(frozen=True)
class EValue:
    """Until the mixture e-value against V = threshold reaches 1 / alpha, on the side where the share of successes lies; undecided at `limit`.

    Guarantee: for every V the chance of a wrong verdict is at most alpha, however often and whenever one looks (Ville's inequality): a wrong verdict needs
    V outside the confidence sequence of level 1 - alpha. No prior, no alternative.
    """

    threshold: float
    alpha: float = 0.05
    limit: int = 200

    def __post_init__(self) -> None:
        _need(0.0 < self.threshold < 1.0 and 0.0 < self.alpha < 1.0, "EValue needs threshold and alpha in (0, 1)", (self.threshold, self.alpha))

    def decide(self, successes: int, n: int) -> Decision:
        if n and log_mixture(successes, n, self.threshold) >= -math.log(self.alpha):
            return Decision.GOOD if successes > self.threshold * n else Decision.BAD
        return Decision.GO_ON if n < self.limit else Decision.OPEN


def most_rollouts(before: float, after: float, share: float = 0.5) -> float:
    """The number of rollouts beyond which labels by `FirstSuccess` or `Fixed(threshold=0)` get worse: N* = ln(p u / ((1 - p) w)) / (u - w).

    before, after: chance that a rollout succeeds before and after the first error; share: p, of steps that come before it; u = -ln(1 - before), w = -ln(1 -
    after). The error of the label is (1 - p) (1 - (1 - after)^N) + p (1 - before)^N, smallest at N*: with after > 0 an error step is bound to have a success
    at last. Infinite for after = 0.
    """
    _need(0.0 <= after < before < 1.0 and 0.0 < share < 1.0, "most_rollouts needs 0 <= after < before < 1 and share in (0, 1)", (before, after, share))
    if after == 0.0:
        return math.inf
    u, w = -math.log1p(-before), -math.log1p(-after)
    return math.log(share * u / ((1.0 - share) * w)) / (u - w)


def _need(held: bool, what: str, value: object) -> None:
    if not held:
        raise InputError(f"{what}, got {value!r}")
