"""Duplicates: the same solution of the same problem, whoever wrote it and however it was spaced."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from stepward.core import Example, content_hash
from stepward.data.curate.filtered import Filtered
from stepward.data.curate.split import question_key


def drop_duplicates(examples: Sequence[Example]) -> Filtered:
    """One example of every (question, steps), compared without regard to white space, Unicode width and case.

    Where several are equal the one with the most labelled steps stays, then the one with the higher mean confidence, then the first.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(_content(example), []).append(index)
    stay = sorted(max(group, key=lambda index: (*_worth(examples[index]), -index)) for group in groups.values())
    kept = [examples[index] for index in stay]
    return Filtered(kept, "duplicates", {}, {"examples": len(examples), "dropped": len(examples) - len(kept), "groups_of_several": _several(groups)})


def _content(example: Example) -> str:
    steps = [" ".join(unicodedata.normalize("NFKC", step.text).casefold().split()) for step in example.trajectory.steps]
    return content_hash(question_key(example.trajectory.problem), *steps)


def _worth(example: Example) -> tuple[int, float]:
    labels = example.labels
    if labels is None:
        return -1, 0.0
    sure = labels.confidence[~np.isnan(labels.confidence)]
    return len(labels) - labels.n_unlabelled, float(sure.mean()) if len(sure) else 0.0


def _several(groups: dict[str, list[int]]) -> int:
    return sum(len(group) > 1 for group in groups.values())
