"""Step beam search."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from stepward.core import (
    FAILURES,
    Aggregation,
    Environment,
    InputError,
    Node,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    SearchResult,
    Tree,
    check_aggregation,
    metered,
    top,
)
from stepward.environments.episode import expand
from stepward.search.choose import argmax, weighted_vote
from stepward.search.evaluate import evaluate
from stepward.search.sampled import conclude, fingerprint, unscored


@dataclass(frozen=True, kw_only=True)
class StepBeam:
    """Keep the `width` best prefixes, extend each `expansions` times by one step, until all that are kept have ended.

    The beam starts with width x expansions first steps, so that about width x expansions prefixes are alive at every depth; prefixes
    that have ended keep their place while they stay among the best. The answer is the best end ("best") or the weighted vote of all ends
    ("vote"). width = k, expansions = 1 draws k independent chains. (Snell et al., Scaling LLM Test-Time Compute Optimally, 2024.)
    Difference from the public code: a candidate is scored once, at the step that it just wrote; ends are never duplicated.
    """

    policy: Policy
    environment: Environment
    model: RewardModel
    width: int = 4
    expansions: int = 4
    aggregation: Aggregation = "min"
    choose: Literal["best", "vote"] = "best"
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if self.choose not in ("best", "vote"):
            raise InputError(f"StepBeam.choose must be 'best' or 'vote', got {self.choose!r}")
        check_aggregation(self.aggregation)
        if self.width < 1 or self.expansions < 1:
            raise InputError(f"StepBeam needs width and expansions of at least 1, got {self.width} and {self.expansions}")

    @property
    def fingerprint(self) -> str:
        settings = [self.width, self.expansions, self.aggregation, self.choose, self.sampling.to_record()]
        return fingerprint("step-beam", self.policy, self.environment, self.model, *settings)

    async def search(self, problem: Problem) -> SearchResult:
        failure = None
        with metered() as ledger:
            tree = Tree(problem)
            kept, open_nodes = [tree.root], [tree.root]
            for depth in range(self.sampling.max_steps):
                try:
                    children = await self.expand(tree, open_nodes, self.width * self.expansions if depth == 0 else self.expansions)
                except FAILURES as error:
                    failure = f"sampling failed: {error}"
                    break
                await evaluate(children, self.model, self.aggregation)
                ended = [node for node in kept if node.ended]
                kept = top([*ended, *children], self.width)
                open_nodes = [node for node in kept if not node.ended]
                if not open_nodes:
                    break
            else:
                failure = f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and {len(open_nodes)} kept prefixes had not ended"
            answers = [self.environment.answer(node.trajectory) for node in tree.ends]
        values = [node.value for node in tree.ends]
        chosen = weighted_vote(answers, values) if self.choose == "vote" else argmax(values)
        return conclude(tree, chosen, ledger, self.fingerprint, failure or unscored(tree.ends), failure)

    async def expand(self, tree: Tree, nodes: list[Node], n: int) -> list[Node]:
        """`n` children of every node, one step further."""
        seen = Counter[str]()
        draws = []
        for node in nodes:  # equal prefixes take different draws, or their children would be equal too
            draws.append(n * seen[node.trajectory.key])
            seen[node.trajectory.key] += 1
        drawn = await asyncio.gather(
            *(expand(self.policy, self.environment, node.trajectory, n, sampling=self.sampling, draw=draw) for node, draw in zip(nodes, draws, strict=True))
        )
        return [tree.add(node, trajectory) for node, trajectories in zip(nodes, drawn, strict=True) for trajectory in trajectories]
