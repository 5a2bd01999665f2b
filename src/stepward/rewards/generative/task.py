"""JudgeTask: what a judge is asked about a solution and how its words are read. No policy, no sampling here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from stepward.core import Granularity, InputError, Trajectory, content_hash

Slot = int | str | tuple[int, str]
"""What one verdict is about: a step (0-based), something of the whole solution ("solution"), or an aspect of a step."""
AfterError = Literal["abstain", "incorrect"]


@dataclass(frozen=True)
class Mark:
    """A verdict found in a judge's words: its value in [0, 1], where its word stands in them, and the words for good and bad that could stand there.

    Without `words` the value cannot be read from probabilities.
    """

    value: float
    start: int
    end: int
    words: tuple[str, str] | None = None


@dataclass(frozen=True)
class Reading:
    """The marks of a text by slot; `silent`: slots that the judge passed over on purpose, with the reason. A slot in neither is missing."""

    marks: Mapping[Slot, Mark] = field(default_factory=dict)
    silent: Mapping[Slot, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt. `lead` is put into the judge's mouth, `slots` are the verdicts that its answer must hold, `steps` the steps that it is about.

    `extras` are verdicts that it may hold: read, but never asked for again.
    """

    prompt: str
    slots: tuple[Slot, ...]
    steps: tuple[int, ...]
    lead: str = ""
    extras: tuple[Slot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Forcing:
    """Text after which the judge's next words are the verdict of `slots`: appended when the budget is spent, or to any answer without one (`always`)."""

    text: str
    slots: tuple[Slot, ...]
    words: tuple[str, str] | None = None
    always: bool = False


@dataclass(frozen=True)
class Vote:
    """What the draws say of one slot: value in [0, 1], or NaN with the reason; how many draws it comes from, and how many of them are words rather than
    probabilities."""

    value: float
    reason: str | None = None
    n_draws: int = 0
    n_words: int = 0

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)


class Reader(ABC):
    """How the answers to a method's questions are read."""

    name: ClassVar[str]
    stops: ClassVar[tuple[str, ...]] = ()

    @property
    def system(self) -> str:
        """The system line that the method was made for: give the policy the same; where it has another, the line opens the prompt."""
        return ""

    @property
    def triggers(self) -> tuple[str, ...]:
        """What is put into the judge's mouth, one after the other, to make it think again; each time it writes up to one of `stops`."""
        return ()

    @abstractmethod
    def read(self, question: Question, text: str) -> Reading:
        """The verdicts in the judge's own words. Never raises."""

    def forcing(self, question: Question) -> Forcing | None:  # noqa: ARG002
        """How a verdict is had when the judge has none yet; None where it cannot be forced."""
        return None


class JudgeTask(Reader):
    """A method's prompt and parser: everything about a judge but the policy that it asks."""

    @property
    def granularity(self) -> Granularity:
        """ "step", or "outcome" where only the last step is judged."""
        return "step"

    @abstractmethod
    def questions(self, trajectory: Trajectory) -> Sequence[Question]:
        """What is asked about a solution with at least one step. Text of others is escaped (`Frame`)."""

    def combine(self, n_steps: int, votes: Mapping[Slot, Vote]) -> tuple[list[Vote], dict[str, list[float]]]:
        """One vote a step, and other values of each step by name (NaN where unknown)."""
        return [votes[step] for step in range(n_steps)], {}

    @property
    def key(self) -> str:
        """Hash of the name and of everything in the prompts, by rendering them for a fixed solution."""
        parts = [part for question in self.questions(_PROBE) for part in (question.prompt, question.lead, str(question.slots), str(self.forcing(question)))]
        return content_hash("judge task", self.name, self.system, str(self), str(self.triggers), *parts)


def check_choice(owner: str, name: str, value: object, known: Sequence[str]) -> None:
    """Refuse an option that is not one of the known ones. Raises: InputError listing them."""
    if value not in known:
        raise InputError(f"{owner} {name} must be one of {', '.join(known)}, got {value!r}")


_PROBE = Trajectory.from_texts("What is 1 + 1 + 1?", ["1 + 1 = 2.", "2 + 1 = 3.", "The answer is 3."])
