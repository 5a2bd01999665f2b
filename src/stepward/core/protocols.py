"""The protocols. All are asynchronous and take one request at a time: speed comes from below, where `engine` merges what they await."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from stepward.core.labels import StepLabels
from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.result import SearchResult
from stepward.core.sampling import Sampling, Until
from stepward.core.scores import Scale, StepScores
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory

Granularity = Literal["step", "outcome", "token"]
DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural-log probabilities of a trajectory's own tokens: one tuple a step, separators included in their step."""

    steps: tuple[tuple[float, ...], ...]

    @property
    def total(self) -> float:
        return sum(sum(step) for step in self.steps)


@runtime_checkable
class Policy(Protocol):
    """Who writes steps. `fingerprint` names weights, tokenizer and template: equal fingerprints mean equal samples.

    `sample` continues an open `prefix` n times. Draw number i of the request uses noise draw + i, so `sample(p, 4)` equals four
    requests of one with draws 0 to 3. Raises RequestFailed when nothing could be sampled.
    """

    @property
    def fingerprint(self) -> str: ...

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]: ...


@runtime_checkable
class LogprobPolicy(Policy, Protocol):
    """A policy that can also tell the probability of given text."""

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs: ...


@runtime_checkable
class ResumingPolicy(Policy, Protocol):
    """A policy that can take up a step where it was broken off.

    `broken` is the step that draw `draw` of `prefix` wrote under a smaller `max_step_tokens`, and that was cut off there. The result is `prefix` with this
    step whole, or with as much of it as `sampling` allows. Only what was written anew is charged as written.
    """

    async def resume(self, prefix: Trajectory, broken: Step, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Trajectory: ...


@runtime_checkable
class ChoicePolicy(Policy, Protocol):
    """A policy that can tell how likely each of a few texts is as the next thing that it writes, without the probability of any other text.

    One natural-log probability a choice, of the model's own distribution (temperature 1); NaN for all of them where the backend does not tell.
    """

    async def choice_logprobs(self, prefix: Trajectory, choices: Sequence[str]) -> tuple[float, ...]: ...


@runtime_checkable
class RewardModel(Protocol):
    """Who scores steps: always exactly one score a step, or NaN with its reason."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def granularity(self) -> Granularity: ...

    @property
    def scale(self) -> Scale: ...

    async def score(self, trajectory: Trajectory) -> StepScores: ...


@runtime_checkable
class Environment(Protocol):
    """What problems live in: answers actions, knows when a trajectory has finished, and grades it.

    `interactive`: it answers actions, so a policy writes one step at a time; a pure environment lets it write to the end at once.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def interactive(self) -> bool: ...

    async def observe(self, trajectory: Trajectory) -> Trajectory: ...

    def is_finished(self, trajectory: Trajectory) -> bool: ...

    async def grade(self, trajectory: Trajectory) -> Outcome: ...

    def answer(self, trajectory: Trajectory) -> str | None:
        """The canonical final answer that the trajectory states, for voting; None when it states none."""
        ...


@runtime_checkable
class Labeler(Protocol):
    """Where step labels come from."""

    @property
    def fingerprint(self) -> str: ...

    async def label(self, trajectory: Trajectory) -> StepLabels: ...


@runtime_checkable
class Search(Protocol):
    """A test-time strategy for one problem."""

    @property
    def fingerprint(self) -> str: ...

    async def search(self, problem: Problem) -> SearchResult: ...
