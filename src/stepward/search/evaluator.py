"""Evaluators: what a node is worth. Each sets `value` on nodes, or leaves it unknown (NaN) with the reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stepward.core import Aggregation, Node, RewardModel, check_aggregation
from stepward.environments.episode import grade
from stepward.search.watching import announce
from stepward.search.workbench import Workbench


class Evaluator(Protocol):
    """Sets `value` of nodes, and `reason` where it stays unknown. What it asks of policies and models goes through the workbench."""

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scored:
    """v = aggregate(step scores of the reward model). One score request a node."""

    model: RewardModel
    aggregation: Aggregation = "min"

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        for node, scores in zip(nodes, await bench.score(self.model, [node.trajectory for node in nodes]), strict=True):
            node.scores = scores
            set_value(node, scores.overall(self.aggregation), next((reason for reason in scores.reasons if reason), "there is no step to score"))
        announce(bench.tree)


@dataclass(frozen=True, kw_only=True)
class Graded:
    """v = the environment's own outcome: an oracle for tests and upper bounds. Used at test time on real problems, it leaks the answer."""

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        for node in nodes:
            outcome = await grade(bench.environment, node.trajectory)
            set_value(node, math.nan if outcome.value is None else outcome.value, outcome.reason or "ungraded")
        announce(bench.tree)


def set_value(node: Node, value: float, reason: str) -> None:
    """The node's value; where it is not a number, `reason` says why."""
    node.value = value
    node.reason = reason if math.isnan(value) else None
