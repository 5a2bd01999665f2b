"""Compression: coarser steps out of a tree of fine ones, and balancing by height and value. Trees that come in are never changed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stepward.core import Example, InputError, Node, Step, Trajectory, Tree
from stepward.core.usage import NO_USAGE
from stepward.labeling.sheet import Sheet
from stepward.labeling.trees.backup import Values, descending, leaf_mean
from stepward.labeling.trees.harvest import ELSEWHERE


def joined(one: Step, other: Step) -> Step:
    """Two neighbouring steps as one that writes the same text.

    Raises: InputError when they are of different agents, or when the environment answered to the first, since text cannot say what came between.
    """
    if one.agent != other.agent or one.observation is not None or one.action is not None or other.action is not None:
        raise InputError("steps of different agents, with actions, or with an observation in between cannot be joined into one")
    n_tokens = None if one.n_tokens is None or other.n_tokens is None else one.n_tokens + other.n_tokens
    logprob = None if one.logprob is None or other.logprob is None else one.logprob + other.logprob
    return replace(other, text=one.written + other.text, n_tokens=n_tokens, logprob=logprob)


def merge(root: Node, values: Values) -> list[tuple[Trajectory, float]]:
    """For every node with a known value and at least two steps below the root's: its trajectory with the last two steps joined, and the same value.

    These come beside the nodes' own labels, which they leave as they are. (Hierarchical Multi-Step Reward Models, 2025.)
    """
    first = len(root.trajectory)
    merged = []
    for node in descending(root):
        steps, value = node.trajectory.steps, values.get(node.index, math.nan)
        if len(steps) >= first + 2 and not math.isnan(value) and _joinable(*steps[-2:]):
            merged.append((replace(node.trajectory, steps=(*steps[:-2], joined(*steps[-2:]))), value))
    return merged


def reattach(tree: Tree, *, chance: float = 0.5, min_children: int = 4, seed: int = 0) -> Tree:
    """A new tree where, under a parent of at least `min_children` children, one of them was joined with it and hangs from the grandparent now.

    Nodes keep their indices.

    The children of each parent below the root are asked in turn, each with `chance` (by `random.Random(seed)`), until one moves; a parent that moves
    itself keeps its children. The root keeps its ends and so its share of right ones; the nodes in between see other shares, which is the label noise
    that the method is about.
    (Hierarchical Multi-Step Reward Models, 2025.) Difference from the code: what hangs below a moved child moves with it, text included.

    Raises: InputError for a chance outside [0, 1] or min_children below 2.
    """
    if not 0.0 <= chance <= 1.0 or min_children < 2:
        raise InputError(f"reattach needs chance in [0, 1] and min_children >= 2, got {chance} and {min_children}")
    draw = random.Random(seed)
    moved: dict[int, Node] = {}  # child index: the parent that it is joined with
    for node in tree:  # parents come first
        if node.parent is None or node.index in moved or len(node.children) < min_children or not _one_step(node):
            continue
        child = next((child for child in node.children if draw.random() < chance and _one_step(child) and _joins(node, child)), None)
        if child is not None:
            moved[child.index] = node
    new = Tree(tree.root.trajectory)
    copies = {tree.root.index: new.root}
    for node in tree:
        if node.parent is None:
            continue
        fresh = node.trajectory.steps[len(node.parent.trajectory) :]
        parent = node.parent
        if node.index in moved and parent.parent is not None:
            fresh = (joined(parent.trajectory.steps[-1], fresh[0]),)
            above = copies[parent.parent.index]
        else:
            above = copies[parent.index]
        copies[node.index] = new.add(above, replace(node.trajectory, steps=(*above.trajectory.steps, *fresh)))
    return new


def hierarchical(tree: Tree, *, chance: float = 0.5, min_children: int = 4, seed: int = 0) -> tuple[Example, ...]:
    """The training data of Hierarchical Multi-Step Reward Models (2025) from a full-width tree: steps of both sizes, each labelled by its share of right ends.

    The nodes and their merged forms, balanced, and the nodes of the tree after `reattach`, balanced again; what comes twice stays once. One example a
    labelled step: the last of its trajectory, the others are abstained on. Semantics: *value*. Hard: value above 0.
    """
    coarser = reattach(tree, chance=chance, min_children=min_children, seed=seed)
    shares = leaf_mean(tree.root)
    rows = balance([*_labelled(tree, shares), *merge(tree.root, shares)], seed=seed) + balance(_labelled(coarser, leaf_mean(coarser.root)), seed=seed + 1)
    source = {"method": "hierarchical", "chance": chance, "min_children": min_children, "seed": seed}
    return tuple(_last_step_labelled(*row, source) for row in {(trajectory.key, value): (trajectory, value) for trajectory, value in rows}.values())


def _labelled(tree: Tree, values: Values) -> list[tuple[Trajectory, float]]:
    first = len(tree.root.trajectory)
    return [(node.trajectory, values[node.index]) for node in tree if len(node.trajectory) > first and not math.isnan(values[node.index])]


def _last_step_labelled(trajectory: Trajectory, value: float, source: Mapping[str, Any]) -> Example:
    sheet = Sheet(len(trajectory))
    sheet.miss_all(ELSEWHERE)
    sheet.value(len(trajectory) - 1, value, value > 0.0)
    return Example(trajectory, sheet.labels("value", source, NO_USAGE), source="hierarchical")


def balance(items: Iterable[tuple[Trajectory, float]], *, share: float = 0.1, alone: int = 5, seed: int = 0) -> list[tuple[Trajectory, float]]:
    """At every number of steps as many items of each value as of the rarest one, but at least `share` of each; `alone` where all have one value.

    Which ones is by `random.Random(seed)`; those that stay keep their order.
    """
    groups: dict[int, dict[float, list[int]]] = {}
    rows = list(items)
    for place, (trajectory, value) in enumerate(rows):
        groups.setdefault(len(trajectory), {}).setdefault(value, []).append(place)
    draw, kept = random.Random(seed), list[int]()
    for classes in groups.values():
        rarest = min(map(len, classes.values())) if len(classes) > 1 else alone
        for places in classes.values():
            kept += draw.sample(places, min(len(places), max(rarest, int(share * len(places)))))
    return [rows[place] for place in sorted(kept)]


def _one_step(node: Node) -> bool:
    return node.parent is not None and len(node.trajectory) == len(node.parent.trajectory) + 1


def _joinable(one: Step, other: Step) -> bool:
    return one.agent == other.agent and one.observation is None and one.action is None and other.action is None


def _joins(parent: Node, child: Node) -> bool:
    return _joinable(parent.trajectory.steps[-1], child.trajectory.steps[-1])
