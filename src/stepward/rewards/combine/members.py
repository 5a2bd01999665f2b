"""Members: what all combinations of reward models share. Asking several models at once, their reasons, their scales, their names.

How values are fused is each combination's own matter.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import (
    ABSTAINED,
    FAILURES,
    CountMismatch,
    InputError,
    RewardModel,
    Scale,
    StepScores,
    Trajectory,
    Usage,
    canonical_json,
    content_hash,
    price_of_score,
)
from stepward.core.usage import NO_USAGE

Missing = Literal["unscored", "skip"]
"""A step that one member does not score: "unscored" with that member's reason, or combined from the other members ("skip")."""

OUTCOME_ONLY = f"{ABSTAINED}: an outcome is judged at the last step only"


async def scores_of(models: Sequence[RewardModel], trajectory: Trajectory) -> list[StepScores]:
    """Every model's scores, awaited together, in order; see `scored`."""
    return list(await asyncio.gather(*(scored(model, trajectory) for model in models)))


async def scored(model: RewardModel, trajectory: Trajectory) -> StepScores:
    """The model's scores; unscored with the reason where the request fails, so that one failing member does not lose the others' work.

    Raises: CountMismatch when the model returns another number of scores than there are steps.
    """
    try:
        scores = await model.score(trajectory)
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"scoring failed: {error}", scale=model.scale)
    if len(scores) != len(trajectory):
        raise CountMismatch(f"{len(trajectory)} steps but {model.fingerprint} returned {len(scores)} scores")
    return scores


def price_of(asked: Iterable[tuple[RewardModel, Trajectory]]) -> Usage | None:
    """The most that scoring each of these trajectories by its model charges together (see `core.price`); None where one of the models cannot tell.

    A model that refuses a trajectory charges nothing for it.
    """
    total = NO_USAGE
    for model, trajectory in asked:
        try:
            price = price_of_score(model, trajectory)
        except FAILURES:
            continue
        if price is None:
            return None
        total += price
    return total


def usage_of(members: Sequence[StepScores]) -> Usage:
    """What the members cost together. Each has charged the ledger itself."""
    return Usage.total(member.usage for member in members)


def threshold_of(members: Sequence[StepScores], weights: Sequence[float] | None = None) -> float:
    """The (weighted) mean of the members' thresholds. A member that scored nothing has none to tell and is left out, unless all are like that."""
    known = [bool(member.n_unscored < len(member)) for member in members]
    chosen = known if any(known) else [True] * len(members)
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.average([member.threshold for member in members], weights=shares * chosen))


def rationales_of(members: Sequence[StepScores]) -> tuple[str | None, ...]:
    """What the members say about each step, [S]: every text once, one below the other."""
    return tuple(joined(at_step) for at_step in zip(*(member.rationales for member in members), strict=True))


def joined(texts: Sequence[str | None]) -> str | None:
    """The texts below each other, each once; None where there is none."""
    return "\n".join(dict.fromkeys(text for text in texts if text)) or None


def blocking_reason(reasons: Sequence[str | None]) -> str | None:
    """The first failure, or else the first abstention: a failure hides the truth even where another member only abstained."""
    given = [reason for reason in reasons if reason]
    failures = [reason for reason in given if not reason.startswith(ABSTAINED)]
    return next(iter(failures or given), None)


def step_reasons(members: Sequence[StepScores], missing: Missing) -> tuple[str | None, ...]:
    """Why each step of the combination is unscored, [S]: any member's reason, or with "skip" a reason only where no member has a value."""
    reasons = []
    for at_step in zip(*(member.reasons for member in members), strict=True):
        hidden = all(at_step) if missing == "skip" else any(at_step)
        reasons.append(blocking_reason(at_step) if hidden else None)
    return tuple(reasons)


def check_missing(missing: str) -> None:
    """Raises: InputError for an unknown treatment."""
    if missing not in get_args(Missing):
        raise InputError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")


def check_on_scale(name: str, value: float | None, scale: Scale) -> None:
    """Raises: InputError for a setting that is given and does not lie on the scale."""
    if value is not None and (not math.isfinite(value) or (scale == "probability" and not 0.0 <= value <= 1.0)):
        raise InputError(f"{name} must be on the model's {scale} scale, got {value!r}")


def check_same_scale(models: Sequence[RewardModel]) -> None:
    """Raises: InputError when values of different scales, or of steps and outcomes, would be mixed."""
    scales = {model.scale for model in models}
    if len(scales) > 1:
        told = "; ".join(f"{model.fingerprint} is on the {model.scale} scale" for model in models)
        raise InputError(f"scores on different scales cannot be combined: {told}. Calibrate first: calibrated(MODEL, FILE) gives probabilities")
    granularities = {model.granularity for model in models}
    if len(granularities) > 1:
        told = "; ".join(f"{model.fingerprint} scores each {model.granularity}" for model in models)
        raise InputError(f"scores of different things cannot be combined: {told}. Lift outcome models to steps first: lifted(MODEL)")


def name_of(kind: str, models: Sequence[RewardModel], **settings: Any) -> str:
    """A fingerprint from the members' and everything that decides the values."""
    return f"{kind}:{content_hash(kind, canonical_json(settings), *(model.fingerprint for model in models))}"


def source_of(fingerprint: str, models: Sequence[RewardModel]) -> dict[str, Any]:
    """`StepScores.source` of a combination."""
    return {"model": fingerprint, "members": [model.fingerprint for model in models]}
