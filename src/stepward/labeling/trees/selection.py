"""Selection: which node a tree search looks at next. Pure functions on statistics; ties go to the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def omega_quality(mc: float, length: float, *, alpha: float = 0.5, beta: float = 0.9, scale: float = 500.0) -> float:
    """Q(s, r) = alpha^(1 - MC(s)) * beta^(len(r) / L) in (0, 1]: near-right prefixes, short rollouts.

    `mc` in [0, 1]; `length` and `scale` (L) in the same unit. Increasing in mc and decreasing in length for alpha, beta < 1.
    (Improve Mathematical Reasoning in Language Models by Automated Process Supervision, 2024.)
    """
    return float(alpha ** (1.0 - mc) * beta ** (length / scale))


def omega_exploration(visits: int, total_visits: int, *, c_puct: float = 0.125) -> float:
    """U(s) = c_puct * sqrt(sum of all N) / (1 + N(s)), N counting how often a prefix was selected."""
    return c_puct * math.sqrt(total_visits) / (1 + visits)


def uct(value: float, visits: int, parent_visits: int, *, c: float) -> float:
    """value + c * sqrt(ln N_parent / N): infinite before the first visit. ReST-MCTS* writes c sqrt(2) for c."""
    return math.inf if visits == 0 else value + c * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def puct(value: float, prior: float, visits: int, parent_visits: int, *, c: float) -> float:
    """value + c * prior * sqrt(N_parent) / (1 + N)."""
    return value + c * prior * math.sqrt(parent_visits) / (1 + visits)


def first_best(scores: Sequence[float]) -> int:
    """The place of the largest score, the first of equals. Raises: ValueError for none."""
    return max(range(len(scores)), key=scores.__getitem__)


def most_wins(n: int, prefers: Callable[[int, int], bool]) -> list[int]:
    """0..n-1 ordered by how many others each is preferred to, most first; ties keep their order.

    `prefers(i, j)`: whether i is better than j. A transitive preference without ties gives its own order (BPP-Search, 2024: pairs rank leaves that
    pointwise scores cannot tell apart).
    """
    wins = [sum(prefers(i, j) for j in range(n) if j != i) for i in range(n)]
    return sorted(range(n), key=lambda i: -wins[i])
