"""Chain: the evidence about one trajectory, counted by prefix and step. What follows from it is in `changepoint`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stepward.core import Floats, Trajectory
from stepward.labeling.completer import Rollout

Ints = NDArray[np.int64]


@dataclass(eq=False)
class Chain:
    """Counts for a trajectory of S steps whose outcome is `outcome` (None: not known, or not ended).

    successes, rollouts: [S + 1], graded rollouts drawn from exactly each prefix; reached: [S + 1], whether a successful rollout passed through it.
    passes, deviations: [S], how many rollouts that stood before step i wrote the very same step, and how many another.
    others: [S, 3], log-likelihoods of evidence that is not a rollout, if step i comes before, is, or comes after the first error.
    """

    n_steps: int
    outcome: bool | None = None
    successes: Ints = field(init=False)
    rollouts: Ints = field(init=False)
    reached: NDArray[np.bool_] = field(init=False)
    passes: Ints = field(init=False)
    deviations: Ints = field(init=False)
    others: Floats = field(init=False)

    def __post_init__(self) -> None:
        n = self.n_steps
        self.successes, self.rollouts = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
        self.reached = np.zeros(n + 1, dtype=bool)
        self.passes, self.deviations = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.others = np.zeros((n, 3))

    @property
    def n_open(self) -> int:
        """Number of steps whose prefix can be rolled out; prefixes 0..n_open are open. A graded last step is not."""
        return self.n_steps - 1 if self.outcome is not None else self.n_steps

    def add(self, trajectory: Trajectory, rollouts: Iterable[Rollout]) -> None:
        """Count rollouts from prefixes of `trajectory`. Those that could not be graded still tell which steps they share."""
        for rollout in rollouts:
            keys, at = rollout.end.keys, rollout.start
            while at < self.n_steps and at + 1 < len(keys) and keys[at + 1] == trajectory.keys[at + 1]:
                self.passes[at] += 1
                at += 1
            if at < self.n_steps and at + 1 < len(keys):
                self.deviations[at] += 1
            if rollout.success is not None:
                self.rollouts[rollout.start] += 1
                if rollout.success:
                    self.successes[rollout.start] += 1
                    self.reached[: at + 1] |= np.arange(at + 1) >= rollout.start

    def pool(self, successes: int, rollouts: int) -> None:
        """Count solutions of the same problem that were sampled before: rollouts from the empty prefix, for nothing."""
        self.successes[0] += successes
        self.rollouts[0] += rollouts
        self.reached[0] |= successes > 0

    def hear(self, step: int, before: float, at: float, after: float) -> None:
        """Add the log-likelihoods of one observation about a step."""
        if any(math.isnan(value) for value in (before, at, after)):
            raise ValueError(f"log-likelihoods must be numbers, got {(before, at, after)}")
        self.others[step] += (before, at, after)
