"""Hard labels as public data sets write them: a first error, or a rating a step with a neutral one in the middle."""

from __future__ import annotations

import math
from typing import Any, Literal

from stepward.core.errors import FormatError, InputError
from stepward.core.labels import NO_ERROR, StepLabels

Neutral = Literal["positive", "mask", "negative"]
AFTER_ERROR = "after the first error"


def from_first_error(n_steps: int, first_error: int, **fields: Any) -> StepLabels:
    """*prefix* labels of a solution whose first wrong step is known: good before it; false from it on, because an error has then happened.

    Raises: FormatError when there is no such step.
    """
    if not NO_ERROR <= first_error < n_steps:
        raise FormatError(f"must lie in -1..{n_steps - 1} for {n_steps} steps, got {first_error}")
    hard = [first_error == NO_ERROR or index < first_error for index in range(n_steps)]
    return StepLabels.from_hard(hard, semantics="prefix", first_error=first_error, **fields)


def check_neutral(neutral: str) -> None:
    """Refuse an unknown treatment of neutral ratings."""
    if neutral not in ("positive", "mask", "negative"):
        raise InputError(f"neutral must be 'positive', 'mask' or 'negative', got {neutral!r}")


def hard_rating(rating: int | None, neutral: Neutral) -> bool | None:
    """+1 good, -1 bad, 0 as `neutral` says, None unlabelled."""
    if rating == 0:
        return {"positive": True, "mask": None, "negative": False}[neutral]
    return None if rating is None else rating > 0


def is_hard(labels: StepLabels) -> bool:
    """Every labelled step is certain (value 1 and good, or 0 and bad), and no unlabelled one is called good or bad."""
    return all(good is None if math.isnan(value) else value == good for value, good in zip(labels.values, labels.hard, strict=True))
