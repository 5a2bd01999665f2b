"""Score files: step scores that somebody has already computed, as inputs for the same metrics. No model runs here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepward.core import FormatError, InputError, StepScores
from stepward.core.record import require
from stepward.data.rows import Row, read_rows
from stepward.evaluation.first_error import ScoredItem
from stepward.evaluation.processbench import OWN, ProcessBenchResult, Threshold, evaluate_scored, subset_name

UNSCORED = "null in the score file"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreRow:
    """One solution: true first error `label` (-1: none), and each model's P(step correct) for steps 0..n-1, cut after the first error."""

    id: str
    subset: str
    label: int
    scores: Mapping[str, tuple[float, ...]]


def read_score_rows(path: str | Path) -> list[ScoreRow]:
    """Rows `{id, split, label, n_steps, scored_steps, scores: {model: [float | null]}}` of a JSON-lines file, gzip or not.

    Raises: FormatError naming file, line, field and reason; InputError for a missing file.
    """
    rows = list(read_rows(path, lambda row: [_score_row(row, subset_name(path))]))
    if not rows:
        raise FormatError("the file holds no rows", file=str(path))
    return rows


def _score_row(row: Row, default_subset: str) -> ScoreRow:
    label, scored, steps, scores = require(row, "label", int), require(row, "scored_steps", int), require(row, "n_steps", int), require(row, "scores", dict)
    if not -1 <= label < steps:
        raise FormatError(f"expected a step index from -1 to {steps - 1}, got {label}", field="label")
    needed = steps if label < 0 else label + 1
    if scored < needed:
        raise FormatError(f"{scored} steps are scored but {needed} are needed to judge label {label}", field="scored_steps")
    if not scores:
        raise FormatError("no model's scores", field="scores")
    known = {model: _numbers(values, f"scores[{model!r}]") for model, values in scores.items()}
    for model, values in known.items():
        if len(values) != scored:
            raise FormatError(f"expected {scored} scores, got {len(values)}", field=f"scores[{model!r}]")
    return ScoreRow(id=require(row, "id", str), subset=str(row.get("split") or default_subset), label=label, scores=known)


def score_models(rows: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Names of the models that scored every row, sorted."""
    return tuple(sorted(set.intersection(*(set(row.scores) for row in rows))))


def evaluate_scores_file(paths: str | Path | Sequence[str | Path], model_name: str, threshold: Threshold = OWN, *, seed: int = 0) -> ProcessBenchResult:
    """ProcessBench metrics of one model's scores in one or more files; a file's rows name their subset in `split`. Files tell no threshold of their own: 0.5.

    Raises: InputError for an unknown model name (the message lists the known ones), FormatError for a malformed row.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    subsets: dict[str, list[ScoredItem]] = {}
    for file in files:
        rows = read_score_rows(file)
        names = score_models(rows)
        if model_name not in names:
            raise InputError(f"{file} holds no scores of {model_name!r} for every row; it has: {', '.join(names)}")
        for row in rows:
            subsets.setdefault(row.subset, []).append(ScoredItem(id=row.id, problem=row.id, truth=row.label, scores=_scores(row.scores[model_name])))
    return evaluate_scored(subsets, threshold=threshold, model=model_name, seed=seed)


def read_candidate_scores(path: str | Path) -> list[tuple[StepScores, ...]]:
    """Scores of several candidate solutions a problem, RewardMATH's layout: rows `{problem, score: [[float] or float per candidate]}`.

    Candidate 0 is the correct one. One number for a candidate is read as one step. Scores may lie on any scale.

    Raises: FormatError naming file, line and field.
    """
    return list(read_rows(path, lambda row: [_candidates(row)]))


def _candidates(row: Row) -> tuple[StepScores, ...]:
    scores = require(row, "score", list)
    if not scores:
        raise FormatError("no candidate's score", field="score")
    return tuple(_scores(_numbers(value if isinstance(value, list) else [value], f"score[{index}]")) for index, value in enumerate(scores))


def _numbers(values: Any, field: str) -> tuple[float, ...]:
    """Floats, with NaN for null."""
    if not isinstance(values, list) or not values:
        raise FormatError(f"expected a list of numbers, got {str(values)[:80]!r}", field=field)
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise FormatError(f"expected a number or null, got {value!r}", field=field)
    return tuple(math.nan if value is None else float(value) for value in values)


def _scores(values: Sequence[float]) -> StepScores:
    array = np.array(values, dtype=np.float64)
    known = array[~np.isnan(array)]
    probabilities = bool(((known >= 0.0) & (known <= 1.0)).all())
    return StepScores(array, tuple(UNSCORED if math.isnan(value) else None for value in array), scale="probability" if probabilities else "logit")
