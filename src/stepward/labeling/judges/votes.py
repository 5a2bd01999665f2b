"""Votes: several verdicts on each step made one. Pure functions; a missing verdict has no vote, and a tie decides nothing.

Shapes: `verdicts`: n draws of S steps each, True (right), False (wrong) or None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, isnan, nan
from typing import TypeVar

from stepward.core import NO_ERROR, StepScores, first_bad

Hard = tuple[bool | None, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Tally:
    """Votes on one step: how many say right, how many wrong."""

    right: int
    wrong: int

    @property
    def n(self) -> int:
        return self.right + self.wrong

    @property
    def share(self) -> float:
        """right / n; NaN without a vote."""
        return self.right / self.n if self.n else nan

    @property
    def majority(self) -> bool | None:
        """What more than half of the votes say; None for a tie or no vote."""
        return None if self.right == self.wrong else self.right > self.wrong

    @property
    def confidence(self) -> float:
        """(m + 1) / (n + 2) for m votes with the majority: how likely one more verdict agrees, under a uniform prior. NaN without a majority.

        With judges that are independent and better than chance the label is likelier right than that; with judges that err together it need not be.
        """
        return nan if self.majority is None else (max(self.right, self.wrong) + 1) / (self.n + 2)


def verdicts_of(scores: StepScores) -> Hard:
    """Right where the value is not below the scores' own threshold, wrong where it is, None where there is none."""
    return tuple(None if isnan(value) else bool(value >= scores.threshold) for value in scores.values)


def tallies(verdicts: Sequence[Sequence[bool | None]]) -> tuple[Tally, ...]:
    """The votes on every step."""
    return tuple(Tally(sum(vote is True for vote in votes), sum(vote is False for vote in votes)) for votes in zip(*verdicts, strict=True))


def step_vote(verdicts: Sequence[Sequence[bool | None]]) -> Hard:
    """The majority on each step by itself."""
    return tuple(tally.majority for tally in tallies(verdicts))


def first_error_vote(verdicts: Sequence[Sequence[bool | None]]) -> int | None:
    """The first error (-1: none) that most draws find; None for a tie. It need not be the first zero of the vote on each step."""
    return _most([found for found in map(first_bad, verdicts) if found is not None])


def outcome_vote(verdicts: Sequence[Sequence[bool | None]]) -> bool | None:
    """Whether most draws find no error at all; None for a tie."""
    return _most([found == NO_ERROR for found in map(first_bad, verdicts) if found is not None])


def right_by_majority(n: int, accuracy: float) -> float:
    """Chance that the majority of n (odd) independent verdicts is right, each with this accuracy: sum_{i > n / 2} C(n, i) p^i (1 - p)^(n - i)."""
    return sum(comb(n, i) * accuracy**i * (1.0 - accuracy) ** (n - i) for i in range(n // 2 + 1, n + 1))


def _most(found: Sequence[T]) -> T | None:
    ranked = Counter(found).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
