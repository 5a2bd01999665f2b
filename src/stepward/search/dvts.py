"""Diverse verifier tree search: independent subtrees instead of one beam."""

from __future__ import annotations

from dataclasses import dataclass

from stepward.core import Aggregation, Node
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator
from stepward.search.lookahead import Lookahead
from stepward.search.sampled import at_least_one
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class GroupedBeam(StepBeam):
    """`groups` beams of `width` prefixes each that never exchange any: group g holds every groups-th first step and what grows from it.

    A node's `group` is its beam's number. One group is the step beam.
    """

    groups: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, groups=self.groups)

    @property
    def n_first(self) -> int:
        return self.groups * self.width * self.expansions

    def select(self, bench: Workbench, candidates: list[Node]) -> list[Node]:
        """The best of every group, the groups in order."""
        for place, child in enumerate(bench.root.children):
            child.group = place % self.groups
        kept: list[Node] = []
        for group in range(self.groups):
            kept += self.select_in_group(bench, [node for node in candidates if node.group == group], kept)
        return kept

    def select_in_group(self, bench: Workbench, candidates: list[Node], chosen: list[Node]) -> list[Node]:
        """What a group keeps, after the groups before it have `chosen`."""
        del chosen
        return bench.keep(candidates, self.width)


@dataclass(frozen=True, kw_only=True)
class DVTS(GroupedBeam):
    """`groups` independent subtrees, each of which keeps its single best child a level: less greedy than one beam, so its answers differ more.

    Of the groups x expansions first steps every group gets as many as `expansions`. All steps that end a solution are candidates for the answer. With a reward
    model that is misled early a beam fills with descendants of one first step, DVTS cannot. Its authors find it ahead of a beam for large n and on easy and
    middling problems. Cost for T steps of l tokens: groups x expansions x T x l x (1 + lookahead) policy tokens.
    (Beeching et al., Scaling Test-Time Compute with Open Models, 2024.) Defaults: expansions 4 and the last score, as in search-and-learn, whose n is
    groups x expansions. Differences: a group stops when its best child has ended, where search-and-learn also ends it at an empty step or a boxed answer; its
    answer is chosen from all ends, not from the last level of every group; its look-ahead of one step is off by default (`lookahead`).
    """

    width: int = 1
    aggregation: Aggregation = "last"
    lookahead: int = 0

    name = "dvts"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.evaluator

    @property
    def evaluator(self) -> Evaluator:
        return Lookahead(evaluator=super().evaluator, steps=self.lookahead)
