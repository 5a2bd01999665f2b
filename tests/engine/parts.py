"""Small policies and models with counters, for the engine's tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from stepward.core.errors import RequestFailed
from stepward.core.labels import StepLabels
from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.core.sampling import Sampling, Until
from stepward.core.scores import StepScores
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge
from stepward.engine.batching import Batcher
from stepward.engine.noise import uniforms


def prefix(name: str = "What is 3 + 4?") -> Trajectory:
    return Trajectory(Problem(name))


class NoisyPolicy:
    """Writes a step with a number that depends on (seed, prefix, draw) alone; remembers what it was paid for."""

    fingerprint = "test:noisy"

    def __init__(self, max_batch: int = 64) -> None:
        self.paid: Counter[tuple[str, int]] = Counter()
        self.calls: list[tuple[int, int]] = []
        self.batcher: Batcher[tuple[Trajectory, int, int], Trajectory] = Batcher(self._run, max_batch=max_batch)

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        self.calls.append((draw, n))
        samples = [await self.batcher((prefix, sampling.seed, draw + index)) for index in range(n)]
        charge(Usage(policy_tokens=sum(sample.steps[-1].n_tokens or 0 for sample in samples), policy_prefill=11, calls=1, flops=1e6 + n))
        return samples

    def _run(self, requests: Sequence[tuple[Trajectory, int, int]]) -> list[Trajectory]:
        samples = []
        for start, seed, draw in requests:
            self.paid[start.key, draw] += 1
            noise = float(uniforms(seed, start.key, draw, 0)[0])
            samples.append(start.extend(Step(f"The number is {noise:.17g}. Ünïcode ✓", "\n\n", n_tokens=3 + draw, logprob=-noise), finished=draw % 2 == 0))
        return samples


class CountingModel:
    """Scores by length; a step that contains "fail" is unscored; counts its calls."""

    fingerprint = "test:counting"
    granularity = "step"
    scale = "probability"
    interactive = False

    def __init__(self) -> None:
        self.n_calls = 0

    async def score(self, trajectory: Trajectory) -> StepScores:
        self.n_calls += 1
        charge(Usage(reward_tokens=5, calls=1))
        failed = ["fail" in step.text for step in trajectory.steps]
        values = np.array([np.nan if bad else 1 / (2 + len(step.text)) for bad, step in zip(failed, trajectory.steps, strict=True)])
        return StepScores(values, tuple("time-out" if bad else None for bad in failed))

    async def label(self, trajectory: Trajectory) -> StepLabels:
        self.n_calls += 1
        return StepLabels.from_hard([True] * len(trajectory), semantics="prefix", first_error=-1)

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.finished

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.steps[-1].text if trajectory.steps else None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        self.n_calls += 1
        return Outcome.unscored("time-out") if "fail" in trajectory.text else Outcome(1.0, "7")


class FailingPolicy(NoisyPolicy):
    """Never answers."""

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        self.calls.append((draw, n))
        raise RequestFailed("no answer")
