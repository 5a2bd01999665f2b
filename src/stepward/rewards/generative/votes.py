"""Votes: one value from the values of k draws. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from stepward.core import InputError
from stepward.rewards.generative.task import Slot, Vote

Reduce = Literal["mean", "majority", "min", "index"]
REDUCTIONS: tuple[str, ...] = get_args(Reduce)


class Ballot(NamedTuple):
    """One draw's verdict on one slot: a value in [0, 1], or NaN with the reason why there is none. `words`: the value is a verdict read from text."""

    value: float
    reason: str | None = None
    words: bool = True


def reduce_values(values: Sequence[float], how: Reduce | str) -> float:
    """One number from the known values of the draws, each in [0, 1]; NaN for none.

    mean; min; majority: 1 when more than half of the values are at least 0.5, else 0 (a tie is no majority).

    Raises: InputError for an unknown name.
    """
    if how not in ("mean", "majority", "min"):
        raise InputError(f"unknown reduction {how!r}; choose one of {', '.join(REDUCTIONS)}")
    if not values:
        return math.nan
    if how == "min":
        return min(values)
    if how == "majority":
        return float(2 * sum(value >= 0.5 for value in values) > len(values))
    return min(1.0, math.fsum(values) / len(values))


def reduce_ballots(draws: Sequence[Mapping[Slot, Ballot]], slots: Sequence[Slot], how: Reduce | str) -> dict[Slot, Vote]:
    """One vote a slot. Draws without a verdict on it are left out; a slot that no draw judges takes the first draw's reason.

    "index": the draws vote on the first error (the first slot below 0.5, or none) and the slots become what the winning index says; ties go to the index
    seen first (the vote of ProcessBench: Identifying Process Errors in Mathematical Reasoning, 2024).
    """
    if how == "index":
        return _by_index(draws, slots)
    votes: dict[Slot, Vote] = {}
    for slot in slots:
        ballots = [draw[slot] for draw in draws]
        known = [ballot for ballot in ballots if not math.isnan(ballot.value)]
        if known:
            value = reduce_values([ballot.value for ballot in known], how)
            votes[slot] = Vote(value, n_draws=len(known), n_words=sum(ballot.words for ballot in known))
        else:
            votes[slot] = Vote(math.nan, _reason(ballots))
    return votes


def _by_index(draws: Sequence[Mapping[Slot, Ballot]], slots: Sequence[Slot]) -> dict[Slot, Vote]:
    indices = [_first_error(draw, slots) for draw in draws]
    counted = Counter(index for index in indices if index is not None)
    if not counted:
        return {slot: Vote(math.nan, _reason([draw[slot] for draw in draws])) for slot in slots}
    winner, _ = counted.most_common(1)[0]
    draw = draws[indices.index(winner)]
    n_draws = sum(counted.values())
    return {slot: Vote(draw[slot].value, draw[slot].reason, n_draws, n_draws) for slot in slots}


def _first_error(draw: Mapping[Slot, Ballot], slots: Sequence[Slot]) -> int | None:
    """Position of the first slot below 0.5, -1 for none; None where a slot before it has no verdict."""
    for position, slot in enumerate(slots):
        if math.isnan(draw[slot].value):
            return None
        if draw[slot].value < 0.5:
            return position
    return -1


def _reason(ballots: Sequence[Ballot]) -> str:
    """The reason of the first ballot that failed; where all abstain, of the first."""
    failed = [ballot.reason for ballot in ballots if ballot.reason and not ballot.reason.startswith("abstained")]
    return next(iter([*failed, *(ballot.reason for ballot in ballots if ballot.reason)]), "the judge gave no verdict")
