"""Judgement: what a world's oracle finds in a whole solution, and the exact labels that follow. What it finds in one step is each world's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from stepward.core.labels import NO_ERROR, StepLabels


class Finding(Protocol):
    """What an oracle finds in one step: whether it follows from what was stated before, the type of its error, and a note in words."""

    @property
    def follows(self) -> bool: ...

    @property
    def error(self) -> object: ...

    @property
    def note(self) -> str: ...


class Known(Protocol):
    """A state in which a final answer may have been stated."""

    @property
    def answer(self) -> Any: ...


Step = TypeVar("Step", bound=Finding)
State = TypeVar("State", bound=Known)


@dataclass(frozen=True)
class Judgement(Generic[Step]):
    """`steps`: one finding a step. `first_error`: index of the first step that does not follow, -1 for none.

    `answer`: the last final answer that was stated, None for none. `final_correct`: whether it is right; None without one. `environment`: whose oracle.
    """

    steps: tuple[Step, ...]
    first_error: int
    answer: Any
    final_correct: bool | None
    environment: str

    def labels(self, semantics: Literal["local", "prefix"], *, source: Mapping[str, Any] | None = None) -> StepLabels:
        """Exact labels. local: the step follows from what it uses, which was stated before. prefix: every step up to this one does."""
        if semantics == "local":
            hard = [step.follows for step in self.steps]
        else:
            hard = [self.first_error == NO_ERROR or index < self.first_error for index in range(len(self.steps))]
        return StepLabels.from_hard(
            hard,
            semantics=semantics,
            first_error=self.first_error,
            error_types=tuple(None if step.follows else str(step.error) for step in self.steps),
            rationales=tuple(step.note or None for step in self.steps),
            source=source or {"method": "oracle", "environment": self.environment},
        )


def judge(read: Callable[[State, str], tuple[Step, State]], start: State, texts: Iterable[str], *, truth: Any, environment: str) -> Judgement[Step]:
    """The finding for every step of a solution, read one after the other from the state `start`; `truth` is the right final answer."""
    state, steps = start, []
    for text in texts:
        step, state = read(state, text)
        steps.append(step)
    first = next((index for index, step in enumerate(steps) if not step.follows), NO_ERROR)
    final = None if state.answer is None else bool(state.answer == truth)
    return Judgement(tuple(steps), first, state.answer, final, environment)
