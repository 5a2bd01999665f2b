"""Full-width trees: every node gets the same number of next steps. Node compression's data (HRM) and exhaustive enumeration (BPP) start here."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import FAILURES, InputError, Node, Problem, Semantics, Trajectory, Tree
from stepward.environments.episode import complete, expand
from stepward.labeling.chain import Chain
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.pairs import StepPair
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.backup import Values, descending, leaf_any, leaf_mean
from stepward.labeling.trees.harvest import NodeLabel, write
from stepward.labeling.trees.labeler import Found, TreeLabeler


async def full_width(completer: Completer, start: Problem | Trajectory, *, width: int, height: int) -> Tree:
    """`width` next steps at every open node, `height` levels of them; what has not ended then is completed by one draw. Ends are graded.

    At most width^height ends. Equal siblings stay separate draws with draws of their own below, so that the share of right ends below a node is an
    unbiased estimate of V there. Raises what the policy raises.
    """
    tree = Tree(start)
    level, seen = [tree.root], dict[str, int]()
    for depth in range(height + 1):
        open_nodes = [node for node in level if not node.ended]
        n, grow = (width, expand) if depth < height else (1, complete)
        draws = []
        for node in open_nodes:  # equal prefixes take different draws, or their children would be equal too
            draws.append(seen.get(node.trajectory.key, 0))
            seen[node.trajectory.key] = draws[-1] + n
        made = await asyncio.gather(
            *(
                grow(completer.policy, completer.environment, node.trajectory, n, sampling=completer.sampling, draw=draw)
                for node, draw in zip(open_nodes, draws, strict=True)
            )
        )
        flat = [(node, child) for node, children in zip(open_nodes, made, strict=True) for child in children]
        graded = await asyncio.gather(*(_graded(completer, child) for _, child in flat))
        level = [tree.add(node, child) for (node, _), child in zip(flat, graded, strict=True)]
    return tree


@dataclass(frozen=True, kw_only=True)
class FullWidth(TreeLabeler):
    """A prefix is worth the share of right ends below it in a full-width tree ("mean"), or 1 when some end is right ("any").

    `width` next steps a node and `height` levels, then one completion each: at most width^height ends below every labelled prefix. `label` builds such a
    tree below every open prefix of a given trajectory; height 1 is Monte-Carlo by `width` completions. `grow` builds one from the problem.
    Hard: value above 0. Semantics: *value*; E[mean] = V(prefix).

    The tree of Hierarchical Multi-Step Reward Models (2025) before compression (see `compress`), and, for environments with few possible steps a layer,
    the enumerated tree of BPP-Search (2024), whose inner labels are any or mean and whose leaves make pairs (`sibling_pairs`).
    """

    width: int = 2
    height: int = 3
    inner: Literal["mean", "any"] = "mean"
    most_ends: int = 4096

    method: ClassVar[str] = "full-width"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"FullWidth needs width and height >= 1, got {self.width} and {self.height}")
        if self.width**self.height > self.most_ends:
            raise InputError(f"{self.width}^{self.height} ends are more than most_ends = {self.most_ends}; lower width or height, or raise most_ends")
        if self.inner not in ("mean", "any"):
            raise InputError(f"FullWidth.inner must be 'mean' or 'any', got {self.inner!r}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        trees = await asyncio.gather(*(self._below(bank.completer, prefix) for prefix in chain.open_prefixes))
        for step, tree in enumerate(trees):
            value = math.nan if isinstance(tree, str) else self.values(tree)[0]
            if math.isnan(value):
                sheet.miss(step, tree if isinstance(tree, str) else "no end of the tree could be graded")
            else:
                write(sheet, step, NodeLabel(value, value > 0.0))
        if chain.outcome is not None:
            sheet.graded(len(chain) - 1, chain.outcome)

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        tree = await self._below(bank.completer, Trajectory(problem))
        if isinstance(tree, str):
            return Found(Tree(problem), {}, tree)
        labels = {index: NodeLabel(value, value > 0.0) for index, value in self.values(tree).items() if not math.isnan(value)}
        return Found(tree, labels, "no end of the tree could be graded")

    def values(self, tree: Tree) -> Values:
        """The value of every node of a tree by its index."""
        return leaf_mean(tree.root) if self.inner == "mean" else leaf_any(tree.root)

    async def _below(self, completer: Completer, prefix: Trajectory) -> Tree | str:
        try:
            return await full_width(completer, prefix, width=self.width, height=self.height)
        except FAILURES as error:
            return f"rollouts failed: {error}"


def sibling_pairs(root: Node, values: Values, *, margin: float = 0.0, method: str = "siblings") -> list[StepPair]:
    """A pair for every two children of one node whose values, in [0, 1], differ by more than `margin`: the better one chosen. Equal texts make none."""
    pairs = []
    for node in descending(root):
        known = [(child, values[child.index]) for child in node.children if not math.isnan(values.get(child.index, math.nan))]
        for place, (one, a) in enumerate(known):
            for other, b in known[place + 1 :]:
                if abs(a - b) > margin and one.trajectory.key != other.trajectory.key:
                    better, worse = (one, other) if a > b else (other, one)
                    first = len(node.trajectory)
                    chosen, rejected = better.trajectory.steps[first:], worse.trajectory.steps[first:]
                    source = {"method": method, "chosen": max(a, b), "rejected": min(a, b)}
                    pairs.append(StepPair(node.trajectory, chosen, rejected, abs(a - b), source))
    return pairs


async def _graded(completer: Completer, trajectory: Trajectory) -> Trajectory:
    return trajectory.graded(await completer.grade(trajectory)) if trajectory.ended else trajectory
