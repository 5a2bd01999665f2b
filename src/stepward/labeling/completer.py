"""Completer: a policy that finishes prefixes so that their worth is seen, and the rollouts that it makes. No label is decided here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from stepward.core import FAILURES, Environment, Outcome, Policy, Sampling, Trajectory
from stepward.core.labels import Count
from stepward.environments.episode import complete, grade

_APART = 1 << 29  # more than anybody draws, for servers whose noise is that of seed + draw; both stay below 2^31


def apart(sampling: Sampling) -> Sampling:
    """The same sampling with noise of its own, for rollouts of solutions that were sampled with the given one.

    A policy that solves a problem again with the same seed writes the same solutions again: the first rollouts from the bare problem would be the very
    trajectories that are to be labelled, and no evidence about them.
    """
    return replace(sampling, seed=sampling.seed + _APART)


@dataclass(frozen=True)
class Rollout:
    """One graded completion. `start`: steps of the prefix that it continues; `draw`: its number among the draws from that prefix."""

    end: Trajectory
    outcome: Outcome
    start: int
    draw: int

    @property
    def success(self) -> bool | None:
        """Whether it ended right; None when it could not be graded (cut off, unreadable), which is neither."""
        return self.outcome.correct if self.outcome.scored else None

    @property
    def n_tokens(self) -> int:
        """Tokens written after the prefix, as far as the policy counts them."""
        return sum(step.n_tokens or 0 for step in self.end.steps[self.start :])

    @property
    def logprobs(self) -> tuple[float | None, ...]:
        """Natural log-probability of every step that was written after the prefix; None where the policy does not tell."""
        return tuple(step.logprob for step in self.end.steps[self.start :])


@dataclass(frozen=True, kw_only=True)
class Completer:
    """Completes open prefixes with `policy` in `environment` and grades what comes out. Its chance of success is the V that value labels estimate.

    `sampling` needs another seed than the one that wrote the trajectories (`apart`) where the same policy did, or its first draws from the bare problem are
    those trajectories again.
    """

    policy: Policy
    environment: Environment
    sampling: Sampling = Sampling(temperature=1.0)

    @property
    def parts(self) -> list[Any]:
        """What a fingerprint of a method that uses this completer must name."""
        return [self.policy.fingerprint, self.environment.fingerprint, self.sampling.to_record()]

    def describe(self) -> dict[str, Any]:
        return {"policy": self.policy.fingerprint, "environment": self.environment.fingerprint, "sampling": self.sampling.to_record()}

    async def rollouts(self, prefix: Trajectory, n: int, *, draw: int = 0) -> list[Rollout]:
        """Draws `draw` to draw + n - 1 from an open prefix, graded. Raises what the policy raises."""
        ends = await complete(self.policy, self.environment, prefix, n, sampling=self.sampling, draw=draw)
        outcomes = await asyncio.gather(*(self.grade(end) for end in ends))
        return [Rollout(end, outcome, len(prefix), draw + index) for index, (end, outcome) in enumerate(zip(ends, outcomes, strict=True))]

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """The outcome that the trajectory carries, or the environment's."""
        return trajectory.outcome if trajectory.outcome is not None else await grade(self.environment, trajectory)


class RolloutBank:
    """Every rollout that one labelling pays for, by prefix, in the order of its draws. What is asked twice is drawn on, not drawn again.

    A labeler sees nothing but what it drew here, so replaying it on recorded samples gives identical labels.
    """

    def __init__(self, completer: Completer) -> None:
        self.completer = completer
        self.reasons: dict[str, str] = {}  # prefix key: why its last request gave nothing
        self._drawn: dict[str, int] = {}
        self._rollouts: list[Rollout] = []

    async def draw(self, prefix: Trajectory, n: int) -> list[Rollout]:
        """The next `n` rollouts from this open prefix; none, with the reason in `reasons`, when the policy failed."""
        first = self._drawn.get(prefix.key, 0)
        self._drawn[prefix.key] = first + n
        try:
            made = await self.completer.rollouts(prefix, n, draw=first)
        except FAILURES as error:
            self._drawn[prefix.key] = first
            self.reasons[prefix.key] = f"rollouts failed: {error}"
            return []
        self._rollouts += made
        return made

    def at(self, prefix: Trajectory) -> list[Rollout]:
        """The rollouts drawn from exactly this prefix so far."""
        return [rollout for rollout in self._rollouts if rollout.start == len(prefix) and rollout.end.keys[rollout.start] == prefix.key]

    def through(self, prefix: Trajectory) -> list[Rollout]:
        """The rollouts whose text passes through this prefix: those drawn from it, and those from earlier prefixes that came by.

        Given that a rollout came by, how it went on is a draw from this prefix: each is one fair observation of V(prefix). It is also one of every
        earlier prefix that it came from, so counts of different prefixes are then dependent.
        """
        depth = len(prefix)
        return [rollout for rollout in self._rollouts if rollout.start <= depth < len(rollout.end.keys) and rollout.end.keys[depth] == prefix.key]

    def count(self, prefix: Trajectory, *, passing: bool = False) -> Count:
        """Successes, graded and unscored rollouts at this prefix; `passing` counts those of earlier prefixes that came by too."""
        found = [rollout.success for rollout in (self.through(prefix) if passing else self.at(prefix))]
        return Count(sum(success is True for success in found), sum(success is not None for success in found), sum(success is None for success in found))

    def why_none(self, prefix: Trajectory) -> str:
        """Why no rollout from this prefix has a grade."""
        lost = next((rollout.outcome.reason for rollout in self.at(prefix) if rollout.success is None), None)
        return self.reasons.get(prefix.key) or f"no rollout could be graded: {lost or 'none was drawn'}"

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return tuple(self._rollouts)

    @property
    def n_tokens(self) -> int:
        """Tokens written by all rollouts of the bank."""
        return sum(rollout.n_tokens for rollout in self._rollouts)
