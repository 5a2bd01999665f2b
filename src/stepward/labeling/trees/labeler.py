"""TreeLabeler: what the labelers of this folder share: they label one given trajectory, or grow a tree from a problem and label its nodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from stepward.core import Node, Problem, Tree, metered
from stepward.labeling.chain import Chain, ChainLabeler
from stepward.labeling.completer import RolloutBank
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.harvest import NOT_PROBED, Growth, NodeLabel, harvest
from stepward.labeling.trees.rollout_tree import RolloutTree


@dataclass(frozen=True)
class Found:
    """What a search hands over: its tree, the labels of nodes by index, and why there are none."""

    tree: Tree
    labels: Mapping[int, NodeLabel]
    reason: str = "nothing was found to label"


@dataclass(frozen=True, kw_only=True)
class TreeLabeler(ChainLabeler):
    """`label` labels one given trajectory; `grow` searches from a problem and gives every node that it labelled."""

    async def grow(self, problem: Problem) -> Growth:
        """A tree of this problem's solutions and its labelled nodes as examples; the reason when there are none. Failures of the policy are reasons."""
        with metered() as ledger:
            found = await self.search(problem, RolloutBank(self.completer))
        examples = harvest(found.tree, found.labels, semantics=self.semantics, source=self.describe())
        return Growth(found.tree, examples, ledger.usage, None if examples else found.reason, self.describe())

    @abstractmethod
    async def search(self, problem: Problem, bank: RolloutBank) -> Found:
        """Grow the tree and label its nodes."""

    def planted(self, chain: Chain, bank: RolloutBank) -> tuple[RolloutTree, list[Node]]:
        """A tree that holds the given trajectory, and the nodes of its prefixes, the empty one first."""
        tree = RolloutTree(chain.trajectory.problem, bank)
        return tree, tree.seed(chain.trajectory, chain.outcome)


def miss_rest(sheet: Sheet, reason: str = NOT_PROBED) -> None:
    """The reason for every step that nothing was said of."""
    for step, why in enumerate(sheet.reasons):
        if why == "not labelled":
            sheet.miss(step, reason)
