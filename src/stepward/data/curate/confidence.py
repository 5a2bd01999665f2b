"""Confidence: labels that their labeler is not sure enough of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from stepward.core import Example, InputError, StepLabels
from stepward.core.labels import first_bad
from stepward.core.scores import ABSTAINED
from stepward.data.curate.filtered import Filtered

Level = Literal["step", "trajectory"]


def keep_confident(examples: Sequence[Example], least: float, *, level: Level = "step", unknown: Literal["keep", "drop"] = "keep") -> Filtered:
    """Labels with confidence >= `least`.

    level "step": less sure labels become unlabelled, with an abstention as their reason; an example whose labels are all gone is dropped. level
    "trajectory": an example is dropped if any of its labels is less sure. `unknown`: what happens to labels whose confidence is not stated.

    Raises: InputError for `least` outside [0, 1] or an unknown level.
    """
    if not 0.0 <= least <= 1.0:
        raise InputError(f"least confidence must lie in [0, 1], got {least!r}")
    if level not in ("step", "trajectory"):
        raise InputError(f"level must be 'step' or 'trajectory', got {level!r}")
    kept: list[Example] = []
    n_masked = 0
    for example in examples:
        labels = example.labels
        if labels is None:
            if unknown == "keep":
                kept.append(example)
            continue
        labelled = ~np.isnan(labels.values)
        unsure = labelled & ((labels.confidence < least) | (np.isnan(labels.confidence) & (unknown == "drop")))
        if level == "trajectory":
            if not unsure.any():
                kept.append(example)
        elif not unsure.any():
            kept.append(example)
        elif unsure.sum() < labelled.sum():
            kept.append(replace(example, labels=_without(labels, unsure.tolist(), least)))
            n_masked += int(unsure.sum())
    counts = {"examples": len(examples), "dropped": len(examples) - len(kept), "steps_unlabelled": n_masked}
    return Filtered(kept, "confidence", {"least": least, "level": level, "unknown": unknown}, counts)


def _without(labels: StepLabels, unsure: Sequence[bool], least: float) -> StepLabels:
    """The labels without those that are not sure; the first error is what the rest still says."""
    hard = tuple(None if out else good for good, out in zip(labels.hard, unsure, strict=True))
    values = np.where(np.array(unsure, dtype=bool), np.nan, labels.values)
    reasons = tuple(
        f"{ABSTAINED}: confidence {sure:.3g} is below {least:g}" if out else reason
        for reason, out, sure in zip(labels.reasons, unsure, labels.confidence, strict=True)
    )
    first = labels.first_error
    settled = first is not None and not any(unsure[: (len(unsure) if first < 0 else first + 1)])
    return replace(labels, values=values, hard=hard, reasons=reasons, first_error=first if settled else first_bad(hard))
