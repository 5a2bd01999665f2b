"""Perturbation: a right solution with one thing changed, what was changed where, and the labels that follow. Operators are in the other files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stepward.core import ABSTAINED, NO_ERROR, Example, FrozenDict, InputError, Semantics, Step, StepLabels, Trajectory
from stepward.labeling.perturb.site import Site

AFTER = f"{ABSTAINED}: after the constructed error"


@dataclass(frozen=True)
class Edit:
    """What an operator makes of a solution: all its steps, which of them is meant, and what was done, in words.

    `control`: a right solution that looks alike, and the step of it that corresponds; None for the solution as it was, and the same step.
    """

    steps: tuple[Step, ...]
    at: int
    note: str
    control: tuple[tuple[Step, ...], int] | None = None


Make = Callable[[Site, Random], Edit | None]


@dataclass(frozen=True)
class Operator:
    """A typed change of one step. `wrong`: it makes the step wrong; else the step stays right (redundant, or worded otherwise).

    `make` returns None where the operator does not apply. It must not depend on anything but the site and the random numbers.
    """

    name: str
    make: Make
    about: str
    wrong: bool = True


@dataclass(frozen=True)
class Perturbation:
    """`trajectory` is `original` with the change at step `at` (0-based, in the changed solution). `error_type`: the operator's name.

    `control`: a right solution whose step `control_at` looks like the changed one, without the error.
    """

    original: Trajectory
    trajectory: Trajectory
    at: int
    error_type: str
    wrong: bool
    note: str = ""
    source: Mapping[str, Any] = field(default_factory=FrozenDict)
    control: Trajectory | None = None
    control_at: int = 0

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not 0 <= self.at < len(self.trajectory):
            raise InputError(f"Perturbation.at must be a step of the changed solution (0..{len(self.trajectory) - 1}), got {self.at}")

    def labels(self, semantics: Semantics = "local") -> StepLabels:
        """Labels by construction, given that the original is right throughout.

        Steps before the error are good, it is bad. Later steps: *prefix*, bad; *local*, unlabelled, for whether they still follow is not known (a step
        that rightly goes on from the wrong one does, one that uses the lost value does not). Without an error all are good.

        Raises: InputError for *value*.
        """
        if semantics == "value":
            raise InputError("constructed errors say what is right and wrong, not how likely a policy is to finish; use 'local' or 'prefix'")
        n = len(self.trajectory)
        later = None if semantics == "local" else False
        hard = [True] * n if not self.wrong else [True] * self.at + [False] + [later] * (n - self.at - 1)
        kinds = tuple(self.error_type if step == self.at and self.wrong else None for step in range(n))
        notes = tuple(self.note if step == self.at else None for step in range(n))
        first = self.at if self.wrong else NO_ERROR
        made = {"method": "perturbation", "operator": self.error_type, **self.source}
        return StepLabels.from_hard(hard, semantics=semantics, reason=AFTER, first_error=first, error_types=kinds, rationales=notes, source=made)

    def example(self, semantics: Semantics = "local") -> Example:
        """The changed solution with its labels."""
        return Example(self.trajectory, self.labels(semantics), source=f"perturbation:{self.error_type}", metadata={"original": self.original.key})
