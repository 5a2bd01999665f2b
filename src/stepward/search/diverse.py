"""Diverse beam search over steps: groups that pay for repeating what earlier groups chose."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from stepward.core import InputError, Node
from stepward.search.dvts import GroupedBeam
from stepward.search.workbench import Workbench

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class DiverseBeam(GroupedBeam):
    """`groups` beams of `width`; in every level the groups choose in order, each by key = value - penalty x similarity to what earlier groups chose.

    The similarity is the largest one of the candidate's last edge (what it adds to its parent) to those chosen by earlier groups in this level, see
    `similarity`. penalty = 0 and one group is the step beam; penalty = 0 and width = 1 is DVTS. The answer is chosen by value, without the penalty. Use it
    where a policy repeats itself. Cost for T steps of l tokens: groups x width x expansions x T x l policy tokens.
    (Vijayakumar et al., Diverse Beam Search, 2016, with steps for its tokens.) Default penalty 0.5: a reconstruction, no published value for steps is known.
    """

    groups: int = 4
    width: int = 1
    penalty: float = 0.5

    name = "diverse-beam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.penalty < math.inf:
            raise InputError(f"DiverseBeam.penalty must be at least 0 and finite, got {self.penalty!r}")

    def select_in_group(self, bench: Workbench, candidates: list[Node], chosen: list[Node]) -> list[Node]:
        theirs = [edge_text(node) for node in chosen]

        def key(node: Node) -> float:
            return node.value - self.penalty * max((similarity(edge_text(node), text) for text in theirs), default=0.0)

        return bench.keep(candidates, self.width, key=key)


def edge_text(node: Node) -> str:
    """What the policy wrote between the node's parent and the node."""
    start = 0 if node.parent is None else len(node.parent.trajectory)
    return "".join(step.text + step.separator for step in node.trajectory.steps[start:])


def similarity(one: str, other: str) -> float:
    """|A and B| / |A or B| in [0, 1] of the texts' sets of words and signs, ignoring case (Jaccard); 1 for two texts without any."""
    a, b = (set(_WORD.findall(text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a or b else 1.0
