"""Intervention: when to ask for help, as dynamic programming on a table. Pure functions on arrays; the strategy that acts on the table is in helper.py."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepward.core import InputError
from stepward.core.aggregation import Floats

Helps = NDArray[np.bool_]


@dataclass(frozen=True)
class Chances:
    """Where a step leads, alone and with help: `alone` and `helped` of shape [S, S], or [T, S, S] where it depends on the number of steps so far (from T on as
    at T - 1); each row is a distribution over the next state. `worth`: shape [S], the value of a state that ends the episode (success in [0, 1]) and NaN for
    the others; rows of ending states do not count."""

    alone: Floats
    helped: Floats
    worth: Floats

    def __post_init__(self) -> None:
        for name in ("alone", "helped", "worth"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        size = len(self.worth)
        if self.alone.shape[-2:] != (size, size) or self.alone.shape != self.helped.shape or self.alone.ndim not in (2, 3) or not self.alone.size:
            raise InputError(
                f"Chances need alone and helped of shape [S, S] or [T, S, S] for worth of shape [S], got {self.alone.shape}, {self.helped.shape}, [{size}]"
            )
        for rows in (self.alone[..., self.going, :], self.helped[..., self.going, :]):
            if (rows < 0.0).any() or not np.allclose(rows.sum(axis=-1), 1.0):
                raise InputError("every row of alone and helped must be a distribution over the next state")
        ends = self.worth[~self.going]
        if (ends < 0.0).any() or (ends > 1.0).any():
            raise InputError("the worth of an ending must lie in [0, 1]")

    @property
    def going(self) -> Helps:
        """Which states do not end the episode, shape [S]."""
        return np.isnan(self.worth)

    def at(self, t: int) -> tuple[Floats, Floats]:
        """`alone` and `helped` at step t, [S, S] each."""
        if self.alone.ndim == 2:
            return self.alone, self.helped
        step = min(t, len(self.alone) - 1)
        return self.alone[step], self.helped[step]


@dataclass(frozen=True)
class Plan:
    """The best plan for one price of help. helps[t, s]: ask for help at step t in state s, shape [T, S]. value[t, s] = V: expected worth minus price x helps.
    used[t, s] = U: expected number of helps from there on; both of shape [T + 1, S]. A state that ends has V = worth and U = 0; one still going after T steps
    has V = U = 0. `penalty`: the price."""

    penalty: float
    helps: Helps
    value: Floats
    used: Floats

    def success(self, state: int = 0) -> float:
        """Expected worth from a state at step 0, without the price."""
        return float(self.value[0, state] + self.penalty * self.used[0, state])


def plan(chances: Chances, penalty: float, horizon: int) -> Plan:
    """Value iteration backwards from step `horizon`: V(s) = max{E[V(s') | alone], E[V(s') | helped] - penalty}; U by the same recursion, under the maximiser.

    Ties are decided for fewer expected helps, then against help, so U(penalty) does not increase and is continuous from the right. Penalty 0 helps wherever
    help helps; 1 never helps.
    Raises: InputError for a negative penalty or a horizon below 1.
    """
    if not penalty >= 0.0 or horizon < 1:
        raise InputError(f"plan needs a penalty >= 0 and a horizon of at least one step, got {penalty!r} and {horizon!r}")
    going, n_states = chances.going, len(chances.worth)
    value = np.zeros((horizon + 1, n_states))
    value[:, ~going] = chances.worth[~going]
    used, helps = np.zeros((horizon + 1, n_states)), np.zeros((horizon, n_states), dtype=np.bool_)
    for t in reversed(range(horizon)):
        by_itself, with_help = chances.at(t)
        alone, helped = by_itself @ value[t + 1], with_help @ value[t + 1] - penalty
        fewer = 1.0 + with_help @ used[t + 1] < by_itself @ used[t + 1] - _TIE
        helps[t] = going & ((helped > alone + _TIE) | ((helped >= alone - _TIE) & fewer))
        value[t, going] = np.where(helps[t], helped, alone)[going]
        used[t, going] = np.where(helps[t], 1.0 + with_help @ used[t + 1], by_itself @ used[t + 1])[going]
    return Plan(penalty, helps, value, used)


def cheapest_penalty(chances: Chances, budget: float, horizon: int, *, start: int = 0, tolerance: float = 1e-9) -> Plan:
    """The plan of the smallest penalty whose expected number of helps U(start) is at most `budget`, found by bisection of [0, 1] to within `tolerance`.

    Its success is the largest of all plans that use as many helps or fewer (the vertices of the convex hull of all plans). Budget 0 never asks; a budget of the
    horizon asks wherever help helps. Raises: InputError for a negative budget, or a tolerance that numbers of double precision cannot tell from 0.
    """
    if not tolerance >= 1e-15:
        raise InputError(f"the tolerance of a penalty must be at least 1e-15, got {tolerance!r}")
    if not budget >= 0.0:
        raise InputError(f"the budget is an expected number of helps, at least 0, got {budget!r}")
    best = plan(chances, 0.0, horizon)
    if best.used[0, start] <= budget:
        return best
    low, high = 0.0, 1.0  # U(low) > budget >= U(high) = 0: no help gains more than 1
    best = plan(chances, high, horizon)
    while high - low > tolerance:
        middle = (low + high) / 2.0
        tried = plan(chances, middle, horizon)
        if tried.used[0, start] <= budget:
            high, best = middle, tried
        else:
            low = middle
    return best


@dataclass(frozen=True, kw_only=True)
class Bins:
    """States by the score of the newest step: state 0 before the first step, then one for each interval between `edges` (increasing), then failure and success.

    A score equal to an edge belongs above it. An unscored step keeps the state that was.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))
        if list(self.edges) != sorted(set(self.edges)) or any(math.isnan(edge) for edge in self.edges):
            raise InputError(f"Bins.edges must increase, got {self.edges}")

    @property
    def n_states(self) -> int:
        return len(self.edges) + 4

    @property
    def failure(self) -> int:
        return self.n_states - 2

    @property
    def success(self) -> int:
        return self.n_states - 1

    def state(self, score: float, before: int) -> int:
        return before if math.isnan(score) else 1 + bisect.bisect_right(self.edges, score)


