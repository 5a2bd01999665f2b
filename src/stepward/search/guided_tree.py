"""GuidedTree: what strategies share that judge every node as it is made, by a reward model or another evaluator. How the tree grows is theirs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from stepward.core import Aggregation, InputError, Kind, Node, Policy, RewardModel, check_aggregation
from stepward.search.evaluator import Evaluator, Scored, set_value
from stepward.search.priority import close_upward, merge_equal, open_children
from stepward.search.strategy import Strategy
from stepward.search.workbench import OutOfBudget, Stopped, Workbench

CUT_OFF = "cut off by a limit"


@dataclass(frozen=True, kw_only=True)
class GuidedTree(Strategy):
    """A strategy with values of nodes: those of `evaluator`, or else the step scores of `model`, aggregated ("last": a value of the prefix).

    Children that are cut off by a limit, equal to an earlier sibling or without a value are dropped with the reason. Only where no other end has a value do
    those that were cut off get theirs, for what they may state.
    """

    model: RewardModel | None = None
    evaluator: Evaluator | None = None
    aggregation: Aggregation = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None and self.evaluator is None:
            raise InputError(f"{type(self).__name__} needs a reward model (model) or an evaluator")
        check_aggregation(self.aggregation)

    @property
    def values(self) -> Evaluator:
        """What a node is worth."""
        if self.evaluator is not None:
            return self.evaluator
        assert self.model is not None  # checked at construction
        return Scored(model=self.model, aggregation=self.aggregation)

    @abstractmethod
    async def explore(self, bench: Workbench) -> None:
        """Grow the tree until the strategy is done."""

    async def grow(self, bench: Workbench) -> None:
        try:
            await self.explore(bench)
        except Stopped:
            await self.value_cut(bench)
            raise
        await self.value_cut(bench)

    async def propose(self, bench: Workbench, node: Node, n: int) -> list[Node]:
        """n children of the node. Variants propose in other ways."""
        return await drawn(bench, node, n)

    async def expand(self, bench: Workbench, node: Node, n: int, *, judge: bool = True) -> list[Node]:
        """The new children that stay, with their values (those that have ended, always); without an open child the node is closed."""
        n_failed = len(bench.failures)
        children = await self.propose(bench, node, n)
        await self.admit(bench, node, children, judge=judge)
        if not open_children(node):
            node.drop(next(iter(bench.failures[n_failed:]), "no step after it could be used"))
            close_upward(node)
        return [child for child in children if not child.closed]

    async def admit(self, bench: Workbench, parent: Node, children: Sequence[Node], *, judge: bool = True) -> None:
        """Value the children and drop what is of no use."""
        for child in children:
            if child.trajectory.truncated:
                cut_off(child)
        bench.notes["duplicates"] = bench.notes.get("duplicates", 0) + merge_equal(parent)
        await self.value(bench, [child for child in children if not child.closed and (judge or child.ended)])

    async def value(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        """Set the nodes' values; drop those that stay unknown."""
        if nodes:
            await self.values.evaluate(bench, nodes)
        for node in nodes:
            if math.isnan(node.value):
                node.drop(f"unscored: {node.reason}")

    async def finish(self, bench: Workbench, node: Node) -> None:
        """Complete a prefix once where the tree has no end with a value, so that there is an answer."""
        if no_answer(bench):
            await self.rollout(bench, next(place for place in reversed(node.path) if not place.ended))

    def half_spent(self, bench: Workbench) -> bool:
        """Whether it is time to `finish` what has no answer yet, lest the budget ends before any solution does."""
        left = bench.purse.left
        return any(2 * left[name] <= limit for name, limit in bench.purse.limits.items())

    async def value_cut(self, bench: Workbench) -> None:
        """The values of the ends that were cut off, where no end has one."""
        cut = [end for end in bench.tree.ends if end.dropped == CUT_OFF]
        if cut and no_answer(bench):
            await self.values.evaluate(bench, cut)

    async def rollout(self, bench: Workbench, node: Node) -> Node | None:
        """A whole solution from the node, with its value; None where it has none. It is an end of the tree, closed to descents."""
        was = node.closed, node.dropped
        try:
            (end,) = await bench.complete([node], 1)
        except OutOfBudget:
            raise
        except Stopped:
            return None
        finally:
            node.closed, node.dropped = was
        end.closed = True
        if end.trajectory.truncated:
            cut_off(end)
            return None
        await self.value(bench, [end])
        return None if math.isnan(end.value) else end


async def drawn(bench: Workbench, node: Node, n: int, *, policy: Policy | None = None, kind: Kind = "sample") -> list[Node]:
    """n children by a policy; none where the request fails, which the workbench's `failures` tell."""
    was = node.closed, node.dropped
    try:
        return await bench.expand([node], n, policy=policy, kind=kind)
    except OutOfBudget:
        raise
    except Stopped:
        return []
    finally:
        node.closed, node.dropped = was  # other proposals may do what this one could not


def cut_off(node: Node) -> None:
    """Unscored, and nothing to go on from."""
    set_value(node, math.nan, CUT_OFF)
    node.drop(CUT_OFF)


def no_answer(bench: Workbench) -> bool:
    """Whether no end of the tree has a value yet."""
    return all(math.isnan(end.value) for end in bench.tree.ends)
