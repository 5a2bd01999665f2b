"""Tree: trajectories of one problem that share prefixes. The one structure under Monte-Carlo labelers, searches and tree-structured RL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from stepward.core.errors import FormatError, InputError
from stepward.core.problem import Problem
from stepward.core.record import check_header, header, record_kind, require
from stepward.core.scores import StepScores
from stepward.core.trajectory import Trajectory

_RARE = ("kind", "revises", "group", "dropped")  # written only where a node has them
Kind = Literal["sample", "partial", "refine", "reflect", "retrieve", "intervene"]


class Node:
    """A prefix in a tree, with what is known about it.

    `value` is the evaluation of the node (NaN: not evaluated, or unscored for `reason`); `scores` the step scores behind it; `visits`
    and `value_sum` the statistics of a tree search, `q` their quotient. A node is never deleted: pruning sets `closed` and says why in `dropped`.
    `kind` says how the edge into the node came about, "partial" being a step that was broken off on purpose; `revises` is the index of the node that a
    refinement rewrote, which need not be its parent: a child always continues its parent's text. `group` is a subtree, lineage or branch number.
    """

    __slots__ = (
        "children", "closed", "dropped", "group", "index", "kind", "parent", "reason", "revises", "scores", "trajectory", "value", "value_sum", "visits"
    )  # fmt: skip

    def __init__(self, trajectory: Trajectory, parent: Node | None, index: int, kind: Kind = "sample", revises: int | None = None) -> None:
        self.trajectory = trajectory
        self.parent = parent
        self.index = index
        self.kind: Kind = kind
        self.revises = revises
        self.group: int | None = None if parent is None else parent.group
        self.dropped: str | None = None
        self.children: list[Node] = []
        self.visits = 0
        self.value_sum = 0.0
        self.value = math.nan
        self.reason: str | None = None
        self.scores: StepScores | None = None
        self.closed = False

    @property
    def depth(self) -> int:
        """Edges between the root and this node. An edge is one step or, when a whole completion was added, several."""
        return len(self.path) - 1

    @property
    def ended(self) -> bool:
        return self.trajectory.ended

    @property
    def finished(self) -> bool:
        return self.trajectory.finished

    @property
    def q(self) -> float:
        """Mean of the values backed up through this node; its own value before any visit."""
        return self.value_sum / self.visits if self.visits else self.value

    @property
    def path(self) -> list[Node]:
        """The nodes from the root to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def drop(self, why: str) -> None:
        """Close the node for a reason; the first one stays."""
        self.closed = True
        self.dropped = self.dropped or why

    def backup(self, value: float) -> None:
        """Add one visit with this value to the node and all its ancestors."""
        node: Node | None = self
        while node is not None:
            node.visits += 1
            node.value_sum += value
            node = node.parent

    def __repr__(self) -> str:
        return f"Node({self.index}, steps={len(self.trajectory)}, value={self.value:.3g}, visits={self.visits}, ended={self.ended})"


@record_kind("tree")
class Tree:
    """An arena of nodes under one root, the empty trajectory of the problem (or the prefix that a search starts from)."""

    def __init__(self, start: Problem | Trajectory) -> None:
        trajectory = start if isinstance(start, Trajectory) else Trajectory(start)
        self.root = Node(trajectory, None, 0)
        self.nodes: list[Node] = [self.root]

    @property
    def problem(self) -> Problem:
        return self.root.trajectory.problem

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def add(self, parent: Node, trajectory: Trajectory, *, kind: Kind = "sample", revises: Node | None = None) -> Node:
        """A new child of `parent`; equal siblings stay separate draws. `trajectory` must continue the parent's."""
        depth = len(parent.trajectory)
        if len(trajectory) < depth or trajectory.keys[depth] != parent.trajectory.key:
            raise InputError(f"the trajectory does not continue node {parent.index}: its first {depth} steps differ from the node's")
        node = Node(trajectory, parent, len(self.nodes), kind, None if revises is None else revises.index)
        parent.children.append(node)
        self.nodes.append(node)
        return node

    @property
    def ends(self) -> list[Node]:
        """Nodes whose trajectory has ended, in the order in which they were added."""
        return [node for node in self.nodes if node.ended]

    def to_record(self) -> dict[str, Any]:
        return header("tree") | {
            "start": self.root.trajectory.to_record(),
            "nodes": [
                {
                    "parent": None if node.parent is None else node.parent.index,
                    "steps": [step.to_record() for step in node.trajectory.steps[len(node.parent.trajectory) if node.parent else 0 :]],
                    "finished": node.trajectory.finished,
                    "truncated": node.trajectory.truncated,
                    "outcome": None if node.trajectory.outcome is None else node.trajectory.outcome.to_record(),
                    "value": None if math.isnan(node.value) else node.value,
                    "reason": node.reason,
                    "scores": None if node.scores is None else node.scores.to_record(),
                    "visits": node.visits,
                    "value_sum": node.value_sum,
                    "closed": node.closed,
                }
                | {name: value for name in _RARE if (value := getattr(node, name)) not in (None, "sample")}
                for node in self.nodes
            ],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tree:
        check_header(record, "tree")
        start = require(record, "start", Mapping)
        tree = cls(Trajectory.from_record(start))
        for index, row in enumerate(require(record, "nodes", (list, tuple))):
            node = tree.root
            if index:
                at = require(row, "parent", int)
                if not 0 <= at < index:
                    raise FormatError(f"node {index} names node {at} as its parent; parents come first", field="parent")
                parent = tree.nodes[at]
                steps = [*(step.to_record() for step in parent.trajectory.steps), *row["steps"]]
                fields = {name: row[name] for name in ("finished", "truncated", "outcome")}
                node = tree.add(parent, Trajectory.from_record({**start, **fields, "steps": steps}), kind=row.get("kind", "sample"))
                node.revises, node.group, node.dropped = (row.get(name) for name in ("revises", "group", "dropped"))
            node.value = math.nan if row["value"] is None else float(row["value"])
            node.reason, node.visits, node.value_sum, node.closed = row["reason"], row["visits"], row["value_sum"], row["closed"]
            node.scores = None if row["scores"] is None else StepScores.from_record(row["scores"])
        return tree


def top(nodes: Iterable[Node], k: int, *, key: Callable[[Node], float] = lambda node: node.value) -> list[Node]:
    """The k nodes with the largest key, best first; ties keep their order; unknown (NaN) keys come after every known one."""

    def order(node: Node) -> tuple[bool, float]:
        value = key(node)
        return (True, 0.0) if math.isnan(value) else (False, -value)

    ranked: Sequence[Node] = sorted(nodes, key=order)
    return list(ranked[:k])
