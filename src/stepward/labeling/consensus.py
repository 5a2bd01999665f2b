"""Consensus: two labelers of different kinds asked about the same steps, and what becomes of steps on which they disagree. Labels of one kind are elsewhere."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from stepward.core import ABSTAINED, NO_ERROR, InputError, Labeler, Semantics, StepLabels, Trajectory, Usage, canonical_json, content_hash, first_bad, metered
from stepward.labeling.decoders import Hard, propagate_negative
from stepward.labeling.sheet import AFTER_ERROR, Sheet

T = TypeVar("T")
Level = Literal["step", "first_error", "response"]
OnDisagreement = Literal["keep", "drop", "soften"]


def independent_error(a: float, b: float) -> float:
    """Error among labels on which two labelers agree, e1 e2 / (e1 e2 + (1 - e1)(1 - e2)), when each step's errors are independent given the truth.

    With errors that come together (one completing policy's blind spots, a judge of the same family) it is higher: up to min(e1, e2).
    """
    both_wrong, both_right = a * b, (1.0 - a) * (1.0 - b)
    return both_wrong / (both_wrong + both_right) if both_wrong + both_right else math.nan


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Labels of `a`, kept where `b` agrees: Monte-Carlo labels filtered by a judge (The Lessons of Developing Process Reward Models in Mathematical
    Reasoning, 2025; GenPRM, 2025), or any two labelers.

    What must agree, `level`: "step": each step by itself. "first_error": where the first error is, or that there is none; the labels are then those up to
    the first error, steps behind it are unlabelled (the Lessons' recipe). "response": every step (GenPRM drops the solution otherwise).
    What becomes of the rest, `on_disagreement`: "drop": unlabelled ("abstained: ..."). "keep": labelled as `a` has it, without a confidence. "soften": the
    mean of both values, with no hard label. A step that one of them does not label is a disagreement, except that "keep" and "soften" then take what is known.

    Semantics: those of both where they are the same. Where they differ, both are read as *prefix* labels, bad from the first bad step on; soft values
    are then replaced by 1 and 0. For "first_error" and "response" always *prefix*. `confidence` of an agreed step, where both state one:
    c1 c2 / (c1 c2 + (1 - c1)(1 - c2)), which takes their errors to be independent; `evidence`: what both say.

    Filtering keeps the errors that are easy to agree on: see `kept_shares`. Costs what both cost; they run at the same time.
    """

    a: Labeler
    b: Labeler
    level: Level = "first_error"
    on_disagreement: OnDisagreement = "drop"

    method: ClassVar[str] = "consensus"

    def __post_init__(self) -> None:
        if self.level not in ("step", "first_error", "response"):
            raise InputError(f"Consensus.level must be 'step', 'first_error' or 'response', got {self.level!r}")
        if self.on_disagreement not in ("keep", "drop", "soften"):
            raise InputError(f"Consensus.on_disagreement must be 'keep', 'drop' or 'soften', got {self.on_disagreement!r}")

    @property
    def semantics(self) -> Semantics:
        mine = semantics_of(self.a)
        return mine if self.level == "step" and mine == semantics_of(self.b) else "prefix"

    @property
    def fingerprint(self) -> str:
        return f"consensus/{content_hash(canonical_json([self.a.fingerprint, self.b.fingerprint, self.level, self.on_disagreement]))}"

    def describe(self) -> dict[str, Any]:
        parts = {"a": self.a.fingerprint, "b": self.b.fingerprint}
        return {"method": self.method, **parts, "level": self.level, "on_disagreement": self.on_disagreement}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        with metered() as ledger:
            a, b = await asyncio.gather(self.a.label(trajectory), self.b.label(trajectory))
        return agreed(a, b, level=self.level, on_disagreement=self.on_disagreement, source=self.describe(), usage=ledger.usage)


def agreed(a: StepLabels, b: StepLabels, *, level: Level = "first_error", on_disagreement: OnDisagreement = "drop", **fields: Any) -> StepLabels:
    """One set of labels from two, see `Consensus`; `fields` go to the result. The two must be about the same steps."""
    same = level == "step" and a.semantics == b.semantics
    ours, theirs = (a, b) if same else (as_prefix(a), as_prefix(b))
    agree, why = _agreement(ours, theirs, level)
    cut = first_bad(ours.hard) if level == "first_error" and all(agree) else None
    sheet = Sheet(len(a))
    for step, (mine, other) in enumerate(zip(ours.hard, theirs.hard, strict=True)):
        sheet.evidence[step] = a.evidence[step]
        sheet.note(step, a=mine, b=other)
        sheet.counts[step] = a.counts[step]
        known = [labels for labels in (ours, theirs) if not math.isnan(labels.values[step])]
        if cut is not None and NO_ERROR < cut < step:
            sheet.miss(step, AFTER_ERROR)
        elif agree[step] and mine is not None:
            sheet.value(step, float(ours.values[step]), mine)
            sheet.confidence[step] = _together(ours.confidence[step], theirs.confidence[step])
        elif on_disagreement == "drop" or not known:
            sheet.miss(step, f"{ABSTAINED}: {why[step]}")
        elif len(known) == 1 or on_disagreement == "keep":
            sheet.value(step, float(known[0].values[step]), known[0].hard[step])
        else:
            sheet.value(step, float(np.mean([labels.values[step] for labels in known])), None)
    made = sheet.labels(ours.semantics, {}, Usage())
    rationales = tuple(mine or other for mine, other in zip(a.rationales, b.rationales, strict=True))
    kinds = tuple((mine or other) if good is False else None for mine, other, good in zip(a.error_types, b.error_types, made.hard, strict=True))
    return replace(made, error_types=kinds, rationales=rationales, **fields)


def as_prefix(labels: StepLabels) -> StepLabels:
    """The hard labels read as "no error so far": bad from the first bad step on; an unknown step hides what follows up to it.

    Confidence: of *local* labels that of the first bad step, or the product of all so far (as if independent); of *value* labels none, for how likely a
    right finish is, or was, says little about errors so far.
    """
    if labels.semantics == "prefix":
        return labels
    hard = propagate_negative(labels.hard)
    unknown = next((step for step, good in enumerate(hard) if good is None), len(hard))
    shown: Hard = tuple(good if good is False or step < unknown else None for step, good in enumerate(hard))
    first = next((step for step, good in enumerate(shown) if good is False), len(shown))
    values = np.array([math.nan if good is None else float(good) for good in shown])
    confidence = np.full(len(shown), math.nan)
    if labels.semantics == "local":
        confidence[:first] = np.cumprod(labels.confidence[:first])
        confidence[first:] = labels.confidence[first] if first < len(shown) else math.nan
    reasons = tuple(None if good is not None else labels.reasons[step] or "a step before it is unlabelled" for step, good in enumerate(shown))
    return replace(labels, values=values, semantics="prefix", hard=shown, first_error=first_bad(shown), reasons=reasons, bounds=(), confidence=confidence)


def _agreement(a: StepLabels, b: StepLabels, level: Level) -> tuple[list[bool], list[str]]:
    """For each step whether they agree, and what they say where they do not."""
    single = [mine is not None and mine == other for mine, other in zip(a.hard, b.hard, strict=True)]
    if level == "step":
        return single, [f"one labeler says {_word(mine)}, the other {_word(other)}" for mine, other in zip(a.hard, b.hard, strict=True)]
    first, second = first_bad(a.hard), first_bad(b.hard)
    whole = all(single) if level == "response" else first is not None and first == second
    return [whole] * len(single), [f"the first error is {_place(first)} by one labeler and {_place(second)} by the other"] * len(single)


def _together(one: float, other: float) -> float:
    """Chance that a label is right on which two agree who are right with these chances, as if independent."""
    return math.nan if math.isnan(one) or math.isnan(other) else 1.0 - independent_error(1.0 - one, 1.0 - other)


def _word(good: bool | None) -> str:
    return "nothing" if good is None else "good" if good else "bad"


def _place(first: int | None) -> str:
    return "unknown" if first is None else "nowhere" if first == NO_ERROR else f"step {first}"


@dataclass(frozen=True, kw_only=True)
class FallBack:
    """Each step's label from the first of `labelers` that gives one: exact tools first, then a judge (VerifiAgent, 2025: a tool that cannot decide is no
    verdict, and never a bad one).

    A later labeler is asked only where an earlier one left something unlabelled. `evidence` says who labelled what. All must have one semantics.
    """

    labelers: tuple[Labeler, ...]

    method: ClassVar[str] = "fall-back"

    def __post_init__(self) -> None:
        object.__setattr__(self, "labelers", tuple(self.labelers))
        meanings = {getattr(labeler, "semantics", "prefix") for labeler in self.labelers}
        if len(meanings) != 1:
            raise InputError(
                f"FallBack needs labelers of one semantics, got {', '.join(sorted(meanings)) or 'no labeler'}; labels of different meaning do not mix"
            )

    @property
    def semantics(self) -> Semantics:
        return semantics_of(self.labelers[0])

    @property
    def fingerprint(self) -> str:
        return f"fall-back/{content_hash(*(labeler.fingerprint for labeler in self.labelers))}"

    def describe(self) -> dict[str, Any]:
        return {"method": self.method, "labelers": [labeler.fingerprint for labeler in self.labelers]}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        with metered() as ledger:
            made = await self.labelers[0].label(trajectory)
            for labeler in self.labelers[1:]:
                if not made.n_unlabelled:
                    break
                made = filled_in(made, await labeler.label(trajectory), labeler.fingerprint)
        return replace(made, source=self.describe(), usage=ledger.usage)


def filled_in(labels: StepLabels, other: StepLabels, name: str) -> StepLabels:
    """The labels, with another's where they have none."""
    take = np.isnan(labels.values) & ~np.isnan(other.values)
    note: Mapping[str, Any] = {"labelled by": name}

    def chosen(ours: Sequence[T], theirs: Sequence[T]) -> tuple[T, ...]:
        return tuple(other_one if other_is else one for one, other_one, other_is in zip(ours, theirs, take, strict=True))

    hard = chosen(labels.hard, other.hard)
    return StepLabels(
        np.where(take, other.values, labels.values),
        labels.semantics,
        hard,
        first_bad(hard),
        chosen(labels.reasons, other.reasons),
        chosen(labels.error_types, other.error_types),
        chosen(labels.rationales, other.rationales),
        chosen(labels.counts, other.counts),
        np.where(take, other.confidence, labels.confidence),
        chosen(labels.bounds, other.bounds),
        tuple((*ours, *theirs, note) if other_is else ours for ours, theirs, other_is in zip(labels.evidence, other.evidence, take, strict=True)),
        labels.source,
        labels.usage + other.usage,
    )


def semantics_of(labeler: Labeler) -> Semantics:
    """What a labeler's labels mean; *prefix* where it does not say."""
    found: Semantics = getattr(labeler, "semantics", "prefix")
    return found
