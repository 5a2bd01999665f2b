"""Evaluators: what a node is worth. Each sets `value` on nodes, or leaves it unknown (NaN) with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stepward.core import Aggregation, Node, RewardModel, Scale, StepScores, check_aggregation
from stepward.environments.episode import grade
from stepward.search.watching import announce
from stepward.search.workbench import Workbench


class Evaluator(Protocol):
    """Sets `value` of nodes, and `reason` where it stays unknown. What it asks of policies and models goes through the workbench.

    Evaluators are frozen dataclasses: a strategy's fingerprint holds their fields. `scale` says what their values are.
    """

    @property
    def scale(self) -> Scale: ...

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """v = aggregate(step scores of the reward model). One score request a node."""

    model: RewardModel
    aggregation: Aggregation = "min"

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)

    @property
    def scale(self) -> Scale:
        return self.model.scale

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        def take(index: int, scores: StepScores) -> None:
            nodes[index].scores = scores
            reason = next((reason for reason in scores.reasons if reason), "there is no step to score")
            set_value(nodes[index], scores.overall(self.aggregation), reason)

        await bench.score(self.model, [node.trajectory for node in nodes], take=take)
        announce(bench.tree)


@dataclass(frozen=True, kw_only=True)
class Graded:
    """v = the environment's own outcome: an oracle for tests and upper bounds. Used at test time on real problems, it leaks the answer."""

    scale: ClassVar[Scale] = "probability"

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        for node in nodes:
            outcome = await grade(bench.environment, node.trajectory)
            set_value(node, math.nan if outcome.value is None else outcome.value, outcome.reason or "ungraded")
        announce(bench.tree)


@dataclass(frozen=True)
class Judgement:
    """What an evaluator says of one node."""

    value: float
    reason: str | None
    scores: StepScores | None


async def judged(evaluator: Evaluator, bench: Workbench, nodes: Sequence[Node]) -> list[Judgement]:
    """What the evaluator says of the nodes, without leaving it on them: they are as before, also when the search is stopped in between."""
    before = [Judgement(node.value, node.reason, node.scores) for node in nodes]
    try:
        await evaluator.evaluate(bench, nodes)
        return [Judgement(node.value, node.reason, node.scores) for node in nodes]
    finally:
        for node, old in zip(nodes, before, strict=True):
            node.value, node.reason, node.scores = old.value, old.reason, old.scores


def set_value(node: Node, value: float, reason: str) -> None:
    """The node's value; where it is not a number, `reason` says why."""
    node.value = value
    node.reason = reason if math.isnan(value) else None
