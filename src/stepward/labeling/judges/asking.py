"""Asking: one judge asked in other words, or several times over, each time as a reward model of its own. Prompts are in the tasks' files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from stepward.core import FAILURES, InputError, RewardModel, StepScores, Trajectory
from stepward.rewards.generative.model import GenerativeModel
from stepward.rewards.generative.task import JudgeTask

_STRIDE = 1 << 20  # between the seeds of draws, so that draws of one seed are not those of the next
_WARM = 0.7  # as a second answer of a greedy judge (`rewards.generative.asking`)


@runtime_checkable
class Varied(Protocol):
    """A judge without prompts that knows how to be asked in another way (`stepward.testing.noisy_judge`)."""

    def variant(self, name: str) -> RewardModel: ...


def with_task(judge: RewardModel, task: JudgeTask) -> RewardModel:
    """The same judge (policy, k, sampling, how it is read) with another task.

    Raises: InputError for a reward model that has no prompt to be changed.
    """
    if isinstance(judge, GenerativeModel):
        jury = judge.jury
        reduce = "mean" if jury.reduce == "index" else jury.reduce
        return GenerativeModel(judge.policy, task, k=jury.k, reduce=reduce, read=jury.read, sampling=jury.asker.sampling)
    if isinstance(judge, Varied):
        return judge.variant(str(task))
    raise InputError(f"{judge.fingerprint} cannot be asked in other words; give a judge of stepward.rewards.generative.load_judge other than genprm")


def drawn(judge: RewardModel, n: int) -> tuple[RewardModel, ...]:
    """`n` judges that each give one answer of this one, with noise of its own; draw 0 is the same whatever n.

    Of a greedy judge draw 0 is greedy and the others are at temperature 0.7, for they would all be the same.
    Raises: InputError for n below 1, and for a judge whose answers cannot be drawn one by one.
    """
    if n < 1:
        raise InputError(f"a judge needs at least one draw, got {n}")
    if isinstance(judge, GenerativeModel):
        return tuple(_draw(judge, draw) for draw in range(n))
    if isinstance(judge, Varied):
        return tuple(judge.variant(f"draw {draw}") for draw in range(n))
    if n == 1:
        return (judge,)
    raise InputError(f"{judge.fingerprint} cannot be drawn {n} times; give a judge of stepward.rewards.generative.load_judge other than genprm")


def _draw(judge: GenerativeModel, draw: int) -> GenerativeModel:
    sampling = judge.jury.asker.sampling
    temperature = _WARM if draw and sampling.temperature == 0.0 else sampling.temperature
    return GenerativeModel(
        judge.policy, judge.task, read=judge.jury.read, sampling=replace(sampling, seed=sampling.seed + _STRIDE * draw, temperature=temperature)
    )


async def hear(judge: RewardModel, trajectory: Trajectory) -> StepScores:
    """What the judge says; unscored with the reason where it failed."""
    try:
        return await judge.score(trajectory)
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"the judge failed: {error}", scale=judge.scale)


async def hear_all(judges: Sequence[RewardModel], trajectory: Trajectory) -> list[StepScores]:
    """What every judge says."""
    return list(await asyncio.gather(*(hear(judge, trajectory) for judge in judges)))
