"""Priority: which child a descent goes to next. Pure functions on numbers, and the one rule on nodes that reads them off a tree.

Backing values up is the trees' own business (`Node.backup`, `backup_max`); growing the tree is a strategy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from stepward.core import InputError, Node
from stepward.labeling.trees.selection import puct as puct_with
from stepward.labeling.trees.selection import uct as uct
from stepward.search.select import softmax

Rule = Literal["uct", "uct2", "puct"]


def uct2(value: float, visits: int, parent_visits: int, *, c: float) -> float:
    """value + c sqrt(2 ln N_parent / N): infinite before the first visit; the bonus is 0 for N_parent = 1. (Bandit Based Monte-Carlo Planning, 2006.)"""
    return uct(value, visits, parent_visits, c=c * math.sqrt(2.0))


def puct(value: float, prior: float, visits: int, parent_visits: int, *, c_init: float = 1.25, c_base: float = 19652.0) -> float:
    """value + prior sqrt(N_parent) / (1 + N) (c_init + ln((N_parent + c_base + 1) / c_base)).

    Before the first visit `value` is what is known of the child without one. Defaults: those of AlphaZero (2018), which OpenR (2024) keeps.
    """
    return puct_with(value, prior, visits, parent_visits, c=c_init + math.log((parent_visits + c_base + 1.0) / c_base))


def priors(logprobs: Sequence[float | None], n_tokens: Sequence[int | None], counts: Sequence[int]) -> list[float]:
    """P(i) among siblings: softmax of the mean log-probability of a token; the share of `counts` (how often each was drawn) where one of them is unknown."""
    means = [None if logprob is None or not n else logprob / n for logprob, n in zip(logprobs, n_tokens, strict=True)]
    known = [mean for mean in means if mean is not None]
    return softmax(known) if len(known) == len(means) else [count / sum(counts) for count in counts]


@dataclass(frozen=True, kw_only=True)
class Priority:
    """The child to visit next: argmax of `rule` over the open children; ties go to the child of larger own value, then to the first.

    uct, uct2: Q + c sqrt(ln N_p / N), Q + c sqrt(2 ln N_p / N); unvisited children come first. puct: see `puct`; an unvisited child's Q is its own value, or
    its parent's Q where it has none.
    """

    rule: Rule
    c: float = 1.4
    c_init: float = 1.25
    c_base: float = 19652.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise InputError(f"the priority must be one of {', '.join(get_args(Rule))}, got {self.rule!r}")
        if not (0.0 <= self.c < math.inf and 0.0 <= self.c_init < math.inf and 0.0 < self.c_base < math.inf):
            raise InputError(f"priority {self.rule}: c and c_init must be at least 0 and c_base positive, got {self.c}, {self.c_init} and {self.c_base}")

    def best(self, parent: Node) -> Node:
        """Raises: ValueError for a node without an open child."""
        keys = self.keys(parent)
        return max(open_children(parent), key=lambda child: (keys[child.index], -math.inf if math.isnan(child.value) else child.value))

    def keys(self, parent: Node) -> dict[int, float]:
        """The priority of every open child, by node index."""
        children = open_children(parent)
        if self.rule == "puct":
            prior = sibling_priors(parent)
            rates = {"c_init": self.c_init, "c_base": self.c_base}
            return {child.index: puct(_q(child), prior[child.index], child.visits, parent.visits, **rates) for child in children}
        rule = uct if self.rule == "uct" else uct2
        return {child.index: rule(_q(child), child.visits, parent.visits, c=self.c) for child in children}


def open_children(node: Node) -> list[Node]:
    """The children that a descent may go to: all but those that are closed (dropped, exhausted, or rollouts)."""
    return [child for child in node.children if not child.closed]


def sibling_priors(parent: Node) -> dict[int, float]:
    """P(child) of every child that was not dropped, by node index; equal siblings that were merged count for the one that stays."""
    children = [child for child in parent.children if child.dropped is None and not (child.closed and child.ended)]
    depth = len(parent.trajectory)
    steps = [child.trajectory.steps[depth:] for child in children]
    logprobs = [None if any(step.logprob is None for step in added) else sum(step.logprob or 0.0 for step in added) for added in steps]
    lengths = [None if any(step.n_tokens is None for step in added) else sum(step.n_tokens or 0 for step in added) for added in steps]
    merged = [1 + sum(other.dropped == _same_as(child) for other in parent.children) for child in children]
    return {child.index: prior for child, prior in zip(children, priors(logprobs, lengths, merged), strict=True)}


def merge_equal(parent: Node) -> int:
    """Drop every child whose text an earlier sibling has; how many those were. Children that were dropped before, and rollouts, are no siblings."""
    first: dict[str, Node] = {}
    n_dropped = 0
    for child in parent.children:
        if child.dropped is not None or (child.closed and child.ended):
            continue
        kept = first.setdefault(child.trajectory.key, child)
        if kept is not child:
            child.drop(_same_as(kept))
            n_dropped += 1
    return n_dropped


def _same_as(kept: Node) -> str:
    """Why a sibling equal to this one was dropped; `sibling_priors` counts them by it."""
    return f"the same as node {kept.index}"


def close_upward(node: Node) -> None:
    """Close the node if all its children are closed, and then its parent likewise, and so on."""
    place: Node | None = node
    while place is not None and not open_children(place):
        place.closed = True
        place = place.parent


def backup_max(node: Node, value: float) -> None:
    """Add one visit to the node and all its ancestors, whose Q becomes the largest value that came by."""
    for place in node.path:
        best = max(value, place.q) if place.visits else value
        place.visits += 1
        place.value_sum = best * place.visits


def _q(child: Node) -> float:
    """The child's Q; its parent's where nothing is known of it, 0 where nothing is known at all."""
    if not math.isnan(child.q):
        return child.q
    above = child.parent.q if child.parent is not None else math.nan
    return 0.0 if math.isnan(above) else above
