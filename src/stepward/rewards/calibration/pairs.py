"""Pairs of scores and targets that calibrations are fitted on: checked arrays, and pairs from labelled solutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stepward.core import CountMismatch, Example, Floats, InputError, Scale, StepScores, canonical_json, content_hash
from stepward.core.record import nullable


@dataclass(frozen=True)
class Pairs:
    """Known pairs: scores [N], targets [N] in [0, 1], weights [N] > 0; `n_skipped` pairs had an unknown side or no weight."""

    scores: Floats
    targets: Floats
    weights: Floats
    n_skipped: int

    @property
    def base_rate(self) -> float:
        return float(np.average(self.targets, weights=self.weights))


def checked_pairs(scores: ArrayLike, targets: ArrayLike, weights: ArrayLike | None, *, scale: Scale) -> Pairs:
    """The pairs that a fit can use.

    Raises: InputError for unequal shapes, values out of range, or targets that are all alike.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    w = np.ones_like(s) if weights is None else np.asarray(weights, dtype=np.float64)
    if s.ndim != 1 or s.shape != y.shape or s.shape != w.shape:
        raise InputError(f"calibration needs one target (and one weight) a score, got shapes {s.shape}, {y.shape} and {w.shape}")
    if not np.isfinite(w).all() or (w < 0.0).any():
        raise InputError("calibration weights must be finite and at least 0")
    known = ~(np.isnan(s) | np.isnan(y)) & (w > 0.0)
    s, y, w = s[known], y[known], w[known]
    if np.isinf(s).any():
        raise InputError("calibration needs finite scores")
    if y.size and (y.min() < 0.0 or y.max() > 1.0):
        raise InputError(f"calibration needs targets in [0, 1], got {y.min():.6g} to {y.max():.6g}")
    if scale == "probability" and s.size and (s.min() < 0.0 or s.max() > 1.0):
        raise InputError(f"scores on the probability scale must lie in [0, 1], got {s.min():.6g} to {s.max():.6g}; name their scale, e.g. scale='logit'")
    if y.size < 2 or (y.min() == y.max() and y.min() in (0.0, 1.0)):
        told = f"{y.size} labelled scores" + (f", all of them {'good' if y[0] == 1.0 else 'bad'}" if y.size else "")
        raise InputError(f"calibration needs good and bad steps, got {told}; give more labelled data")
    return Pairs(s, y, w, int((~known).sum()))


@dataclass(frozen=True, kw_only=True)
class StepPairs:
    """Scores and targets of steps, [N] each, with the key of the problem that each belongs to, and what was left out.

    `semantics`: what the targets mean; `data`: content hash of the labelled solutions, whatever their order.
    """

    scores: Floats
    targets: Floats
    problems: tuple[str, ...]
    scale: Scale
    semantics: str
    data: str
    n_unscored: int
    n_unlabelled: int
    n_after_error: int


def step_pairs(examples: Sequence[Example], scores: Sequence[StepScores]) -> StepPairs:
    """Pairs of a model's step scores with the steps' labels.

    Soft labels stay soft. Of *prefix* labels the steps after the first error are left out and counted: they are bad by definition, whatever they say, and
    models of first errors are not trained on them. Unscored and unlabelled steps are left out and counted.

    Raises: CountMismatch when the scores are not the examples'; InputError when labels of different semantics, or scores of different scales, are mixed.
    """
    if len(examples) != len(scores):
        raise CountMismatch(f"{len(examples)} labelled solutions but {len(scores)} scores")
    labelled = [(example, given) for example, given in zip(examples, scores, strict=True) if example.labels is not None]
    if not labelled:
        raise InputError("the solutions carry no labels; give labelled data, e.g. of `stepward label`")
    semantics = {example.labels.semantics for example, _ in labelled if example.labels is not None}
    scales = {given.scale for _, given in labelled}
    for noun, found in (("labels of", semantics), ("scores on", scales)):
        if len(found) > 1:
            raise InputError(f"{noun} different kinds cannot be calibrated together: {', '.join(sorted(found))}; split the data")
    s: list[float] = []
    y: list[float] = []
    problems: list[str] = []
    n_after = 0
    for example, given in labelled:
        labels = example.labels
        assert labels is not None
        if len(given) != len(labels):
            raise CountMismatch(f"example {example.id!r}: {len(labels)} labels but {len(given)} scores")
        last = len(labels)
        if labels.semantics == "prefix" and labels.first_error is not None and labels.first_error >= 0:
            last = labels.first_error + 1
        n_after += len(labels) - last
        s.extend(given.values[:last].tolist())
        y.extend(labels.values[:last].tolist())
        problems.extend([example.trajectory.problem.key] * last)
    array, targets = np.array(s), np.array(y)
    known = ~(np.isnan(array) | np.isnan(targets))
    return StepPairs(
        scores=array[known],
        targets=targets[known],
        problems=tuple(problem for problem, kept in zip(problems, known, strict=True) if kept),
        scale=scales.pop(),
        semantics=semantics.pop(),
        data=data_hash([example for example, _ in labelled]),
        n_unscored=int(np.isnan(array).sum()),
        n_unlabelled=int((np.isnan(targets) & ~np.isnan(array)).sum()),
        n_after_error=n_after,
    )


def data_hash(examples: Sequence[Example]) -> str:
    """Content hash of labelled solutions: their texts and labels, in any order."""
    rows = []
    for example in examples:
        labels = example.labels
        known = None if labels is None else [labels.semantics, nullable(labels.values), labels.first_error]
        rows.append(content_hash(example.trajectory.key, canonical_json(known)))
    return content_hash(*sorted(rows))
