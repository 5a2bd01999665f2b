"""Harvest: the labelled nodes of a tree as examples. Decides nothing about a label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepward.core import Count, Example, Node, Semantics, Tree, Usage
from stepward.core.usage import NO_USAGE
from stepward.labeling.sheet import Sheet

NOT_PROBED = "abstained: the search did not look at this prefix"
ELSEWHERE = "abstained: another example of the same tree carries this step's label"


@dataclass(frozen=True)
class NodeLabel:
    """What a method says of the step that ends at a node: `value` in [0, 1], `hard`, and what they rest on."""

    value: float
    hard: bool | None
    count: Count | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Growth:
    """A tree that was grown from a problem, its labelled nodes as examples, and what it cost. `reason`: why there is nothing to label."""

    tree: Tree
    examples: tuple[Example, ...]
    usage: Usage = NO_USAGE
    reason: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


def harvest(tree: Tree, labels: Mapping[int, NodeLabel], *, semantics: Semantics, source: Mapping[str, Any]) -> tuple[Example, ...]:
    """Every labelled node once, on as few trajectories as hold them all: one example for each labelled node without a labelled node below it.

    A node that several of these pass through is labelled in the first of them and abstained on in the others, so that no label counts twice.
    Steps whose nodes have no label are abstained on. The root's label is left out: no step ends there.
    """
    known = {index: label for index, label in labels.items() if not math.isnan(label.value) and len(tree.nodes[index].trajectory)}
    inner = {node.index for index in known for node in tree.nodes[index].path[:-1]}
    emitted: set[int] = set()
    examples = []
    for tip in (node for node in tree if node.index in known and node.index not in inner):
        examples.append(_example(tip, known, emitted, semantics, source))
        emitted.update(node.index for node in tip.path if node.index in known)
    return tuple(examples)


def _example(tip: Node, labels: Mapping[int, NodeLabel], emitted: set[int], semantics: Semantics, source: Mapping[str, Any]) -> Example:
    sheet = Sheet(len(tip.trajectory))
    sheet.miss_all(NOT_PROBED)
    for node in tip.path:
        step = len(node.trajectory) - 1
        if node.index in emitted:
            sheet.miss(step, ELSEWHERE)
        elif node.index in labels and step >= 0:
            write(sheet, step, labels[node.index])
    return Example(tip.trajectory, sheet.labels(semantics, source, NO_USAGE), source=str(source["method"]), metadata={"node": tip.index})


def write(sheet: Sheet, step: int, label: NodeLabel) -> None:
    """Put a node's label on a step (0-based) of the sheet."""
    sheet.value(step, label.value, label.hard, count=label.count)
    for item in label.evidence:
        sheet.note(step, **item)
