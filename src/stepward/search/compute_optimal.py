"""Compute-optimal selection: which strategy serves problems of which difficulty. The table is fitted on results; the strategy below applies it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Aggregation, InputError, Node, RewardModel, check_aggregation
from stepward.core.aggregation import Floats
from stepward.search.choose import argmax
from stepward.search.evaluator import Evaluator, Scored, set_value
from stepward.search.guided_tree import GuidedTree
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy, plain
from stepward.search.workbench import Workbench


@dataclass(frozen=True)
class DifficultyTable:
    """Bin b is [edges[b-1], edges[b]) on the scale of an ease, a pass rate or a mean score: high is easy. `choices[b]` is the index of its strategy."""

    edges: tuple[float, ...]
    choices: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.choices) != len(self.edges) + 1:
            raise InputError(f"a table with {len(self.edges)} edges has {len(self.edges) + 1} bins, got {len(self.choices)} choices")
        if any(not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise InputError(f"the edges of difficulty bins must increase, got {list(self.edges)}")

    def bin(self, ease: float) -> int:
        """0 is the hardest bin. An unknown ease is hard."""
        return 0 if math.isnan(ease) else bisect_right(self.edges, ease)

    def choice(self, ease: float) -> int:
        """Index of the strategy for a problem of this ease."""
        return self.choices[self.bin(ease)]


def quantile_edges(ease: ArrayLike, n_bins: int = 5) -> tuple[float, ...]:
    """Edges of bins with equal numbers of problems (quintiles by default); equal eases share a bin, which may leave fewer bins."""
    known = np.asarray(ease, dtype=np.float64)
    known = known[~np.isnan(known)]
    if n_bins < 1 or not known.size:
        raise InputError(f"bins need at least one problem of known ease, and n_bins >= 1; got {known.size} and {n_bins}")
    edges = np.unique(np.quantile(known, np.arange(1, n_bins) / n_bins))
    return tuple(float(edge) for edge in edges if edge > known.min())


def fit_table(
    ease: ArrayLike, outcomes: ArrayLike, *, edges: Sequence[float] | None = None, n_bins: int = 5, costs: ArrayLike | None = None
) -> DifficultyTable:
    """In every bin the strategy with the largest mean outcome; the cheaper one of equals, then the first. Bins without problems take the best one overall.

    ease: [P], NaN unknown. outcomes: [P, K] of problem p under strategy k in [0, 1]; NaN is left out. costs: [K]. `edges` default to quantiles of the ease.
    On the problems that it was fitted on it is at least as good as every single strategy; see `held_out` for others. Strategies should be compared at equal
    compute. (Snell et al., Scaling LLM Test-Time Compute Optimally, 2024: quintiles of difficulty.)
    """
    difficulty, results = _checked(ease, outcomes)
    price = np.zeros(results.shape[1]) if costs is None else np.asarray(costs, dtype=np.float64)
    borders = tuple(float(edge) for edge in edges) if edges is not None else quantile_edges(difficulty, n_bins)
    bins = _bins(difficulty, borders)
    overall = _best(results, price)
    choices = [_best(results[bins == b], price) if (bins == b).any() else overall for b in range(len(borders) + 1)]
    return DifficultyTable(borders, tuple(overall if choice is None else choice for choice in choices) if overall is not None else (0,) * (len(borders) + 1))


def held_out(ease: ArrayLike, outcomes: ArrayLike, *, n_bins: int = 5, edges: Sequence[float] | None = None, costs: ArrayLike | None = None) -> Floats:
    """Outcome of every problem, [P], under the table fitted on the other fold; the folds are the problems of even and of odd position."""
    difficulty, results = _checked(ease, outcomes)
    found = np.full(len(difficulty), np.nan)
    for fold in (0, 1):
        mine = np.arange(len(difficulty)) % 2 == fold
        table = fit_table(difficulty[~mine], results[~mine], edges=edges, n_bins=n_bins, costs=costs)
        found[mine] = [results[p, table.choice(difficulty[p])] for p in np.flatnonzero(mine)]
    return found


_DRAFT = "a draft, judged for difficulty only"


@dataclass(frozen=True, kw_only=True)
class ComputeOptimal(Strategy):
    """Estimate how hard the problem is from `drafts` solutions, then go on with the strategy that a table gives for such problems.

    Ease: the mean value of the drafts' scores, which is how one knows it without the answer. Bins: [0, edges[0]), ..., [edges[-1], 1]; `choices[b]` is the
    place of the bin's strategy in `strategies`. The defaults give one strategy to each of the absolute bins hard < 10 %, medium, easy >= 50 % in the order
    hard, medium, easy. `fit_table` makes edges and choices from results, `held_out` checks them by 2-fold cross-validation. The drafts are candidates too
    where the chosen strategy judges as they were judged (same model and aggregation). To any other their answers are there, but not their values, which have
    a scale of their own; the best draft then answers only where that strategy chooses nothing. Every part uses this strategy's policy, environment, sampling
    and budget. `source["notes"]`: ease, bin, strategy.

    Cost: drafts solutions and scores, then what the chosen strategy costs. Scaling LLM Test-Time Compute Optimally (2024): quintiles of pass@1 or of mean
    scores, two folds; the absolute bins are those of its reward-aware variant, Can 1B LLM Surpass 405B LLM? (2025).
    """

    model: RewardModel
    strategies: tuple[Strategy, ...]
    edges: tuple[float, ...] = (0.1, 0.5)
    choices: tuple[int, ...] = (0, 1, 2)
    drafts: int = 4
    aggregation: Aggregation = "last"

    name = "compute-optimal"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, drafts=self.drafts, strategies=len(self.strategies))
        check_aggregation(self.aggregation)
        for choice in self.table.choices:
            if not 0 <= choice < len(self.strategies):
                raise InputError(f"ComputeOptimal.choices name places 0 to {len(self.strategies) - 1} of its strategies, got {choice}")

        for part in self.strategies:
            if plain([part.policy, part.environment, part.sampling]) != plain([self.policy, self.environment, self.sampling]):
                raise InputError(f"strategy {part.name} of ComputeOptimal has another policy, environment or sampling; give all of them the same")
            if isinstance(part, ComputeOptimal):
                raise InputError("a strategy of ComputeOptimal cannot be another ComputeOptimal; give one more bins instead")

    @property
    def evaluator(self) -> Evaluator:
        """What a draft is worth."""
        return Scored(model=self.model, aggregation=self.aggregation)

    @property
    def table(self) -> DifficultyTable:
        """Edges and choices."""
        return DifficultyTable(tuple(self.edges), tuple(self.choices))

    async def grow(self, bench: Workbench) -> None:
        drafts = await bench.complete([bench.root], self.drafts)
        await self.evaluator.evaluate(bench, drafts)
        known = [node.value for node in drafts if not math.isnan(node.value)]
        ease = sum(known) / len(known) if known else math.nan
        place = self.table.choice(ease)
        bench.notes.update(ease=None if math.isnan(ease) else ease, bin=self.table.bin(ease), strategy=place)
        chosen = self.strategies[place]
        theirs = chosen.values if isinstance(chosen, GuidedTree) else getattr(chosen, "evaluator", None)
        if plain(theirs) != plain(self.evaluator):
            for node in drafts:
                set_value(node, math.nan, node.reason or _DRAFT)
        await chosen.grow(bench)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        place = bench.notes.get("strategy")
        chosen = super().choose(bench, ends) if place is None else self.strategies[place].choose(bench, ends)
        if chosen is not None or place is None:
            return chosen
        return argmax([end.scores.overall(self.aggregation) if end.reason == _DRAFT and end.scores is not None else math.nan for end in ends])


def _checked(ease: ArrayLike, outcomes: ArrayLike) -> tuple[Floats, Floats]:
    difficulty, results = np.asarray(ease, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if difficulty.ndim != 1 or results.ndim != 2 or len(difficulty) != len(results) or not results.size:
        raise InputError(f"give one ease a problem [P] and outcomes [P, K] of P problems and K strategies, got {difficulty.shape} and {results.shape}")
    return difficulty, results


def _bins(ease: Floats, edges: Sequence[float]) -> np.typing.NDArray[np.intp]:
    return np.where(np.isnan(ease), 0, np.searchsorted(np.array(edges), ease, side="right"))


def _best(results: Floats, costs: Floats) -> int | None:
    """The strategy of largest mean, of smallest cost among equals; None where nothing is known."""
    known = (~np.isnan(results)).sum(axis=0)
    means = np.where(known > 0, np.nansum(results, axis=0) / np.maximum(known, 1), -np.inf)
    if not known.any():
        return None
    return int(min(range(len(means)), key=lambda k: (-means[k], costs[k], k)))
