"""When enough votes are in: stopping rules for sampling answers until the majority is settled. Pure functions on answers in the order of their draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from stepward.core.errors import InputError


class VoteStop(Protocol):
    """Whether sampling may end after these answers (None: an end without an answer)."""

    def settled(self, answers: Sequence[str | None]) -> bool: ...


@dataclass(frozen=True)
class BetaMajority:
    """Stop once P(p_1 > p_2 | votes) >= `confidence`, p_1 and p_2 being the chances of the two leading answers under a uniform prior.

    With v_1 and v_2 votes that is P(X > 1/2) for X ~ Beta(v_1 + 1, v_2 + 1). (Let's Sample Step by Step: Adaptive-Consistency, 2023.) A posterior asked again
    after every vote ignores that the two were chosen because they lead: the share of settled majorities that more votes would overturn can exceed
    1 - `confidence`.
    """

    confidence: float = 0.95
    least: int = 2

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0 or self.least < 1:
            raise InputError(f"BetaMajority needs confidence in [0.5, 1) and least >= 1, got {self.confidence} and {self.least}")

    def settled(self, answers: Sequence[str | None]) -> bool:
        first, second = _leaders(answers)
        return len(answers) >= self.least and first > 0 and lead(first, second) >= self.confidence


@dataclass(frozen=True)
class Window:
    """Stop once the last `size` answers of a full window agree (Early-Stopping Self-Consistency, 2024): windows do not overlap."""

    size: int = 5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"Window.size must be at least 1, got {self.size}")

    def settled(self, answers: Sequence[str | None]) -> bool:
        if not answers or len(answers) % self.size:
            return False
        last = set(answers[-self.size :])
        return len(last) == 1 and None not in last


@dataclass(frozen=True)
class Certain:
    """Stop once no votes still to come, of `n` in all, could change the majority: the same answer as all `n` votes give, always."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"Certain.n must be at least 1, got {self.n}")

    def settled(self, answers: Sequence[str | None]) -> bool:
        first, second = _leaders(answers)
        return first > second + (self.n - len(answers))


def votes_needed(answers: Sequence[str | None], stop: VoteStop) -> int:
    """How many of the recorded answers are drawn before `stop` says enough; all of them if it never does."""
    return next((count for count in range(1, len(answers) + 1) if stop.settled(answers[:count])), len(answers))


@lru_cache(maxsize=100_000)
def lead(first: int, second: int) -> float:
    """P(X > 1/2) for X ~ Beta(first + 1, second + 1) = P(Binomial(first + second + 1, 1/2) <= first)."""
    n = first + second + 1
    return float(sum(math.comb(n, k) for k in range(first + 1)) / (1 << n))


def _leaders(answers: Sequence[str | None]) -> tuple[int, int]:
    """Votes of the leading answer and of the next."""
    first, second = [*(count for _, count in Counter(answer for answer in answers if answer is not None).most_common(2)), 0, 0][:2]
    return first, second
