"""Monte-Carlo tree search over steps. Which child comes next is in priority.py, what nodes are worth in evaluators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from stepward.core import InputError, Node
from stepward.search.choose import argmax, node_weighted_vote, weighted_vote
from stepward.search.guided_tree import GuidedTree
from stepward.search.priority import Priority, Rule, backup_max, close_upward, open_children
from stepward.search.sampled import at_least_one
from stepward.search.workbench import Workbench

Visit = Literal["end", "leaf", "rollout"]
AnswerBy = Literal["value", "visits", "vote", "nodes"]


@dataclass(frozen=True, kw_only=True)
class MCTS(GuidedTree):
    """Descend by priority, expand, value, back up; `iterations` times.

    An expansion draws `expansions` next steps and values them at once. Which value an iteration backs up is `visit`:
    "end": it descends and expands until it meets an end, and backs up the end's value (OpenR). Every iteration passes one whole solution.
    "leaf": it stops at the first unvisited node and backs up that node's own value; a node is expanded when it is reached again. The root, which has no step
    to score, counts as the mean of its first children. N = 1 + sum of the children's N at every expanded node.
    "rollout": the same, with the value of one completion from there by the policy; inner steps are not valued, and completions may be the answer. The one for
    evaluators that know ends only ("graded"): with the others they leave no inner step to go by. A prefix whose completion has no value is closed, but the root
    is completed anew.

    priority: "puct", Q + P sqrt(N_p) / (1 + N) (c_init + ln((N_p + c_base + 1) / c_base)), P the softmax over siblings of the mean log-probability of a token
    and Q of an unvisited child its own value; "uct", Q + c sqrt(ln N_p / N), and "uct2", with 2 ln N_p, which visit every child once first. Ties go to the
    larger own value, then to the first. backup: Q is the "mean" of the values that came by, or their "max". A node whose expansion gives nothing is closed,
    and the lowest value known in the tree is backed up for it.
    commit: after `iterations` iterations go to the most visited child, drop its siblings, and search on from there, until an end (AlphaZero; Bag of Tricks).
    answer_by: the end of largest "value", the best end below where the most "visits" lead, the weighted "vote" of all ends, or "nodes", where every node adds
    its value once to every answer below it (LLM Reasoners). Where no end has a value after the last iteration, or when half
    of a budget is spent, the most visited prefix is completed once.

    Cost for I iterations and steps of l tokens: "leaf" at most I x expansions x l policy tokens and as many scores; "end" that times the depth of the
    tree for the first iterations, nothing where it comes by old nodes; "rollout" also I completions.
    Defaults: c_init, c_base and 20 iterations are OpenR's (2024; AlphaZero, 2018), c = 1.4 that of optillm's rStar; expansions 4 is that of compute-optimal
    scaling scripts. (Bandit Based Monte-Carlo Planning, 2006; AlphaZero-like Tree-Search can Guide Large Language Model Decoding and Training, 2023.)
    Differences from OpenR: no noise at the root; equal siblings are merged (`notes` count them), and a child's prior is its share of the draws where a policy
    tells no log-probability. An increasing map of the values can change the search; a constant added to all cannot change the visits,
    but it can change an answer by "vote" or "nodes", which add values up.
    """

    priority: Rule = "puct"
    c: float = 1.4
    c_init: float = 1.25
    c_base: float = 19652.0
    iterations: int = 20
    expansions: int = 4
    visit: Visit = "end"
    backup: Literal["mean", "max"] = "mean"
    commit: bool = False
    answer_by: AnswerBy = "value"

    name = "mcts"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, iterations=self.iterations, expansions=self.expansions)
        for field, choices in (("visit", get_args(Visit)), ("backup", ("mean", "max")), ("answer_by", get_args(AnswerBy))):
            if getattr(self, field) not in choices:
                raise InputError(f"{type(self).__name__}.{field} must be one of {', '.join(choices)}, got {getattr(self, field)!r}")
        _ = self.rule

    @property
    def rule(self) -> Priority:
        return Priority(rule=self.priority, c=self.c, c_init=self.c_init, c_base=self.c_base)

    async def explore(self, bench: Workbench) -> None:
        start: Node | None = bench.root
        finished = False
        while start is not None:
            for _ in range(self.iterations):
                if start.closed:
                    break
                await self.iterate(bench, start)
                if not finished and self.half_spent(bench):
                    finished = True
                    await self.finish(bench, most_visited(bench.root))
            start = self.move(start) if self.commit else None
        await self.finish(bench, most_visited(bench.root))

    async def iterate(self, bench: Workbench, start: Node) -> None:
        """One visit of the tree below `start`."""
        node = start
        while not node.ended:
            if not open_children(node):
                if self.visit != "end" and not node.visits:
                    break  # a first visit takes the node as it is
                await self.expand(bench, node, self.expansions, judge=self.visit != "rollout")
                if node.closed:
                    break
            node = self.rule.best(node)
        value = await self.worth(bench, node)
        if not math.isnan(value):
            (backup_max if self.backup == "max" else Node.backup)(node, value)

    async def worth(self, bench: Workbench, node: Node) -> float:
        """What a visit of this node brings back; NaN for nothing."""
        if node.closed:
            return min((known.value for known in bench.tree if not math.isnan(known.value)), default=math.nan)
        if node.ended:
            return node.value
        if self.visit == "rollout":
            end = await self.rollout(bench, node)
            if end is None and node.parent is not None:  # at the root there is nowhere else to go: the next visit tries again
                node.drop("no completion of it has a value")
                close_upward(node)
            return math.nan if end is None else end.value
        if math.isnan(node.value):  # the root, which no evaluator has seen
            children = await self.expand(bench, node, self.expansions)
            node.value = sum(child.value for child in children) / len(children) if children else math.nan
        return node.value

    def move(self, start: Node) -> Node | None:
        """The most visited child of `start`, of equals that of larger Q, then the first; its siblings are dropped. None after an end."""
        children = open_children(start)
        if start.ended or not children:
            return None
        best = max(children, key=lambda child: (child.visits, -math.inf if math.isnan(child.q) else child.q))
        for child in children:
            if child is not best:
                child.drop(f"node {best.index} was visited more")
        return None if best.ended else best

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        values = [end.value for end in ends]
        if self.answer_by == "value":
            return argmax(values)
        if self.answer_by == "vote":
            return weighted_vote(bench.answers(ends), values)
        if self.answer_by == "visits":
            return _below(most_visited(bench.root), ends)
        known = [None if math.isnan(value) else answer for value, answer in zip(values, bench.answers(ends), strict=True)]
        return node_weighted_vote(known, [[node.index for node in end.path[1:]] for end in ends], [node.value for node in bench.tree])


def _below(node: Node, ends: list[Node]) -> int | None:
    """The end of largest value below the node, or else below the nearest node above it that has one."""
    for place in reversed(node.path):
        found = argmax([end.value if place in end.path else math.nan for end in ends])
        if found is not None:
            return found
    return None


def most_visited(root: Node) -> Node:
    """The node that a descent by visits ends at."""
    node = root
    while any(child.visits for child in node.children):
        node = max(node.children, key=lambda child: child.visits)
    return node
