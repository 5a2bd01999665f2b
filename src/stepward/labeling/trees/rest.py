"""ReST-MCTS*: process rewards inferred from how far a step is from a right answer. The search that uses them with a value model lives in `search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import InputError, Node, Problem, Semantics
from stepward.labeling.chain import Chain
from stepward.labeling.completer import RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.backup import distance_to_success, quality_values
from stepward.labeling.trees.harvest import NodeLabel, write
from stepward.labeling.trees.labeler import Found, TreeLabeler
from stepward.labeling.trees.rollout_tree import RolloutTree

NO_ROUTE = "abstained: no right solution was found, so there is no distance to one"


@dataclass(frozen=True, kw_only=True)
class ReSTMCTS(TreeLabeler):
    """A step's quality value grows by a share of what is missing, the larger the nearer the answer, and falls where no route to it is known.

    v_0 = 0, w_k = (1 - v_{k-1})/(m_k + 1) (1 - 2 r_k), v_k = max(0, v_{k-1} + w_k), with m_k the fewest further steps to a right answer in the tree and
    r_k = 1 where none is known below (m_k is then that of the nearest ancestor with one); see `backup.quality_values`. Hard: r_k = 0.
    v is progress in [0, 1], not a chance: 1 exactly at a right answer, k/n along a straight right solution of n steps.

    `label` draws `rollouts` completions from the problem and from every open prefix of a given trajectory. `grow` draws `rollouts` from the problem, then
    `rollouts` from every prefix of the first `chains` different solutions, and labels every prefix that was drawn from, and every end.

    Where no solution of the tree is right nothing is labelled. Semantics: *value*, in the sense above.
    (ReST-MCTS*: LLM Self-Training via Process Reward Guided Tree Search, 2024.) Difference from the paper: the tree comes from plain rollouts and
    not from a search guided by the value model of the last round; the inference of values is the same for any tree.
    """

    rollouts: int = 8
    chains: int = 4

    method: ClassVar[str] = "rest-mcts"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.rollouts < 1 or self.chains < 0:
            raise InputError(f"ReSTMCTS needs rollouts >= 1 and chains >= 0, got {self.rollouts} and {self.chains}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        tree, line = self.planted(chain, bank)
        await tree.draw_each([node for node in line if not node.ended], self.rollouts)
        tree.unfold()
        labels, lost = self._labels(tree), None
        for step, node in enumerate(line[1:]):
            lost = lost or self._why_unknown(tree, node)
            if lost is None and node.index in labels:
                write(sheet, step, labels[node.index])
            else:
                sheet.miss(step, lost or NO_ROUTE)

    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        tree = RolloutTree(problem, bank)
        drawn = await tree.draw(tree.root, self.rollouts)
        ends = list(dict.fromkeys(tree.line(rollout, at=tree.root)[-1] for rollout in drawn))[: self.chains]
        inner = dict.fromkeys(node for end in ends for node in end.path[1:] if not node.ended)
        await tree.draw_each(list(inner), self.rollouts)
        tree.unfold()
        labels = {index: label for index, label in self._labels(tree).items() if tree.tree.nodes[index].ended or tree.drawn(tree.tree.nodes[index])}
        return Found(tree.tree, labels, NO_ROUTE if tree.own(tree.root).rollouts else tree.why_none(tree.root))

    def _labels(self, tree: RolloutTree) -> Mapping[int, NodeLabel]:
        far, values = distance_to_success(tree.root), quality_values(tree.root)
        unscored = {node.index for node in tree if node.ended and (node.trajectory.outcome is None or not node.trajectory.outcome.scored)}
        return {
            node.index: NodeLabel(values[node.index], far[node.index] is not None, evidence=({"steps_to_success": far[node.index]},))
            for node in tree
            if far[tree.root.index] is not None and node.index not in unscored
        }

    def _why_unknown(self, tree: RolloutTree, node: Node) -> str | None:
        """Why nothing is known of a prefix: its end has no grade, or no rollout from it has."""
        if node.ended:
            outcome = node.trajectory.outcome
            return None if outcome is None else outcome.reason
        return None if tree.proven(node) or tree.own(node).rollouts else tree.why_none(node)
