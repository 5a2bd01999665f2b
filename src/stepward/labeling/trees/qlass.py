"""QLASS: step Q-values by the best end below, on a tree explored around a solution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import InputError, Node, Problem, Semantics
from stepward.labeling.chain import Chain
from stepward.labeling.completer import RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.backup import leaf_max, min_max, pseudo_depth
from stepward.labeling.trees.harvest import NodeLabel, write
from stepward.labeling.trees.labeler import Found, TreeLabeler
from stepward.labeling.trees.rollout_tree import RolloutTree

FLAT = "abstained: all Q-values of the tree are equal, so that their scale is undefined"


@dataclass(frozen=True, kw_only=True)
class QLASS(TreeLabeler):
    """Q(end) = its reward, Q(prefix) = discount * max over next steps of Q, then min-max to [0, 1] within the tree.

    Exploration: `samples` different next steps at every prefix of the given trajectory up to `depth` steps, each completed to its end; then level by level
    on the other branches, beyond `free_depth` only where some end below has a reward above `floor`; at most `max_rollouts` completions in all.
    backup: "vanilla" as above; "pseudo_depth" gives inner nodes the mean of the ends below and lets early ends count on, see `backup.pseudo_depth`.
    Hard: some end below has a reward above `floor`.

    Semantics: *value*, of the best that was found rather than of the policy: the maximum is biased upward, the more so the wider the tree, and the scale
    is the tree's own. Values of different problems do not compare.
    (QLASS: Boosting Language Agent Inference via Q-Guided Stepwise Search, 2025.) Differences from its code: equal steps are one node instead of asking the
    agent for another one; a tree whose Q-values are all equal is abstained on instead of labelled 0; the limit is on rollouts, not on rows kept.
    """

    samples: int = 2
    depth: int = 8
    free_depth: int = 3
    discount: float = 0.9
    backup: Literal["vanilla", "pseudo_depth"] = "vanilla"
    floor: float = 0.01
    max_rollouts: int = 64

    method: ClassVar[str] = "qlass"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.samples < 1 or self.depth < 1 or self.free_depth < 0 or self.max_rollouts < 1:
            raise InputError(
                f"QLASS: samples, depth, max_rollouts >= 1, free_depth >= 0; got {self.samples}, {self.depth}, {self.max_rollouts}, {self.free_depth}"
            )
        if not 0.0 < self.discount <= 1.0 or not 0.0 <= self.floor < 1.0:
            raise InputError(f"QLASS.discount must lie in (0, 1] and floor in [0, 1), got {self.discount} and {self.floor}")
        if self.backup not in ("vanilla", "pseudo_depth"):
            raise InputError(f"QLASS.backup must be 'vanilla' or 'pseudo_depth', got {self.backup!r}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        tree, line = self.planted(chain, bank)
        await self._explore(tree, line)
        labels, rewards = self._labels(tree), leaf_max(tree.root, discount=1.0)
        for step, node in enumerate(line[1:]):
            if node.index in labels:
                write(sheet, step, labels[node.index])
            elif not math.isnan(rewards[node.index]):
                sheet.miss(step, FLAT)
            else:
                sheet.miss(step, (chain.outcome.reason if node.ended and chain.outcome else None) or tree.why_none(node))

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        tree = RolloutTree(problem, bank)
        await self._explore(tree, [tree.root])
        return Found(tree.tree, self._labels(tree), FLAT if tree.own(tree.root).rollouts else tree.why_none(tree.root))

    async def _explore(self, tree: RolloutTree, line: Sequence[Node]) -> None:
        await self._widen(tree, [node for node in line if not node.ended])
        level, seen = [tree.root], {node.index for node in line}
        for depth in range(1, self.depth):
            level = [child for node in level for child in node.children if not child.ended]
            rewards = leaf_max(tree.root, discount=1.0)
            side = [node for node in level if node.index not in seen and (depth <= self.free_depth or rewards[node.index] > self.floor)]
            await self._widen(tree, side)

    async def _widen(self, tree: RolloutTree, nodes: Sequence[Node]) -> None:
        """Give every node that is not too deep as many next steps as it may have, while the budget lasts."""
        room = self.max_rollouts - tree.n_rollouts
        wanted: dict[int, list[Node]] = {}
        for node in nodes:
            missing = min(self.samples - len(node.children), room)
            if missing > 0 and len(node.trajectory) < self.depth:
                wanted.setdefault(missing, []).append(node)
                room -= missing
        for missing, group in sorted(wanted.items()):
            await tree.draw_each(group, missing)
        tree.unfold()

    def _labels(self, tree: RolloutTree) -> dict[int, NodeLabel]:
        if self.backup == "vanilla":
            q = leaf_max(tree.root, discount=self.discount)
        else:
            height = 1 + max(len(node.trajectory) for node in tree)
            q = pseudo_depth(tree.root, height=height, discount=self.discount)
        scaled = min_max({index: value for index, value in q.items() if index != tree.root.index})
        rewards = leaf_max(tree.root, discount=1.0)
        return {
            index: NodeLabel(value, rewards[index] > self.floor, evidence=({"q": q[index], "best_reward": rewards[index]},))
            for index, value in scaled.items()
            if not math.isnan(value)
        }
