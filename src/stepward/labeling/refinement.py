"""Step refinement: an agent's own actions against an expert's, state by state, where rollouts say that one is better."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stepward.core import Environment, InputError, Outcome, Policy, Sampling, Step, Trajectory, Usage, canonical_json, content_hash, metered
from stepward.labeling.completer import Completer, Rollout, RolloutBank
from stepward.labeling.pairs import StepPair
from stepward.labeling.probing import Drawn, draw


@dataclass(frozen=True)
class Refinement:
    """The pairs of one expert trajectory. `reasons`: why a step could not be compared, by step. `usage`: what it cost."""

    pairs: tuple[StepPair, ...]
    n_compared: int
    reasons: dict[int, str]
    usage: Usage


@dataclass(frozen=True)
class _Move:
    """What one side does at a state: its steps to the end, the final reward, and the reward that rollouts find after its first step."""

    steps: tuple[Step, ...]
    final: float
    reward: float


@dataclass(frozen=True, kw_only=True)
class StepRefinement:
    """Pairs for iterative step-level refinement of an agent (Watch Every Step! LLM Agent Learning via Iterative Step-Level Process Refinement, 2024).

    At every state of an expert's trajectory the agent (`policy`) goes on by itself to the end. A step's reward is the mean final reward of `n` rollouts of
    the agent after it, for the agent's own action and for the expert's alike. The two make a pair when the final rewards differ by more than
    `trajectory_margin` and the step rewards by more than `step_margin`, in the same direction; whoever is ahead is chosen, the agent too.
    `unit` "step": pairs of the two actions; "suffix": of all steps to the end. `whole` adds a pair of the whole trajectories, on final rewards alone.
    Train the agent on the pairs and run again: that is the iteration.

    Rewards are the environment's outcomes in [0, 1]. An outcome that is not known makes no pair. Equal actions make no pair.
    Differences: `explorations` may be more than one; ALFWorld's rule that a shorter solution wins is not here; a state without rollouts makes no pair, theirs
    falls back to the environment's step reward.
    """

    policy: Policy
    environment: Environment
    sampling: Sampling = Sampling(temperature=1.0)
    n: int = 5
    step_margin: float = 0.35
    trajectory_margin: float = 0.2
    explorations: int = 1
    unit: Literal["step", "suffix"] = "step"
    whole: Literal["leave", "add"] = "leave"

    def __post_init__(self) -> None:
        if self.n < 1 or self.explorations < 1:
            raise InputError(f"StepRefinement needs n >= 1 and explorations >= 1, got n={self.n}, explorations={self.explorations}")
        if not (0.0 <= self.step_margin < 1.0 and 0.0 <= self.trajectory_margin < 1.0):
            raise InputError(f"StepRefinement's margins must lie in [0, 1), got {self.step_margin}, {self.trajectory_margin}")
        if self.unit not in ("step", "suffix") or self.whole not in ("leave", "add"):
            raise InputError(f"StepRefinement: unit is 'step' or 'suffix' and whole 'leave' or 'add', got {self.unit!r}, {self.whole!r}")

    @property
    def completer(self) -> Completer:
        return Completer(policy=self.policy, environment=self.environment, sampling=self.sampling)

    @property
    def fingerprint(self) -> str:
        own = [self.n, self.step_margin, self.trajectory_margin, self.explorations, self.unit, self.whole]
        return f"step-refinement/{content_hash(canonical_json([*self.completer.parts, *own]))}"

    def describe(self) -> dict[str, Any]:
        own = {"n": self.n, "step_margin": self.step_margin, "trajectory_margin": self.trajectory_margin, "unit": self.unit}
        return {"method": "step-refinement", **self.completer.describe(), **own}

    async def refine(self, expert: Trajectory) -> Refinement:
        """The pairs at every state of an expert's trajectory. What the agent wrote from a state also counts as a rollout after the expert's step into it.

        Raises: InputError for an expert's trajectory that has not ended.
        """
        if not expert.ended:
            raise InputError("StepRefinement needs an expert's trajectory that has ended; its final reward is compared with the agent's")
        with metered() as ledger:
            bank = RolloutBank(self.completer)
            outcome = await bank.completer.grade(expert)
            sizes = [max(self.n, self.explorations) if at else self.explorations for at in range(len(expert))]
            drawn = await asyncio.gather(*(draw(bank, expert.prefix(at), size) for at, size in enumerate(sizes)))
            states = await asyncio.gather(*(self._state(bank, expert, outcome, drawn, at) for at in range(len(expert))))
        pairs = [pair for made, _, _ in states for pair in made]
        reasons = {at: reason for at, (_, _, reason) in enumerate(states) if reason is not None}
        return Refinement(tuple(pairs), sum(compared for _, compared, _ in states), reasons, ledger.usage)

    async def _state(self, bank: RolloutBank, expert: Trajectory, outcome: Outcome, drawn: Sequence[Drawn], at: int) -> tuple[list[StepPair], int, str | None]:
        """Pairs at the state before step `at`, the number of comparisons, and what went missing."""
        explored = drawn[at].rollouts[: self.explorations]
        if outcome.value is None or not explored:
            return [], 0, drawn[at].reason if not explored else f"the expert's outcome is not known: {outcome.reason}"
        last = at + 1 == len(expert)
        theirs = _Move(expert.steps[at:], outcome.value, outcome.value if last else mean_reward(drawn[at + 1].rollouts[: self.n]))
        pairs, compared, reason, rewards = [], 0, None, {expert.prefix(at + 1).key: theirs.reward}
        for rollout in explored:
            final = rollout.outcome.value
            if final is None or len(rollout.end) <= at:
                reason = rollout.outcome.reason or "the agent wrote nothing"
                continue
            after = rollout.end.prefix(at + 1)
            if after.key not in rewards:
                rewards[after.key] = final if after.ended else mean_reward((await draw(bank, after, self.n)).rollouts)
            ours = _Move(rollout.end.steps[at:], final, rewards[after.key])
            if math.isnan(ours.reward) or math.isnan(theirs.reward):
                reason = "no rollout after one of the two actions could be graded"
                continue
            compared += 1
            pairs += self._compare(expert.prefix(at), ours, theirs)
            if at == 0 and self.whole == "add":
                pairs += self._whole(expert.prefix(0), ours, theirs)
        return pairs, compared, reason

    def _compare(self, prefix: Trajectory, ours: _Move, theirs: _Move) -> list[StepPair]:
        """The pair of the two moves, or none."""
        if ours.steps[0].key == theirs.steps[0].key:
            return []
        sign = 1 if ours.reward > theirs.reward else -1
        gap, final = sign * (ours.reward - theirs.reward), sign * (ours.final - theirs.final)
        if gap <= self.step_margin or final <= self.trajectory_margin:
            return []
        better, worse = (ours, theirs) if sign > 0 else (theirs, ours)
        n_steps = 1 if self.unit == "step" else None
        source = {**self.describe(), "fingerprint": self.fingerprint, "winner": "agent" if sign > 0 else "expert", "final": [better.final, worse.final]}
        return [StepPair(prefix, better.steps[:n_steps], worse.steps[:n_steps], gap, source | {"rewards": [better.reward, worse.reward]})]

    def _whole(self, prefix: Trajectory, ours: _Move, theirs: _Move) -> list[StepPair]:
        """The pair of the whole trajectories, on final rewards alone."""
        sign = 1 if ours.final > theirs.final else -1
        gap = sign * (ours.final - theirs.final)
        if gap <= self.trajectory_margin:
            return []
        better, worse = (ours, theirs) if sign > 0 else (theirs, ours)
        source = {**self.describe(), "fingerprint": self.fingerprint, "unit": "trajectory", "winner": "agent" if sign > 0 else "expert"}
        return [StepPair(prefix, better.steps, worse.steps, gap, source | {"final": [better.final, worse.final]})]


def mean_reward(rollouts: Sequence[Rollout]) -> float:
    """Mean outcome in [0, 1] of the rollouts that have one; NaN without any."""
    known = [rollout.outcome.value for rollout in rollouts if rollout.outcome.value is not None]
    return math.fsum(known) / len(known) if known else math.nan
