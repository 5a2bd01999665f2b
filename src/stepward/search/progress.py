"""Progress under a prover: judging a step by its value and by how much it raises another policy's chances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Aggregation, InputError, Node, RewardModel, Scale, StepScores, check_aggregation
from stepward.labeling.estimators import best_of_value
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator, set_value
from stepward.search.watching import announce
from stepward.search.workbench import Workbench

PER_STEP: tuple[Scale, ...] = ("advantage", "logratio")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """v = Q + alpha A: Q the model's aggregated scores, A what the node's last edge adds to the chances of a prover.

    A prover model on the probability scale is a value model: A = B(V after the edge) - B(V before it), B(V) = 1 - (1 - V)^best_of the value of the best of
    `best_of` tries, both V read from the scores of the node's own trajectory. Before the first step there is no score: there V is the mean of the first steps
    judged together, which shifts all of them alike. A model on the advantage or logratio scale says A itself, summed over the edge (for log-ratios alpha is
    also the exchange rate). prover None: the model itself; with best_of = 1 A then orders siblings as Q does and says nothing new. alpha = 0: Q alone, and no
    prover is asked.

    Raises: InputError for a model that is not on the probability scale, a prover on the logit scale, best_of < 1 or on per-step scores, or an infinite alpha.
    """

    model: RewardModel
    prover: RewardModel | None = None
    alpha: float = 0.5
    best_of: int = 1
    aggregation: Aggregation = "last"

    scale: ClassVar[Scale] = "probability"

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        if not math.isfinite(self.alpha):
            raise InputError(f"alpha must be finite, got {self.alpha!r}")
        if self.model.scale != "probability":
            raise InputError(f"progress is added to chances, {self.model.fingerprint} gives {self.model.scale} scores; calibrate it (stepward calibrate)")
        if self.judge.scale == "logit":
            raise InputError(f"differences of logits are no progress; calibrate the prover {self.judge.fingerprint} to probabilities (stepward calibrate)")
        if self.best_of < 1 or (self.best_of > 1 and self.judge.scale in PER_STEP):
            raise InputError(f"best_of must be at least 1, and 1 for a prover that gives {self.judge.scale} scores, got {self.best_of}")

    @property
    def judge(self) -> RewardModel:
        """Whose chances a step is to raise."""
        return self.model if self.prover is None else self.prover

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        trajectories = [node.trajectory for node in nodes]
        scores = await bench.score(self.model, trajectories)
        seen = scores if self.judge.fingerprint == self.model.fingerprint or not self.alpha else await bench.score(self.judge, trajectories)
        gains = advantages(nodes, seen, best_of=self.best_of) if self.alpha else [0.0] * len(nodes)
        for node, own, other, gain in zip(nodes, scores, seen, gains, strict=True):
            node.scores = own
            reasons = [reason for reason in (*own.reasons, *other.reasons) if reason]
            set_value(node, own.overall(self.aggregation) + self.alpha * gain, reasons[0] if reasons else "there is no step to score")
        announce(bench.tree)


def advantages(nodes: Sequence[Node], scores: Sequence[StepScores], *, best_of: int = 1) -> list[float]:
    """What each node's last edge adds: the sum of its steps' scores where these are advantages or log-ratios, else the difference of values (see `Progress`).

    One number a node, in [-1, 1] for differences; NaN where a score that it needs is unknown. An edge without a step adds 0.
    """
    starts = [0 if node.parent is None else len(node.parent.trajectory) for node in nodes]
    if any(found.scale in PER_STEP for found in scores):
        return [float(found.values[start:].sum()) for found, start in zip(scores, starts, strict=True)]
    first = [float(found.values[0]) for found, start in zip(scores, starts, strict=True) if start == 0 and len(found) and not math.isnan(found.values[0])]
    root = sum(first) / len(first) if first else math.nan

    def gain(found: StepScores, start: int) -> float:
        if start == len(found):
            return 0.0
        before, after = (best_of_value(value, best_of) for value in (found.values[start - 1] if start else root, found.values[-1]))
        return float(after - before)

    return [gain(found, start) for found, start in zip(scores, starts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ProgressBeam(StepBeam):
    """A step beam with key = Q + alpha A: the model's value of a prefix, and what its last step adds to the chances of a prover.

    The prover is another policy, whose value model or advantage model `prover` is; None: the best of `best_of` tries of the policy that `model` judges, by
    B(V) = 1 - (1 - V)^best_of. It must tell steps apart: a prover that is as good as perfect, or hopeless, gives A = 0 everywhere; the policy itself orders
    siblings as Q does. alpha = 0 is the value beam. Cost for T steps of l tokens: width x expansions x T x l policy tokens; one score a candidate, two with
    a prover of its own. (PAV: Rewarding Progress: Scaling Automated Process Verifiers for LLM Reasoning, 2024.) Defaults: alpha 0.5 (the paper's for its 2B
    and 9B models; 0.2 for 27B), best of 4 where no prover is given. Differences: A is the difference of two value scores where the paper trains a verifier for
    it; before the first step V is the mean of the first steps' values.
    """

    prover: RewardModel | None = None
    alpha: float = 0.5
    best_of: int | None = None
    aggregation: Aggregation = "last"

    name = "progress-beam"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.evaluator

    @property
    def evaluator(self) -> Evaluator:
        best_of = (4 if self.prover is None else 1) if self.best_of is None else self.best_of
        return Progress(model=self.model, prover=self.prover, alpha=self.alpha, best_of=best_of, aggregation=self.aggregation)
