"""Price: the most that a request may charge, told before it is made. Budgets are kept with it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from stepward.core.protocols import DEFAULT_SAMPLING, Policy, RewardModel
from stepward.core.sampling import Sampling, Until
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage


@runtime_checkable
class PricedPolicy(Protocol):
    """A policy that tells the most that `sample` with these arguments charges. `flops` of 0: it does not count them."""

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage: ...


@runtime_checkable
class PricedModel(Protocol):
    """A reward model that tells the most that `score` of a trajectory charges; None where it cannot know."""

    def price(self, trajectory: Trajectory) -> Usage | None: ...


def price_of_sample(
    policy: Policy, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
) -> Usage:
    """What the policy says, or else the tokens that `sampling` lets it write (see `room`)."""
    if isinstance(policy, PricedPolicy):
        return policy.price(prefix, n, until=until, sampling=sampling, draw=draw)
    written = sum(step.n_tokens or 0 for step in prefix.steps)
    return Usage(policy_tokens=n * room(prefix, written, until=until, sampling=sampling), calls=n)


def room(prefix: Trajectory, written: int, *, until: Until, sampling: Sampling) -> int:
    """The most tokens that one draw may write after a prefix that has `written` ones: min(max_tokens - written, max_step_tokens x steps), at least 0."""
    n_steps = min(1, sampling.max_steps - len(prefix)) if until is Until.STEP else sampling.max_steps - len(prefix)
    return max(0, min(sampling.max_tokens - written, sampling.max_step_tokens * n_steps))


def price_of_score(model: RewardModel, trajectory: Trajectory) -> Usage | None:
    """What the model says; None where it does not tell."""
    return model.price(trajectory) if isinstance(model, PricedModel) else None
