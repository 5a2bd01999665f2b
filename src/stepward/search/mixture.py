"""Weighted sums of evaluators, and the beam that adds what a process model and a value model say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from stepward.core import Aggregation, InputError, Node, RewardModel, Scale, check_aggregation
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator, Scored, judged, set_value
from stepward.search.watching import announce
from stepward.search.workbench import Workbench

Normalise = Literal["none", "rank"]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """v = sum over parts of weight x value. A node that any part of weight other than 0 cannot value is unknown, with that part's reason.

    The parts' values must be comparable. normalise="none" takes them as they are, and wants them on one scale: calibrate the models to probabilities where
    they are not. normalise="rank" first replaces each part's values by their mid-ranks among the nodes judged together, (rank - 1) / (n - 1) in [0, 1], 1 the
    best, and 0.5 for a node alone: invariant to increasing maps of every part, but a node that is kept for later levels keeps the rank of its own. Parts of
    weight 0 are not asked. A node's step scores are the first part's.

    Raises: InputError for no part, an infinite weight, or parts on different scales with normalise="none".
    """

    parts: tuple[tuple[float, Evaluator], ...]
    normalise: Normalise = "none"

    def __post_init__(self) -> None:
        if not self.asked or not all(math.isfinite(weight) for weight, _ in self.parts):
            raise InputError(f"Mix needs finite weights, at least one of them not 0, got {[weight for weight, _ in self.parts]}")
        if self.normalise not in get_args(Normalise):
            raise InputError(f"Mix.normalise must be one of {', '.join(get_args(Normalise))}, got {self.normalise!r}")
        scales = {part.scale for _, part in self.asked}
        if self.normalise == "none" and len(scales) > 1:
            raise InputError(f"values on the scales {', '.join(sorted(scales))} cannot be added; calibrate the models, or take normalise='rank'")

    @property
    def asked(self) -> tuple[tuple[float, Evaluator], ...]:
        """The parts that count."""
        return tuple((weight, part) for weight, part in self.parts if weight)

    @property
    def scale(self) -> Scale:
        return self.asked[0][1].scale

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        said = [await judged(part, bench, nodes) for _, part in self.asked]
        columns = [[judgement.value for judgement in judgements] for judgements in said]
        if self.normalise == "rank":
            columns = [mid_ranks(column) for column in columns]
        for place, node in enumerate(nodes):
            value = sum(weight * column[place] for (weight, _), column in zip(self.asked, columns, strict=True))
            reason = next((judgements[place].reason for judgements in said if judgements[place].reason), None)
            set_value(node, value, reason or "a part is unknown")
            node.scores = said[0][place].scores
        announce(bench.tree)


def mid_ranks(values: Sequence[float]) -> list[float]:
    """(rank - 1) / (n - 1) among the n known values, shape as `values`, 1 the largest; ties share their mean rank, one value alone gets 0.5, NaN stays."""
    known = sorted(value for value in values if not math.isnan(value))
    if len(known) < 2:
        return [value if math.isnan(value) else 0.5 for value in values]
    places: dict[float, list[int]] = {}
    for place, value in enumerate(known):
        places.setdefault(value, []).append(place)
    return [value if math.isnan(value) else sum(places[value]) / len(places[value]) / (len(known) - 1) for value in values]


@dataclass(frozen=True, kw_only=True)
class BidirectionalBeam(StepBeam):
    """A step beam with key = V + beta R: how likely the prefix is to end right (`value_model`, last score), and how right it is so far (`model`, aggregated).

    Like A*: R looks back, V ahead. beta = 0 is the beam on V, beta = inf the beam on R. Cost for T steps of l tokens: width x expansions x T x l policy
    tokens; both models read every candidate. (BiRM: Better Process Supervision with Bi-directional Rewarding Signals, 2025.) Defaults: beta 1 and the mean
    of R, as in the authors' code (its beam scripts use 1.5 to 3.5). Differences: two reward models instead of one with two heads (`process-and-value` makes one
    model of them); duplicates are not pushed down.

    Raises: InputError for models on different scales with normalise="none" (see `Mix`), or a negative beta.
    """

    value_model: RewardModel
    beta: float = 1.0
    aggregation: Aggregation = "mean"
    value_aggregation: Aggregation = "last"
    normalise: Normalise = "none"

    name = "birm"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_aggregation(self.value_aggregation)
        if not self.beta >= 0.0:
            raise InputError(f"BidirectionalBeam.beta must be at least 0 (or inf), got {self.beta!r}")
        _ = self.evaluator

    @property
    def evaluator(self) -> Evaluator:
        value = Scored(model=self.value_model, aggregation=self.value_aggregation)
        weights = (0.0, 1.0) if math.isinf(self.beta) else (1.0, self.beta)
        return Mix(parts=((weights[0], value), (weights[1], super().evaluator)), normalise=self.normalise)
