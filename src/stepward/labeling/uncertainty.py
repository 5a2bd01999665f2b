"""Uncertainty of a policy about its own steps, and which solutions to label by it. Pure functions on token log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepward.core import Floats, InputError
from stepward.labeling.maps import min_max


def position_entropy(logprobs: Sequence[float], temperature: float = 5.0) -> float:
    """-sum_j p_j ln p_j with p = softmax over a step's token log-probabilities / temperature; 0 for a step without tokens.

    Of the paper's making (UnPRM, 2025): an entropy over positions, not over what might have been written. It grows with the number of tokens, up to
    ln(tokens) when all are equally likely.
    """
    if not len(logprobs):
        return 0.0
    scaled = np.asarray(logprobs, dtype=np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p = p / p.sum()
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())


def solution_uncertainty(steps: Sequence[float]) -> float:
    """Mean |u_{i+1} - u_i| of the steps' uncertainties; 0 for fewer than two steps."""
    return float(np.mean(np.abs(np.diff(np.asarray(steps, dtype=np.float64))))) if len(steps) > 1 else 0.0


def choose_solutions(uncertainty: Sequence[float] | Floats, similarity: Floats, n: int, *, weight: float = 0.8) -> list[int]:
    """Up to `n` solutions to label, in order: the most uncertain, then greedily argmax of weight u + (1 - weight) (1 - mean similarity to those chosen).

    `uncertainty` [N], min-max scaled here; `similarity` [N, N], e.g. cosines of embeddings. Ties go to the earlier one.
    Raises: InputError for a similarity of another shape.
    """
    scaled = min_max(uncertainty)
    if np.shape(similarity) != (len(scaled), len(scaled)):
        raise InputError(f"choose_solutions: similarity must have shape {(len(scaled), len(scaled))}, got {np.shape(similarity)}")
    chosen: list[int] = []
    while len(chosen) < min(n, len(scaled)):
        far = 1.0 - similarity[:, chosen].mean(axis=1) if chosen else np.zeros(len(scaled))
        worth = np.where(np.isin(np.arange(len(scaled)), chosen), -math.inf, weight * scaled + (1.0 - weight) * far)
        chosen.append(int(np.argmax(worth)))
    return chosen


def order_by_uncertainty(steps: Sequence[float]) -> list[int]:
    """Steps by falling uncertainty; ties keep their order."""
    return sorted(range(len(steps)), key=lambda step: -steps[step])


def order_by_jump(steps: Sequence[float]) -> list[int]:
    """Steps by falling rise of uncertainty over the step before, u_i - u_{i-1}. The first step has none and is left out."""
    return sorted(range(1, len(steps)), key=lambda step: steps[step - 1] - steps[step])
