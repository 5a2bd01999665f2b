"""Trajectory: a problem and the steps written for it so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from stepward.core.errors import InputError
from stepward.core.outcome import Outcome
from stepward.core.problem import Problem
from stepward.core.record import check_header, content_hash, header, record_kind, require
from stepward.core.step import Step


@record_kind("trajectory")
@dataclass(frozen=True)
class Trajectory:
    """Steps 0..S-1 for one problem; immutable.

    `finished`: the policy ended it. `truncated`: a limit cut it off, which is not the same as wrong; never both. `outcome`: its grade, if graded.
    """

    problem: Problem
    steps: tuple[Step, ...] = ()
    finished: bool = False
    truncated: bool = False
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not all(isinstance(step, Step) for step in self.steps):
            raise InputError("Trajectory.steps must be Step objects; for plain strings use Trajectory.from_texts(problem, texts)")
        if self.finished and self.truncated:
            raise InputError("a Trajectory is finished (the policy ended it) or truncated (a limit cut it off), not both")

    @classmethod
    def from_texts(
        cls, problem: Problem | str, texts: Sequence[str], *, separator: str = "\n\n", finished: bool = True, outcome: Outcome | None = None
    ) -> Trajectory:
        """A trajectory from plain step texts; `separator` ends every step but the last."""
        if isinstance(texts, str):
            raise InputError("texts must be a list of step strings; split one text with stepward.data.segment(text)")
        last = len(texts) - 1
        steps = tuple(Step(text, separator=separator if index < last else "") for index, text in enumerate(texts))
        return cls(problem if isinstance(problem, Problem) else Problem(problem), steps, finished=finished, outcome=outcome)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def ended(self) -> bool:
        """Nothing more will be written: finished or truncated."""
        return self.finished or self.truncated

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Content hash of every prefix, S+1 of them: keys[k] names the problem and the first k steps."""
        return tuple(accumulate((step.key for step in self.steps), content_hash, initial=self.problem.key))

    @property
    def key(self) -> str:
        """Content hash of problem and steps; equal texts have equal keys, whoever wrote them and however they ended."""
        return self.keys[-1]

    @property
    def text(self) -> str:
        """All that the policy wrote: the concatenation of its steps and their separators."""
        return "".join(step.written for step in self.steps)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Character span of each step's text in `text`, separators excluded."""
        ends = list(accumulate((len(step.written) for step in self.steps), initial=0))
        return tuple((start, start + len(step.text)) for start, step in zip(ends, self.steps, strict=False))

    def prefix(self, k: int) -> Trajectory:
        """The first k steps, open to be continued; the whole trajectory, with how it ended, for k = S."""
        if not 0 <= k <= len(self.steps):
            raise InputError(f"prefix({k}) of a trajectory with {len(self.steps)} steps; k must lie in 0..{len(self.steps)}")
        if k == len(self.steps):
            return self
        return Trajectory(self.problem, self.steps[:k])

    def prefixes(self) -> Iterable[Trajectory]:
        """prefix(1) to prefix(S)."""
        return (self.prefix(k) for k in range(1, len(self.steps) + 1))

    def extend(self, *steps: Step | str, finished: bool = False, truncated: bool = False) -> Trajectory:
        """This trajectory with more steps."""
        if self.ended:
            raise InputError("cannot extend a trajectory that has ended; use prefix(k) to go back to an open one")
        added = [step if isinstance(step, Step) else Step(step) for step in steps]
        longer = Trajectory(self.problem, (*self.steps, *added), finished=finished, truncated=truncated)
        if "keys" in self.__dict__:  # chain the hash instead of computing it anew
            longer.__dict__["keys"] = (*self.keys[:-1], *accumulate((step.key for step in added), content_hash, initial=self.key))
        return longer

    def graded(self, outcome: Outcome) -> Trajectory:
        """This trajectory with its outcome."""
        return replace(self, outcome=outcome)

    def to_record(self) -> dict[str, Any]:
        return header("trajectory") | {
            "problem": self.problem.to_record(),
            "steps": [step.to_record() for step in self.steps],
            "finished": self.finished,
            "truncated": self.truncated,
            "outcome": None if self.outcome is None else self.outcome.to_record(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Trajectory:
        check_header(record, "trajectory")
        outcome = require(record, "outcome", (Mapping, type(None)))
        return cls(
            problem=Problem.from_record(require(record, "problem", Mapping)),
            steps=tuple(Step.from_record(step) for step in require(record, "steps", (list, tuple))),
            finished=require(record, "finished", bool),
            truncated=require(record, "truncated", bool),
            outcome=None if outcome is None else Outcome.from_record(outcome),
        )
