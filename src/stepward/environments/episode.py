"""Episode: a policy and an environment taking turns. Labelers and searches extend trajectories by `expand` and `complete`, and grade them by `grade`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from stepward.core import DEFAULT_SAMPLING, FAILURES, Environment, Outcome, Policy, Problem, Sampling, Trajectory, Until
from stepward.engine.noise import row_key

GRADING_FAILED = "grading failed"  # how the reason begins where the environment raised


async def expand(
    policy: Policy, environment: Environment, prefix: Trajectory, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
) -> list[Trajectory]:
    """`n` continuations of `prefix` by one step each, with the environment's observation filled in."""
    drawn = await policy.sample(prefix, n, until=Until.STEP, sampling=sampling, draw=draw)
    return list(await asyncio.gather(*(settle(environment, trajectory) for trajectory in drawn)))


async def complete(
    policy: Policy, environment: Environment, prefix: Trajectory, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
) -> list[Trajectory]:
    """`n` continuations of `prefix` to their ends. Draw i of `n` equals draw 0 of a request with `draw=i`.

    Step by step, the noise also depends on `prefix`: a completion that comes by a later prefix would otherwise go on there as the completion of the same draw
    from that prefix does, and the two would be one observation.
    """
    if not environment.interactive:
        return await policy.sample(prefix, n, until=Until.END, sampling=sampling, draw=draw)
    own = replace(sampling, seed=row_key(sampling.seed, prefix.key, 0)[0] >> 34)  # 30 bits, as servers take them

    async def one(offset: int) -> Trajectory:
        trajectory = prefix
        while not trajectory.ended:
            if len(trajectory) >= sampling.max_steps:
                return replace(trajectory, truncated=True)
            (trajectory,) = await expand(policy, environment, trajectory, sampling=own, draw=draw + offset)
        return trajectory

    return list(await asyncio.gather(*(one(offset) for offset in range(n))))


async def settle(environment: Environment, trajectory: Trajectory) -> Trajectory:
    """The trajectory with the environment's answer to its last step."""
    if not environment.interactive:
        return trajectory
    observed = await environment.observe(trajectory)
    return replace(observed, finished=True) if not observed.ended and environment.is_finished(observed) else observed


async def grade(environment: Environment, trajectory: Trajectory) -> Outcome:
    """The trajectory's outcome; unscored with the reason when grading fails, so that what was paid for is not lost with it."""
    try:
        return await environment.grade(trajectory)
    except FAILURES as error:
        return Outcome.unscored(f"{GRADING_FAILED}: {error}")


async def solve(policy: Policy, environment: Environment, problem: Problem, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING) -> list[Trajectory]:
    """`n` solutions of a problem, each with its outcome. Raises what the policy raises when nothing could be sampled."""
    ends = await complete(policy, environment, Trajectory(problem), n, sampling=sampling)
    outcomes = await asyncio.gather(*(grade(environment, end) for end in ends))
    return [end.graded(outcome) for end, outcome in zip(ends, outcomes, strict=True)]
