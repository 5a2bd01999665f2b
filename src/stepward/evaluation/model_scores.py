"""Scores of many models on the same solutions: calibrated, fused and compared without running a model again. Reading the files is in `scores_file`.

Shapes: M models, n solutions, S steps of the longest one. Values are NaN beyond a solution's scored steps.

Such files often score a solution up to and including its first error only. First-error metrics lose nothing by it. As calibration data it means that a step
is seen only as long as nothing has gone wrong before it: targets are 1 before the first error and 0 at it, and what is calibrated is the chance that a step is
right *given that all before it are*. A model of "no error so far" that is calibrated over whole solutions looks too unsure here, because the steps that are
left out are all bad. Solution-level aggregates would leak the label, because where the scores end tells where the error is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stepward.core import Floats, InputError, StepScores
from stepward.evaluation.first_error import ScoredItem, f1_of_totals
from stepward.evaluation.scores_file import UNSCORED, ScoreRow
from stepward.evaluation.threshold import best_range
from stepward.rewards.combine.fuse import RULES, fuse

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """`values` [M, n, S]: the models' probabilities that a step is right; `truth` [n]: first errors, -1 for none; `n_scored` [n]: steps with scores."""

    models: tuple[str, ...]
    ids: tuple[str, ...]
    truth: NDArray[np.int64]
    n_scored: NDArray[np.int64]
    values: Floats

    @classmethod
    def from_rows(cls, rows: Sequence[ScoreRow], models: Sequence[str]) -> ScoreTable:
        """Raises: InputError for a model that did not score every row, or scores that are no probabilities."""
        n_scored = np.array([len(next(iter(row.scores.values()))) for row in rows], dtype=np.int64)
        values = np.full((len(models), len(rows), int(n_scored.max(initial=0))), np.nan)
        for m, model in enumerate(models):
            for r, row in enumerate(rows):
                if model not in row.scores:
                    raise InputError(f"model {model!r} has no scores in row {row.id!r}; it has: {', '.join(sorted(row.scores))}")
                values[m, r, : n_scored[r]] = row.scores[model]
        known = values[~np.isnan(values)]
        if known.size and (known.min() < 0.0 or known.max() > 1.0):
            raise InputError(f"a table of scores holds probabilities, got {known.min():.6g} to {known.max():.6g}; calibrate other scales first")
        truth = np.array([row.label for row in rows], dtype=np.int64)
        return cls(models=tuple(models), ids=tuple(row.id for row in rows), truth=truth, n_scored=n_scored, values=values)

    def rows(self, chosen: Bools) -> ScoreTable:
        """The table of some solutions only; `chosen` [n]."""
        ids = tuple(identity for identity, kept in zip(self.ids, chosen, strict=True) if kept)
        return replace(self, ids=ids, truth=self.truth[chosen], n_scored=self.n_scored[chosen], values=self.values[:, chosen])

    def of(self, model: str) -> Floats:
        """[n, S] of one model."""
        return np.asarray(self.values[self.models.index(model)])

    def items(self, values: Floats) -> list[ScoredItem]:
        """Any values [n, S] of these solutions as scored solutions."""
        made = []
        for r, identity in enumerate(self.ids):
            row = values[r, : self.n_scored[r]]
            scores = StepScores(row, tuple(UNSCORED if np.isnan(value) else None for value in row))
            made.append(ScoredItem(id=identity, problem=identity, truth=int(self.truth[r]), scores=scores))
        return made

    def step_pairs(self, values: Floats) -> tuple[Floats, Floats, tuple[str, ...]]:
        """(scores, targets, solution of each), over the steps up to and including the first error: 1 before it, 0 at it."""
        step = np.arange(values.shape[1])
        end = np.where(self.truth < 0, self.n_scored, self.truth + 1)
        kept = (step < end[:, None]) & ~np.isnan(values)
        targets = (step != self.truth[:, None]).astype(np.float64)
        return values[kept], targets[kept], tuple(self.ids[r] for r in np.nonzero(kept)[0])

    def mapped(self, maps: Mapping[str, Callable[[Floats], Floats]]) -> ScoreTable:
        """The table with every model's values sent through its map."""
        return replace(self, values=np.stack([maps[model](self.of(model)) for model in self.models]))

    def fused(self, models: Sequence[str], rule: str, *, k: float = 1.0) -> Floats:
        """[n, S]: the rule of `rewards.combine.fuse` over some models; unknown where any of them is."""
        members = np.stack([self.of(model) for model in models])
        flat = members.reshape(len(models), -1)
        value, _ = fuse(flat, rule, k=k)
        value = np.where(np.isnan(flat).any(axis=0), np.nan, np.clip(value, 0.0, 1.0))
        return value.reshape(members.shape[1:])

    def right_ranges(self, values: Floats) -> tuple[Bools, Floats, Floats]:
        """(wrong, low, high) [n]: at thresholds in (low, high] the first error is predicted exactly; NaN where at none. As `threshold.right_ranges`."""
        step = np.arange(values.shape[1])
        wrong = self.truth >= 0
        before = step < np.where(wrong, self.truth, self.n_scored)[:, None]
        high = np.min(np.where(before, values, np.inf), axis=1, initial=np.inf)
        low = np.where(wrong, values[np.arange(len(values)), np.maximum(self.truth, 0)], -np.inf)
        never = np.isnan(np.where(before, values, 0.0)).any(axis=1) | np.isnan(low) | (low >= high)
        return wrong, np.where(never, np.nan, low), np.where(never, np.nan, high)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Some models, fused by a rule ("single" for one model), with the cross-validated F1 (percent) that it was chosen by."""

    models: tuple[str, ...]
    rule: str
    selection_f1: float


def rank_candidates(table: ScoreTable, *, sizes: Sequence[int] = (1, 2, 3), rules: Sequence[str] = RULES, folds: int = 5, seed: int = 0) -> list[Candidate]:
    """Every set of models of these sizes under every rule, best cross-validated F1 of first errors first.

    Cross-validation: solutions are dealt into `folds` at random by the seed; each fold is predicted at the threshold chosen on the others
    (`threshold.choose_threshold`), and F1 is taken over all predictions together. Ties: fewer models, then the order of `rules`, then names. lcb has k = 1.
    For two models median is mean and lcb is min, so these are not tried twice. The winner's F1 is optimistic, being the best of many: report another set.
    """
    fold = np.random.default_rng(seed).permutation(len(table.ids)) % folds
    found = []
    for models, rule in candidate_sets(table.models, sizes, rules):
        values = table.of(models[0]) if rule == "single" else table.fused(models, rule)
        found.append(Candidate(models=models, rule=rule, selection_f1=_cross_validated_f1(table.right_ranges(values), fold)))
    return sorted(found, key=lambda candidate: (-round(candidate.selection_f1, 9), len(candidate.models)))  # stable: otherwise in the order tried


def candidate_sets(models: Sequence[str], sizes: Sequence[int], rules: Sequence[str] = RULES) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every set of models of these sizes with every rule that differs from those before it."""
    for size in sizes:
        tried = ["single"] if size == 1 else [rule for rule in rules if size > 2 or rule in ("mean", "min")]
        for rule in tried:
            yield from ((chosen, rule) for chosen in combinations(models, size))


def _cross_validated_f1(ranges: tuple[Bools, Floats, Floats], fold: NDArray[np.int64]) -> float:
    wrong, low, high = ranges
    right = np.zeros(len(wrong), dtype=bool)
    for held_out in range(int(fold.max()) + 1):
        here = fold == held_out
        limit = best_range(wrong[~here], low[~here], high[~here], "f1", ends=(0.0, 1.0)).threshold
        right[here] = (low[here] < limit) & (limit <= high[here])
    totals = np.array([(right & wrong).sum(), wrong.sum(), (right & ~wrong).sum(), (~wrong).sum()], dtype=np.float64)
    return float(f1_of_totals(totals)[2])
