"""Selecting among candidates by their keys: pure functions on numbers, with the random numbers given. Plain top-k on nodes is `core.top`.

Unknown (NaN) keys come after every known one. Nothing here knows nodes or draws random numbers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepward.core.errors import CountMismatch, InputError


def top_k(keys: Sequence[float], k: int) -> list[int]:
    """Indices of the k largest keys, best first; ties go to the first, unknown keys come last."""
    return sorted(range(len(keys)), key=lambda index: (math.isnan(keys[index]), 0.0 if math.isnan(keys[index]) else -keys[index]))[:k]


def near_max(keys: Sequence[float], k: int, *, delta: float, uniforms: Sequence[float]) -> list[int]:
    """k indices without replacement, each uniform among the remaining ones whose key is within `delta` of the largest remaining key.

    `uniforms`: k numbers in [0, 1), one a place. delta 0 chooses among exact ties, infinity among all that are known. Unknown keys fill what is left, in order.
    (Random Greedy of BPP-Search, 2024.)

    Raises: InputError for a negative delta; CountMismatch for too few random numbers.
    """
    if not delta >= 0.0:
        raise InputError(f"delta must be at least 0, got {delta!r}")
    n = min(k, len(keys))
    if len(uniforms) < n:
        raise CountMismatch(f"{n} places to fill but {len(uniforms)} random numbers")
    left, picked = top_k(keys, len(keys)), list[int]()
    for uniform in uniforms[:n]:
        best = keys[left[0]]
        near = [index for index in left if keys[index] >= best - delta] or left[:1]
        picked.append(near[_place(uniform, len(near))])
        left.remove(picked[-1])
    return picked


def epsilon_greedy(keys: Sequence[float], *, epsilon: float, uniforms: Sequence[float]) -> int | None:
    """The index of the largest key, or with chance `epsilon` one uniform among all known ones; None when no key is known.

    `uniforms`: two numbers in [0, 1): whether to explore, and where.

    Raises: InputError for epsilon outside [0, 1]; CountMismatch for too few random numbers.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise InputError(f"epsilon must lie in [0, 1], got {epsilon!r}")
    if len(uniforms) < 2:
        raise CountMismatch(f"epsilon_greedy takes two random numbers, got {len(uniforms)}")
    known = [index for index, key in enumerate(keys) if not math.isnan(key)]
    if not known:
        return None
    return known[_place(uniforms[1], len(known))] if uniforms[0] < epsilon else top_k(keys, 1)[0]


def softmax(keys: Sequence[float], *, temperature: float = 1.0) -> list[float]:
    """p_i = exp(key_i / T) / sum_j exp(key_j / T), shape as `keys`; 0 for unknown keys, and all 0 when none is known. T = 0: equal shares of the largest.

    Infinite keys are limits: any +inf share all, -inf gets 0 beside a finite key.

    Raises: InputError for a negative temperature.
    """
    if not temperature >= 0.0:
        raise InputError(f"temperature must be at least 0, got {temperature!r}")
    known = [key for key in keys if not math.isnan(key)]
    if not known:
        return [0.0] * len(keys)
    best = max(known)
    if temperature == 0.0 or math.isinf(best):
        weights = [float(key == best) for key in keys]
    else:
        weights = [0.0 if math.isnan(key) else math.exp((key - best) / temperature) for key in keys]
    total = sum(weights)
    return [weight / total for weight in weights]


def _place(uniform: float, n: int) -> int:
    return min(n - 1, int(uniform * n))
