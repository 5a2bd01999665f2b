"""Decoders: where the first error is, given labels of single steps, some of them unknown.

They use that "no error so far" can only turn from true to false. Values need not: a good step raises them, so nothing here smooths values.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepward.core import NO_ERROR, InputError, first_bad

Hard = tuple[bool | None, ...]


def first_zero(hard: Sequence[bool | None]) -> int | None:
    """The first bad step; -1 if all are good; None if an unknown one comes before it."""
    return first_bad(hard)


def propagate_positive(hard: Sequence[bool | None]) -> Hard:
    """Every step before a good one is good: a right completion passes through all earlier prefixes. Never turns good into bad."""
    last = max((step for step, good in enumerate(hard) if good), default=NO_ERROR)
    return tuple(True if step <= last else good for step, good in enumerate(hard))


def propagate_negative(hard: Sequence[bool | None]) -> Hard:
    """Every step from the first bad one on is bad: an error so far stays an error so far."""
    first = next((step for step, good in enumerate(hard) if good is False), len(hard))
    return tuple(False if step >= first else good for step, good in enumerate(hard))


def up_to(first_error: int | None, n_steps: int) -> Hard:
    """Labels "no error so far" of a known first error (-1: none); all unknown for None."""
    if first_error is None:
        return (None,) * n_steps
    return tuple(first_error == NO_ERROR or step < first_error for step in range(n_steps))


def vote_cut(hard: Sequence[bool | None], weights: Sequence[float] | None = None) -> int | None:
    """The first error k that agrees with most labels: argmax_k sum_{t < k} w_t y_t + sum_{t >= k} w_t (1 - y_t); -1 for no error.

    Unknown labels have no vote. Of equally good cuts the latest is taken: no step is called wrong without a majority. None when no label is known.

    Raises: InputError when there is not one weight a label, or one is negative.
    """
    votes = [1.0] * len(hard) if weights is None else list(weights)
    if len(votes) != len(hard) or any(vote < 0.0 for vote in votes):
        raise InputError(f"vote_cut needs one weight of at least 0 for each of {len(hard)} labels, got {votes}")
    if all(good is None for good in hard):
        return None
    ballot = [0.0 if good is None else weight if good else -weight for good, weight in zip(hard, votes, strict=True)]
    best, cut, lead = 0.0, 0, 0.0  # agreement of cut k over cut 0
    for step, vote in enumerate(ballot, start=1):
        lead += vote
        if lead >= best:
            best, cut = lead, step
    return NO_ERROR if cut == len(hard) else cut
