"""Self-training: a reward model labels what nobody labelled, keeps what it is sure of, and is trained again. How a model is trained is the learner's matter."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from stepward.core import ABSTAINED, Example, InputError, RewardModel, StepLabels, Trajectory, canonical_json, content_hash, first_bad, metered
from stepward.labeling.judges.asking import hear
from stepward.labeling.judges.labels import check_scale, findings
from stepward.labeling.judges.sheet import JudgeSheet, Meaning

Balance = Literal["none", "labels"]


class Learner(Protocol):
    """Trains a reward model. The same examples in the same order give the same model."""

    async def fit(self, examples: Sequence[Example]) -> RewardModel:
        """A new model trained on the labelled steps of the examples, from the same start each time."""
        ...


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """A model's own labels where it is sure: step t is kept if its label's chance is at least `tau`, and unlabelled ("abstained: ...") otherwise.

    p_t is the score; a step is good if p_t is not below the model's threshold. The chance, and the `confidence`, is p_t of a good step and 1 - p_t of a bad
    one: max(p_t, 1 - p_t) at the threshold 1/2. If the scores are calibrated, the error of
    the kept labels is at most 1 - tau; if not, calibrate first (`stepward.rewards.calibration`). tau = 1 keeps nothing, whatever the model claims.
    Source: Semi-Supervised Reward Modeling via Iterative Self-Training (SSRM, 2024), there for whole responses.
    """

    judge: RewardModel
    tau: float = 0.9
    semantics: Meaning = "prefix"

    method: ClassVar[str] = "pseudo-labels"

    def __post_init__(self) -> None:
        if not 0.5 <= self.tau <= 1.0:
            raise InputError(f"PseudoLabels.tau must lie in [0.5, 1], got {self.tau!r}")
        check_scale(self.judge)

    @property
    def fingerprint(self) -> str:
        return f"{self.method}/{content_hash(self.judge.fingerprint, canonical_json([self.tau, self.semantics]))}"

    def describe(self) -> dict[str, Any]:
        return {"method": self.method, "judge": self.judge.fingerprint, "tau": self.tau, "semantics": self.semantics}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step."""
        sheet = JudgeSheet(len(trajectory))
        with metered() as ledger:
            scores = await hear(self.judge, trajectory) if len(trajectory) else None
        for step, finding in enumerate(findings(scores) if scores is not None else ()):
            sure = finding.value if finding.good else 1.0 - finding.value
            if finding.good is None:
                sheet.miss(step, finding.reason or "the model gave no score")
            elif sure >= self.tau and self.tau < 1.0:
                sheet.value(step, finding.value, finding.good)
                sheet.confidence[step] = sure
            else:
                sheet.miss(step, f"{ABSTAINED}: confidence {sure:.3f} is below {self.tau}")
        return sheet.labels(self.semantics, self.describe(), ledger.usage)


@dataclass(frozen=True)
class Round:
    """One round: the model that labelled, the examples that it could label, and how many steps of each kind were kept."""

    model: RewardModel
    pseudo: tuple[Example, ...]
    n_good: int
    n_bad: int


@dataclass(frozen=True)
class SelfTrained:
    """The last model, and the rounds that led to it; none where nothing was ever kept."""

    model: RewardModel
    rounds: tuple[Round, ...]


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """Fit on labelled examples; label all the others anew in every round and keep what is sure; fit on both. SSRM (2024).

    Pseudo-labels are made afresh each round, so that an early mistake can be taken back. `balance` "labels": of the kind of which more was kept the least
    sure steps are left out, so that good and bad are equally many. `calibrate`: makes a calibrated model from a fitted one and the labelled
    examples, before labels are kept by confidence. Ends after `rounds`, or when a round keeps what the round before kept. With tau = 1 the result is the model
    fitted on the labelled examples alone.
    """

    learner: Learner
    tau: float = 0.9
    rounds: int = 3
    semantics: Meaning = "prefix"
    balance: Balance = "labels"
    calibrate: Callable[[RewardModel, Sequence[Example]], RewardModel] | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"SelfTraining.rounds must be at least 1, got {self.rounds}")
        if self.balance not in ("none", "labels"):
            raise InputError(f"SelfTraining.balance must be 'none' or 'labels', got {self.balance!r}")
        if not 0.5 <= self.tau <= 1.0:
            raise InputError(f"SelfTraining.tau must lie in [0.5, 1], got {self.tau!r}")

    async def train(self, labelled: Sequence[Example], unlabelled: Sequence[Trajectory]) -> SelfTrained:
        """The model after the last round."""
        model = await self._fitted(labelled, labelled)
        history: list[Round] = []
        for _ in range(self.rounds):
            made = await self._round(model, unlabelled)
            if not made.pseudo or (history and _same(made, history[-1])):
                break
            history.append(made)
            model = await self._fitted([*labelled, *made.pseudo], labelled)
        return SelfTrained(model, tuple(history))

    async def _fitted(self, examples: Sequence[Example], labelled: Sequence[Example]) -> RewardModel:
        model = await self.learner.fit(examples)
        return model if self.calibrate is None else self.calibrate(model, labelled)

    async def _round(self, model: RewardModel, unlabelled: Sequence[Trajectory]) -> Round:
        labeler = PseudoLabels(judge=model, tau=self.tau, semantics=self.semantics)
        labels: Sequence[StepLabels] = await asyncio.gather(*(labeler.label(trajectory) for trajectory in unlabelled))
        if self.balance == "labels":
            labels = balanced(labels)
        kept = [(trajectory, made) for trajectory, made in zip(unlabelled, labels, strict=True) if made.n_unlabelled < len(made)]
        hard = [good for _, made in kept for good in made.hard]
        pseudo = tuple(Example(trajectory, made, source="pseudo-labels") for trajectory, made in kept)
        return Round(model, pseudo, sum(good is True for good in hard), sum(good is False for good in hard))


def balanced(labels: Sequence[StepLabels]) -> list[StepLabels]:
    """The labels with as many good steps as bad ones: of the kind in excess the least sure are unlabelled (of equally sure ones the later)."""
    rows = [(label.confidence[step], -index, -step, good) for index, label in enumerate(labels) for step, good in enumerate(label.hard) if good is not None]
    n_good = sum(good for *_, good in rows)
    excess = 2 * n_good - len(rows)
    surplus = sorted(row for row in rows if row[3] == (excess > 0))[: abs(excess)]
    out = {(-index, -step) for _, index, step, _ in surplus}
    return [_without(label, {step for at, step in out if at == index}) for index, label in enumerate(labels)]


def _without(labels: StepLabels, steps: set[int]) -> StepLabels:
    if not steps:
        return labels
    hard = tuple(None if step in steps else good for step, good in enumerate(labels.hard))
    reasons = tuple(f"{ABSTAINED}: left out to balance good and bad" if step in steps else why for step, why in enumerate(labels.reasons))
    drop = np.array([step in steps for step in range(len(labels))])
    values, confidence = (np.where(drop, math.nan, row) for row in (labels.values, labels.confidence))
    return replace(labels, values=values, hard=hard, first_error=first_bad(hard), reasons=reasons, confidence=confidence)


def _same(one: Round, other: Round) -> bool:
    return [(example.id, example.labels and example.labels.hard) for example in one.pseudo] == [
        (example.id, example.labels and example.labels.hard) for example in other.pseudo
    ]