@dataclass(frozen=True)
class Episode:
    """One solution for the table: `scores` of its steps (NaN: unscored), whether each was `helped`, and its `outcome` in [0, 1], None where unknown."""

    scores: tuple[float, ...]
    helped: tuple[bool, ...]
    outcome: float | None

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.helped):
            raise InputError(f"an episode of {len(self.scores)} scores but {len(self.helped)} notes of help")


def tabulate(episodes: Iterable[Episode], bins: Bins, *, horizon: int | None = None) -> Chances:
    """Counted chances of the next state, alone and helped. The last step leads to success with the chance of the outcome, else to failure.

    `horizon` T counts every number of steps so far by itself, [T, S, S]; what was not seen there is taken from the counts of all steps. None counts all steps
    together, [S, S]: fewer episodes do, but solutions then seem to end at any step, and a budget of helps can be misjudged.
    Episodes without an outcome are left out. Where one of the two, help or none, was never seen in a state, help is taken to change nothing there; a state that
    was never seen leads to failure.
    """
    n_states = bins.n_states
    counts = np.zeros((horizon or 1, 2, n_states, n_states))
    for episode in episodes:
        if episode.outcome is None:
            continue
        state, last = 0, len(episode.scores) - 1
        for index, (score, helped) in enumerate(zip(episode.scores, episode.helped, strict=True)):
            row = counts[min(index, len(counts) - 1), int(helped), state]
            if index == last:
                row[[bins.failure, bins.success]] += (1.0 - episode.outcome, episode.outcome)
            else:
                state = bins.state(score, state)
                row[state] += 1.0
    pooled = _completed(counts.sum(axis=0), bins.failure)
    seen = counts.sum(axis=3)
    whole = (seen > 0.0).all(axis=1)  # both were seen, at this step in this state
    shares = np.where(whole[:, None, :, None], counts / np.maximum(seen, 1e-300)[..., None], pooled)
    worth = np.full(n_states, math.nan)
    worth[bins.failure], worth[bins.success] = 0.0, 1.0
    return Chances(pooled[0], pooled[1], worth) if horizon is None else Chances(shares[:, 0], shares[:, 1], worth)


def _completed(counts: Floats, failure: int) -> Floats:
    """Rows of shares [2, S, S] from counts, with those that were never seen filled in (see `tabulate`)."""
    counts = counts.copy()
    seen = counts.sum(axis=2) > 0.0
    for state in range(counts.shape[1]):
        if not seen[:, state].any():
            counts[:, state, failure] = 1.0
        elif not seen[:, state].all():
            counts[:, state] = counts[int(seen[1, state]), state]
    return np.asarray(counts / counts.sum(axis=2, keepdims=True))


def quantile_edges(scores: ArrayLike, n: int) -> tuple[float, ...]:
    """Edges that put about as many of the known scores in each of n intervals; equal ones fall together."""
    known = np.asarray(scores, dtype=np.float64)
    known = known[~np.isnan(known)]
    if n < 1 or not known.size:
        raise InputError(f"quantile_edges needs a score and at least one interval, got {known.size} scores and n={n}")
    return tuple(sorted({float(edge) for edge in np.quantile(known, [k / n for k in range(1, n)])}))


_TIE = 1e-12  # rounding must not look like a gain
