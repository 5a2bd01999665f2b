"""Preferences: who says which of two solutions is better, and round robins of them. `rewards.generative.PairwiseJudge` is a preference."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stepward.core import FAILURES, Aggregation, InputError, Problem, RewardModel, StepScores, Trajectory, Usage, check_aggregation, price_of_score
from stepward.search.workbench import Workbench, score_or_reason


class Verdict(Protocol):
    """`value` is P(a is better than b), or NaN with the `reason`."""

    @property
    def value(self) -> float: ...

    @property
    def reason(self) -> str | None: ...


class Preference(Protocol):
    """Who says which of two solutions of a problem is better. It may tell its price before it is asked (`PricedPreference`), and that it
    counts as more than one call (`CountedPreference`)."""

    @property
    def fingerprint(self) -> str: ...

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Verdict: ...


@runtime_checkable
class PricedPreference(Protocol):
    """A preference that tells the most that `compare` charges; None where it cannot know."""

    def price(self, problem: Problem, a: Trajectory, b: Trajectory) -> Usage | None: ...


@runtime_checkable
class CountedPreference(Protocol):
    """A preference whose comparison counts as more than one call of a budget."""

    @property
    def calls(self) -> int: ...


@dataclass(frozen=True)
class Preferred:
    """A verdict. `unscored`: whether it is unknown as nothing is known of a, or of b."""

    value: float
    reason: str | None = None
    unscored: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """P(a better than b) = sigmoid((r_a - r_b) / temperature), r the aggregated score; of a probability its logit, so that P = odds_a / (odds_a + odds_b).

    A reward model as a preference: it ranks as the model does, and its errors are the model's. Unknown where a score is. A comparison scores two trajectories,
    and counts as two calls.

    Raises: InputError for a temperature that is not positive.
    """

    model: RewardModel
    aggregation: Aggregation = "last"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"BradleyTerry.temperature must be positive and finite, got {self.temperature!r}")

    @property
    def fingerprint(self) -> str:
        return f"bradley-terry({self.model.fingerprint},{self.aggregation},{self.temperature:g})"

    @property
    def calls(self) -> int:
        return 2

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Preferred:
        del problem
        scores = await asyncio.gather(*(score_or_reason(self.model, trajectory) for trajectory in (a, b)))
        rewards = [self._reward(found) for found in scores]
        value = _sigmoid((rewards[0] - rewards[1]) / self.temperature)
        reasons = [reason for found in scores for reason in found.reasons if reason]
        if not math.isnan(value):
            return Preferred(value)
        return Preferred(value, reasons[0] if reasons else "there is no step to score", (math.isnan(rewards[0]), math.isnan(rewards[1])))

    def price(self, problem: Problem, a: Trajectory, b: Trajectory) -> Usage | None:
        del problem
        prices = [price_of_score(self.model, trajectory) for trajectory in (a, b)]
        return None if None in prices else Usage.total(price for price in prices if price is not None)

    def _reward(self, scores: StepScores) -> float:
        value = scores.overall(self.aggregation)
        if self.model.scale != "probability" or math.isnan(value):
            return value
        clipped = min(1.0 - 1e-12, max(1e-12, value))
        return math.log(clipped) - math.log1p(-clipped)


async def round_robin(bench: Workbench, preference: Preference, trajectories: Sequence[Trajectory]) -> list[list[float]]:
    """P[i][j] = how far i is preferred to j, shape [n, n]: every pair i < j is asked once, all at once, and P[j][i] = 1 - P[i][j]; NaN where unknown.

    n (n - 1) / 2 comparisons. Reasons of failures go to `bench.failures`.

    Raises: OutOfBudget where the whole round robin does not fit; what `Workbench.ask` raises for a preference that does not tell its price.
    """
    problem, n = bench.problem, len(trajectories)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]

    async def duel(i: int, j: int) -> float:
        try:
            verdict = await preference.compare(problem, trajectories[i], trajectories[j])
        except FAILURES as error:
            verdict = Preferred(math.nan, f"comparing failed: {error}")
        if verdict.reason is not None:
            bench.failures.append(verdict.reason)
        return verdict.value

    async def all_duels() -> list[float]:
        return list(await asyncio.gather(*(duel(i, j) for i, j in pairs)))

    matrix = [[math.nan] * n for _ in range(n)]
    if pairs:
        price = price_of_pairs(preference, problem, [(trajectories[i], trajectories[j]) for i, j in pairs])
        for (i, j), value in zip(pairs, await bench.ask(all_duels(), calls=len(pairs) * calls_of(preference), price=price), strict=True):
            matrix[i][j], matrix[j][i] = value, 1.0 - value
    return matrix


def calls_of(preference: Preference) -> int:
    """How many calls of a budget a comparison counts as: one where the preference does not tell."""
    return preference.calls if isinstance(preference, CountedPreference) else 1


def price_of_pairs(preference: Preference, problem: Problem, pairs: Sequence[tuple[Trajectory, Trajectory]]) -> Usage | None:
    """The most that the pairs may charge together; None where the preference does not tell."""
    if not isinstance(preference, PricedPreference):
        return None
    prices = [preference.price(problem, a, b) for a, b in pairs]
    return None if None in prices else Usage.total(price for price in prices if price is not None)


def _sigmoid(x: float) -> float:
    if math.isnan(x):
        return x
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))
