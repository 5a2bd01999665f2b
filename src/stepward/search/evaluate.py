"""Evaluating nodes with a reward model: scores, and one aggregated value a node."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from stepward.core import FAILURES, Aggregation, Node, RewardModel, StepScores, Trajectory


async def evaluate(nodes: Sequence[Node], model: RewardModel, aggregation: Aggregation) -> None:
    """Write `scores` and `value` = aggregate(scores) into every node; a failure leaves the value unknown with its reason.

    A step on which the model abstains is left out of the aggregate; a step that it failed to score makes the value unknown.
    """

    async def one(node: Node) -> None:
        scores = await score_or_reason(model, node.trajectory)
        node.scores = scores
        node.value = scores.overall(aggregation)
        node.reason = next((reason for reason in scores.reasons if reason), "there is no step to score") if math.isnan(node.value) else None

    await asyncio.gather(*(one(node) for node in nodes))


async def score_or_reason(model: RewardModel, trajectory: Trajectory) -> StepScores:
    """The model's scores; unscored with the reason when the request fails."""
    try:
        return await model.score(trajectory)
    except FAILURES as error:
        return StepScores.unscored(len(trajectory), f"scoring failed: {error}", scale=model.scale)
