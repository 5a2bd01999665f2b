"""Frontier: which points of (cost x, accuracy y) are worth their cost."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stepward.core import Floats


def dominating(x: Floats, y: Floats, place: int) -> int | None:
    """The cheapest point that costs no more and is no less right than the point at `place`, better in one of the two; None if there is none."""
    if math.isnan(y[place]):
        return None
    better = [
        other
        for other in range(len(x))
        if not math.isnan(y[other]) and x[other] <= x[place] and y[other] >= y[place] and (x[other] < x[place] or y[other] > y[place])
    ]
    return min(better, key=lambda other: (x[other], -y[other])) if better else None


def hull(x: Floats, y: Floats) -> list[int]:
    """The points on the upper left hull, cheapest first: the concave chain from the cheapest to the most right, that no mixture of two points lies above.

    Points with an unknown coordinate are left out; of points at the same place, the first is taken.
    """
    order = sorted((place for place in range(len(x)) if not (math.isnan(x[place]) or math.isnan(y[place]))), key=lambda place: (x[place], -y[place], place))
    chain: list[int] = []
    for place in order:
        if chain and y[place] <= y[chain[-1]]:
            continue
        while len(chain) > 1 and _turns_up(x, y, chain[-2], chain[-1], place):
            chain.pop()
        chain.append(place)
    return chain


def at_hull(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Which points are on the hull; all of those at the same place are."""
    found = np.zeros(len(x), dtype=bool)
    for corner in hull(x, y):
        found |= (x == x[corner]) & (y == y[corner])
    return found


def _turns_up(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    """Whether b lies on or under the line from a to c."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) <= (y[c] - y[a]) * (x[b] - x[a]))
