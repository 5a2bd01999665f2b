"""Precision: labels against the truth, where it is known: how many labels are right, how many are made, and which errors survive a filter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepward.core import Count, InputError, Labeler, StepLabels, Trajectory
from stepward.labeling.consensus import Level, OnDisagreement, agreed, as_prefix


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Right labels among labels made, as counts (`Count.value`, `Count.interval()`).

    `steps`: all hard labels; `bad`: labels "bad"; `good`: labels "good"; `first_errors`: known first errors; `kept`: steps with a hard label among all
    steps; `solutions`: solutions with a known first error among all.
    """

    steps: Count
    good: Count
    bad: Count
    first_errors: Count
    kept: Count
    solutions: Count


def precision(labels: Sequence[StepLabels], truths: Sequence[StepLabels]) -> Precision:
    """Labels against true labels of the same trajectories, step by step. Both hard; the truth should have the semantics that the labels claim."""
    pairs = [(mine, true) for made, truth in _matched(labels, truths) for mine, true in zip(made.hard, truth.hard, strict=True) if true is not None]
    made = [(mine, true) for mine, true in pairs if mine is not None]
    firsts = [(label.first_error, truth.first_error) for label, truth in _matched(labels, truths) if truth.first_error is not None]
    found = [(mine, true) for mine, true in firsts if mine is not None]
    return Precision(
        steps=_right(made),
        good=_right([pair for pair in made if pair[0]]),
        bad=_right([pair for pair in made if not pair[0]]),
        first_errors=Count(sum(mine == true for mine, true in found), len(found)),
        kept=Count(len(made), len(pairs)),
        solutions=Count(len(found), len(firsts)),
    )


def kept_shares(labels: Sequence[StepLabels], truths: Sequence[StepLabels]) -> Mapping[str, Count]:
    """How many true first errors of each type, and at each third of the solution ("first third", ...), are still labelled bad: what a filter is biased to.

    `truths` name error types (`StepLabels.error_types`); an error without one counts as "error".
    """
    total, kept = Counter[str](), Counter[str]()
    for made, truth in _matched(labels, truths):
        at = truth.first_error
        if at is None or at < 0:
            continue
        for name in (truth.error_types[at] or "error", ("first", "middle", "last")[min(2, 3 * at // len(truth))] + " third"):
            total[name] += 1
            kept[name] += made.hard[at] is False
    return {name: Count(kept[name], total[name]) for name in sorted(total)}


async def consensus_precision(
    trajectories: Sequence[Trajectory],
    truths: Sequence[StepLabels],
    a: Labeler,
    b: Labeler,
    *,
    level: Level = "first_error",
    on_disagreement: OnDisagreement = "drop",
) -> dict[str, Precision]:
    """Precision of two labelers, "a" and "b", and of their "consensus", on the same labels, none of which is made twice. All as *prefix* labels, against
    *prefix* truths (at level "step" with both of one semantics, as they are, against truths of that semantics).

    Filtering raises precision as far as the two err independently (`consensus.independent_error`) and costs the labels that it drops (`kept`).
    """
    ours, theirs = await asyncio.gather(_labels(a, trajectories), _labels(b, trajectories))
    both = [agreed(one, other, level=level, on_disagreement=on_disagreement) for one, other in zip(ours, theirs, strict=True)]
    as_are = bool(both) and level == "step" and both[0].semantics == ours[0].semantics == theirs[0].semantics
    shown = {"a": ours if as_are else list(map(as_prefix, ours)), "b": theirs if as_are else list(map(as_prefix, theirs)), "consensus": both}
    return {name: precision(labels, truths) for name, labels in shown.items()}


async def _labels(labeler: Labeler, trajectories: Sequence[Trajectory]) -> list[StepLabels]:
    return list(await asyncio.gather(*(labeler.label(trajectory) for trajectory in trajectories)))


def _matched(labels: Sequence[StepLabels], truths: Sequence[StepLabels]) -> list[tuple[StepLabels, StepLabels]]:
    if len(labels) != len(truths):
        raise InputError(f"{len(labels)} labelled trajectories but {len(truths)} true ones")
    return list(zip(labels, truths, strict=True))


def _right(pairs: Sequence[tuple[bool | None, bool | None]]) -> Count:
    return Count(sum(mine == true for mine, true in pairs), len(pairs))
