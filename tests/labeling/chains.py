"""Hand-made chains whose values are known: a policy that ends right with a chance that the test sets for every prefix, one token a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stepward.core import Count, Labeler, Outcome, Policy, Problem, RequestFailed, Sampling, Step, StepLabels, TokenLogprobs, Trajectory, Until, Usage, charge
from stepward.engine.noise import uniforms

Value = Callable[[Trajectory], float]


def by_length(values: Sequence[float]) -> Value:
    """The value of a prefix, by its number of steps."""
    return lambda prefix: values[len(prefix)]


@dataclass(frozen=True)
class Ladder:
    """Completes every prefix to `length` steps, the last of them "right" with chance value(prefix), else "wrong"; "unclear" with chance `lost` before that.

    One token a step, so that a completion of a prefix of k steps costs length - k.
    """

    value: Value
    length: int
    lost: float = 0.0
    logprob: float | None = None
    fingerprint: str = "ladder"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        assert until is Until.END
        made = [self.one(prefix, sampling, draw + index) for index in range(n)]
        charge(Usage(policy_tokens=sum(len(end) - len(prefix) for end in made), calls=1))
        return made

    def one(self, prefix: Trajectory, sampling: Sampling, draw: int) -> Trajectory:
        luck, loss = uniforms(sampling.seed, prefix.key, draw, 0, 2).tolist()
        end = "unclear" if loss < self.lost else "right" if luck < self.value(prefix) else "wrong"
        texts = [*(f"more {draw % 3}" for _ in range(len(prefix), self.length - 1)), end]
        steps = [Step(text, "" if text is texts[-1] else "\n", n_tokens=1, logprob=self.logprob) for text in texts]
        return Trajectory(prefix.problem, (*prefix.steps, *steps), finished=True)


@dataclass(frozen=True)
class Telling(Ladder):
    """A ladder that also tells token log-probabilities of given steps."""

    steps: tuple[tuple[float, ...], ...] = ()

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs:
        return TokenLogprobs(self.steps[: len(trajectory)])


@dataclass(frozen=True)
class Ends:
    """Grades by the last step: "right", "wrong", a number in [0, 1]; anything else cannot be graded."""

    fingerprint: str = "ends"
    interactive: bool = False

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.finished

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.steps[-1].text if trajectory.steps else None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        text = trajectory.steps[-1].text if trajectory.steps else ""
        known = {"right": 1.0, "wrong": 0.0}
        if trajectory.truncated or text not in known:
            return Outcome.unscored("cut off" if trajectory.truncated else f"cannot grade {text!r}")
        return Outcome(known[text])


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail for prefixes of some lengths."""

    policy: Policy
    lengths: frozenset[int]
    after: int = 0  # draws that still work

    @property
    def fingerprint(self) -> str:
        return "failing"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if len(prefix) in self.lengths and draw + n > self.after:
            raise RequestFailed("the server is gone")
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)


WORLD = Ends()
PROBLEM = Problem("climb")


def chain(length: int, end: str = "wrong", *, problem: Problem = PROBLEM) -> Trajectory:
    """A finished solution of `length` steps that ends so."""
    return Trajectory.from_texts(problem, [*(f"step {index}" for index in range(length - 1)), end], separator="\n")


def many(n: int) -> list[Problem]:
    """Different problems, so that their rollouts are independent."""
    return [Problem(f"climb {index}") for index in range(n)]


def label(labeler: Labeler, trajectory: Trajectory, **known: Any) -> StepLabels:
    return asyncio.run(labeler.label(trajectory, **known))


def label_all(labeler: Any, trajectories: Sequence[Trajectory], roots: Sequence[Count] = ()) -> list[StepLabels]:
    """Labels of all, with the known count of each one's problem if given."""

    async def run() -> list[StepLabels]:
        if roots:
            return list(await asyncio.gather(*(labeler.label(case, root=root) for case, root in zip(trajectories, roots, strict=True))))
        return list(await asyncio.gather(*(labeler.label(trajectory) for trajectory in trajectories)))

    return asyncio.run(run())


def cut_off(trajectory: Trajectory) -> Trajectory:
    """The same steps, ended by a limit."""
    return replace(trajectory, finished=False, truncated=True, outcome=None)
