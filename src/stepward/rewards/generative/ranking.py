"""Ranking from duels: knockout, Elo and Borda. Pure functions; who decides a duel is the caller's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import Floats, InputError

Duel = tuple[int, int, float]
"""(i, j, d): d in [0, 1] is how far i is preferred to j (1 a win, 0.5 a draw, 0 a loss); NaN: undecided."""


@dataclass(frozen=True)
class Knockout:
    """The winner's index, and the duels in the order of the rounds."""

    winner: int
    duels: tuple[Duel, ...]


async def knockout(n: int, prefer: Callable[[int, int], Awaitable[float]], *, order: Sequence[int] | None = None) -> Knockout:
    """Winners go on, in pairs by `order` (a permutation of 0..n-1; None: as they are), until one is left: n - 1 duels in ceil(log2 n) rounds, each round at
    once.

    `prefer(i, j)` is in [0, 1]; i, the earlier of the two, also wins a draw or an undecided (NaN) duel. The last of an odd number goes on without a duel.
    With an error-free `prefer` the winner is the best.

    Raises: InputError for n < 1 or an order that is no permutation.
    """
    left = list(range(n)) if order is None else list(order)
    if n < 1 or sorted(left) != list(range(n)):
        raise InputError(f"knockout needs n >= 1 and an order of 0..n-1, got n = {n!r}, order = {order!r}")
    duels: list[Duel] = []
    while len(left) > 1:
        pairs = list(zip(left[0::2], left[1::2], strict=False))
        values = await asyncio.gather(*(prefer(i, j) for i, j in pairs))
        duels += [(i, j, value) for (i, j), value in zip(pairs, values, strict=True)]
        left = [j if value < 0.5 else i for (i, j), value in zip(pairs, values, strict=True)] + left[2 * len(pairs) :]
    return Knockout(left[0], tuple(duels))


def elo(duels: Sequence[Duel], n: int, *, step: float = 30.0, start: float = 1500.0) -> Floats:
    """Elo ratings after the duels in order, shape [n]: r_i += step (d - e), r_j -= step (d - e), e = 1 / (1 + 10^((r_j - r_i) / 400)).

    Undecided duels are left out. The ratings' sum stays n * start. They depend on the order of the duels.

    Raises: InputError for an index outside 0..n-1, i = j, or d outside [0, 1].
    """
    ratings = np.full(n, start, dtype=np.float64)
    for i, j, won in duels:
        if not (0 <= i < n and 0 <= j < n and i != j) or not (math.isnan(won) or 0.0 <= won <= 1.0):
            raise InputError(f"a duel is (i, j, d) with i != j in 0..{n - 1} and d in [0, 1], got {(i, j, won)!r}")
        if not math.isnan(won):
            change = step * (won - 1.0 / (1.0 + 10.0 ** ((ratings[j] - ratings[i]) / 400.0)))
            ratings[i] += change
            ratings[j] -= change
    return ratings


def borda(preferences: ArrayLike) -> Floats:
    """Mean preference of each over the others, shape [G], from P[i, j] = how far i is preferred to j, shape [G, G]; the diagonal is ignored, NaN is left out.

    b_i = mean over known j != i of P[i, j]; NaN where nothing is known. With P = 0.5 + (r_i - r_j) it orders like r.

    Raises: InputError for another shape.
    """
    matrix = np.array(preferences, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"borda takes a matrix of shape [G, G], got {matrix.shape}")
    np.fill_diagonal(matrix, np.nan)
    known = ~np.isnan(matrix)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, matrix, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)
