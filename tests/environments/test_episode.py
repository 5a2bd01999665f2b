"""A policy and an environment taking turns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from stepward.core import Outcome, Problem, RequestFailed, Sampling, Step, Trajectory, Until
from stepward.engine.noise import uniforms
from stepward.environments.episode import complete, solve


@dataclass(frozen=True)
class Counting:
    """Writes "0", "1", ...; each step names the draw that made it."""

    fingerprint: str = "counting"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        assert until is Until.STEP, "an interactive environment answers every step"
        return [prefix.extend(Step(f"{len(prefix)} by {draw + index}", "\n")) for index in range(n)]


@dataclass(frozen=True)
class Echo:
    """Answers every step; finished after `length` steps; its grader fails on demand."""

    length: int = 3
    fails: bool = False
    fingerprint: str = "echo"
    interactive: bool = True

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        last = replace(trajectory.steps[-1], observation=f"heard {trajectory.steps[-1].text}")
        return replace(trajectory, steps=(*trajectory.steps[:-1], last))

    def is_finished(self, trajectory: Trajectory) -> bool:
        return len(trajectory) >= self.length

    async def grade(self, trajectory: Trajectory) -> Outcome:
        if self.fails:
            raise RequestFailed("the judge is away")
        return Outcome(1.0)

    def answer(self, trajectory: Trajectory) -> str | None:
        return None


def test_every_step_is_answered_and_draws_stay_apart() -> None:
    ends = asyncio.run(complete(Counting(), Echo(), Trajectory(Problem("p")), 2, draw=5))
    assert [[step.text for step in end.steps] for end in ends] == [["0 by 5", "1 by 5", "2 by 5"], ["0 by 6", "1 by 6", "2 by 6"]]
    assert all(end.finished and not end.truncated and all(step.observation == f"heard {step.text}" for step in end.steps) for end in ends)


def test_a_limit_on_steps_cuts_off_and_is_not_an_end() -> None:
    (end,) = asyncio.run(complete(Counting(), Echo(), Trajectory(Problem("p")), sampling=Sampling(max_steps=2)))
    assert (len(end), end.finished, end.truncated) == (2, False, True)


def test_solutions_survive_a_grader_that_fails() -> None:
    (end,) = asyncio.run(solve(Counting(), Echo(fails=True), Problem("p")))
    assert len(end) == 3
    assert end.outcome is not None
    assert end.outcome.value is None
    assert "the judge is away" in (end.outcome.reason or "")


@dataclass(frozen=True)
class Tossing:
    """Writes a number drawn with the noise of the prefix."""

    fingerprint: str = "tossing"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        return [prefix.extend(Step(str(uniforms(sampling.seed, prefix.key, draw + index, 0)[0]), "\n")) for index in range(n)]


def test_completions_of_a_prefix_are_not_those_that_came_by() -> None:
    (whole,) = asyncio.run(complete(Tossing(), Echo(), Trajectory(Problem("p"))))
    (rest,) = asyncio.run(complete(Tossing(), Echo(), whole.prefix(1)))
    assert rest.keys[1] == whole.keys[1]
    assert rest.steps[1].text != whole.steps[1].text
    assert asyncio.run(complete(Tossing(), Echo(), whole.prefix(1), 2, draw=0))[1] == asyncio.run(complete(Tossing(), Echo(), whole.prefix(1), draw=1))[0]
