"""Choosing among finished candidates: pure functions on answers and weights. Ties go to the first; unknown never beats known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepward.core.errors import CountMismatch


def argmax(weights: Sequence[float]) -> int | None:
    """Index of the largest weight; None when all are unknown (NaN)."""
    known = [index for index, weight in enumerate(weights) if not math.isnan(weight)]
    return max(known, key=lambda index: weights[index]) if known else None


def weighted_vote(answers: Sequence[str | None], weights: Sequence[float]) -> int | None:
    """Representative of the answer a that maximises sum of w_i over {i: answer_i = a}: its candidate of largest weight.

    Candidates without an answer or with an unknown weight do not vote; None when nobody votes. If a weight is negative, all are first
    mapped to [0, 1] by their minimum and maximum (all 1 when they are equal), so that more votes never count against an answer.
    """
    if len(answers) != len(weights):
        raise CountMismatch(f"{len(answers)} answers but {len(weights)} weights")
    voters = [index for index, (answer, weight) in enumerate(zip(answers, weights, strict=True)) if answer is not None and not math.isnan(weight)]
    if not voters:
        return None
    mapped = _non_negative({index: weights[index] for index in voters})
    totals: dict[str | None, float] = {}
    for index in voters:
        totals[answers[index]] = totals.get(answers[index], 0.0) + mapped[index]
    winner = max(totals, key=lambda answer: totals[answer])
    return max((index for index in voters if answers[index] == winner), key=lambda index: mapped[index])


def majority_vote(answers: Sequence[str | None]) -> int | None:
    """Index of the first candidate with the most frequent answer; None when no candidate states an answer (Wang et al., Self-Consistency, 2022)."""
    return weighted_vote(answers, [1.0] * len(answers))


def _non_negative(weights: dict[int, float]) -> dict[int, float]:
    low, high = min(weights.values()), max(weights.values())
    if low >= 0.0:
        return weights
    return {index: (weight - low) / (high - low) if high > low else 1.0 for index, weight in weights.items()}
