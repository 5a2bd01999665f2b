"""Greedy search with backtracking: take the first good step, go back when all are bad."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from stepward.core import InputError, Node, RewardModel, top
from stepward.search.chain import standing, usable
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.guided_tree import drawn
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class Backtracking(Strategy):
    """Draws next steps one by one, takes the first good one, else the best neutral one; where all are bad it takes the last step back, at most B times.

    A step of value v (the score of the newest step, or the `evaluator`'s) is good for v >= `good`, bad for v < `bad` or where a limit cut it off, else
    neutral. At a prefix up to `tries` steps are drawn, none after a good one; a request that fails is a try. With neither good nor untried neutral left the
    prefix itself is dropped and its parent goes on: with what is left of its tries, then with its other neutral steps. When `backtracks` prefixes were dropped,
    or none is left to go back to, the best step is taken as it is, bad or not. Steps that are unscored or cut off are taken only when nothing else is left.
    The answer is the end of this chain.

    With as many tries as there are steps to draw, and enough backtracks, it is depth-first search: it finds a solution without bad steps iff there is one.
    Cost: at most tries x (D + B) steps and scores, D the number of steps of the longest prefix. (tries x D + B, as it is sometimes given, counts only one
    new step for each step taken back.)
    Defaults: good 0.7, bad 0.3, tries 4, backtracks 8 (reconstructed: the paper's model names the three classes itself).
    (Let's reward step by step: Step-Level reward model as the Navigators for Reasoning, 2023.)
    """

    model: RewardModel
    evaluator: Evaluator | None = None
    good: float = 0.7
    bad: float = 0.3
    tries: int = 4
    backtracks: int = 8

    name = "backtracking"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, tries=self.tries)
        if self.backtracks < 0:
            raise InputError(f"Backtracking.backtracks must be at least 0, got {self.backtracks}")
        if not self.bad <= self.good:
            raise InputError(f"Backtracking: a step is bad below {self.bad!r} and good from {self.good!r} on, so bad must not be above good")

    async def grow(self, bench: Workbench) -> None:
        evaluator = self.evaluator or Scored(model=self.model, aggregation="last")
        tried, taken, left = Counter[int](), set[int](), self.backtracks
        bench.notes["backtracks"] = 0
        node = bench.root
        while not node.ended:
            if len(node.trajectory) >= self.sampling.max_steps:
                raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and the chain had not ended")
            step = await self._next(bench, evaluator, node, tried, taken)
            if step is None and left > 0 and node.parent is not None:
                left -= 1
                bench.notes["backtracks"] += 1
                node.drop("only bad steps follow" if node.children else "no step follows")
                node = node.parent
                continue
            if not node.children:
                raise Stopped(bench.failures[-1])
            if step is None:  # no way back: the best that there is, and no going back from here on
                left = 0
                step = _best(node, taken)
            taken.add(step.index)
            node = step
        path = set(map(id, node.path))
        for end in bench.tree.ends:
            if id(end) not in path:
                end.drop("another step was taken")

    async def _next(self, bench: Workbench, evaluator: Evaluator, node: Node, tried: Counter[int], taken: set[int]) -> Node | None:
        """A good step if the tries left find one, else the best neutral step that was not taken before; None if all are bad."""
        while tried[node.index] < self.tries:
            tried[node.index] += 1
            for child in await drawn(bench, node, 1):  # none where the request fails, which was a try
                await evaluator.evaluate(bench, [child])
                if usable(child) >= self.good:
                    return child
        return next(iter(top((child for child in node.children if usable(child) >= self.bad and child.index not in taken), 1)), None)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        del bench
        return standing(ends)


def _best(node: Node, taken: set[int]) -> Node:
    """The step of largest value, those first that were not taken yet, and of these those that were not cut off."""
    fresh = [child for child in node.children if child.index not in taken and not math.isnan(child.value)]
    whole = [child for child in fresh if not child.trajectory.truncated]
    return top(whole or fresh or node.children, 1)[0]
