"""The protocol of tool-grounded verifiers: each finds the claims of its kind in a step and decides them with a tool, or abstains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stepward.core.errors import InputError
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.rewards.verifiers.verdict import Verdict


@dataclass(frozen=True)
class StepContext:
    """Step `index` of a trajectory and what was known when it was written. Later steps are out of reach on purpose."""

    trajectory: Trajectory
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < len(self.trajectory):
            raise InputError(f"StepContext.index must lie in 0..{len(self.trajectory) - 1}, got {self.index}")

    @property
    def step(self) -> Step:
        return self.trajectory.steps[self.index]

    @property
    def text(self) -> str:
        """What the policy wrote in this step."""
        return self.step.text

    @property
    def problem(self) -> str:
        """The text of the problem."""
        return self.trajectory.problem.prompt

    @property
    def before(self) -> tuple[Step, ...]:
        """The earlier steps."""
        return self.trajectory.steps[: self.index]

    @property
    def is_last(self) -> bool:
        """The last step of a solution that its writer ended."""
        return self.trajectory.finished and self.index == len(self.trajectory) - 1


@runtime_checkable
class Verifier(Protocol):
    """Who checks claims of one kind. Frozen and cheap to make; a missing optional package raises `MissingExtra` at construction.

    `name` is what users type behind `tools:`, `fingerprint` says on what its verdicts depend: "name/version" with the parameters that differ from
    the defaults. A verdict depends on the problem and on the steps up to the one judged only, and never on the writer's opinion of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def reads(self, context: StepContext) -> bool:
        """Whether the step may hold a claim of its kind: a cheap test on the content, for routing."""
        ...

    async def verify(self, context: StepContext) -> list[Verdict]:
        """A verdict a claim, in the order of the text. Never raises on any text: a time-out, a crash or a missing piece is an ABSTAIN with its reason."""
        ...
