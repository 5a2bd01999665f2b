"""Sections: what a report is made of. They hold content; `page` writes it as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stepward.core import CountMismatch, InputError, SearchResult, StepLabels, StepScores, Trajectory, Usage
from stepward.evaluation.statistics import Estimate

Cell = str | int | float | bool | Estimate | None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A heading and paragraphs of plain text."""

    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under column names; None is an unknown cell, an Estimate is written with its interval."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise CountMismatch(f"table {self.title!r}: row {index} has {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """An SVG image, as the `plot_*` functions make them, with the sentence that says what it shows."""

    title: str
    svg: str
    caption: str = ""

    def __post_init__(self) -> None:
        if "<svg" not in self.svg:
            raise InputError(f"plot {self.title!r} needs SVG text, got {self.svg[:60]!r}")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from: settings and fingerprints by name, and what each stage cost."""

    title: str = "Provenance and usage"
    settings: Mapping[str, str | int | float | None] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewedSolution:
    """A solution to look at: what a model scored beside what an oracle or a person says. `group` names the set it can be filtered by.

    Raises: CountMismatch when scores or labels are not one a step.
    """

    trajectory: Trajectory
    scores: StepScores | None = None
    truth: StepLabels | None = None
    group: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name, values in (("scores", self.scores), ("labels", self.truth)):
            if values is not None and len(values) != len(self.trajectory):
                raise CountMismatch(f"viewed solution: {len(self.trajectory)} steps but {len(values)} {name}")


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Solutions, step by step, with filters, search and keyboard control."""

    title: str
    solutions: Sequence[ViewedSolution]
    caption: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchTrees:
    """Searches with their trees: every node with its text, score, visits and why it was dropped, open along the chosen path."""

    title: str
    results: Sequence[SearchResult]
    caption: str = ""


Section = Text | Table | Plot | Provenance | Viewer | SearchTrees
