"""PrefixTree: every token sequence that is cached or asked for, as a radix tree. Which numbers its slots stand for is the pool's business.

One tree holds what earlier calls left behind and what a call brings, so that folding a batch and finding its cached prefixes are the same walk.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Slots = NDArray[np.int64]
_STALE = 64  # heap entries that have lost their meaning and are kept in any case


class Node:
    """An edge of the tree: `ids` at positions start, start + 1, ... of every sequence through it, and the pool's `slots` of them (None: not computed)."""

    __slots__ = ("children", "ids", "parent", "resident_children", "slots", "stamp", "start")

    def __init__(self, ids: Ids, start: int, parent: Node | None) -> None:
        self.ids, self.start, self.parent = ids, start, parent
        self.slots: Slots | None = None
        self.children: dict[int, Node] = {}
        self.resident_children = 0
        self.stamp = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def settled(self) -> Slots:
        """The slots of a node that has some."""
        assert self.slots is not None
        return self.slots

    def path(self) -> list[Node]:
        """From the first edge below the root to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


class PrefixTree:
    """`insert` sequences, `settle` the nodes that were computed, `evict` the least recently used ones.

    Invariants: a node is resident (has slots) only if its parent is; splitting a node splits its index arrays and moves no states.
    """

    def __init__(self) -> None:
        self.root = Node(np.zeros(0, dtype=np.int64), 0, None)
        self.root.slots = np.zeros(0, dtype=np.int64)
        self._heap: list[tuple[int, int, Node]] = []
        self._n_pushed = 0
        self._n_resident = 0

    def insert(self, ids: Ids) -> Node:
        """The node at whose end the sequence ends, made where there is none."""
        node, at = self.root, 0
        while at < len(ids):
            child = node.children.get(int(ids[at]))
            if child is None:
                child = Node(ids[at:].copy(), at, node)
                node.children[int(ids[at])] = child
                return child
            shared = _shared_length(child.ids, ids[at:])
            if shared < len(child):
                child = self._split(child, shared)
            node, at = child, at + shared
        return node

    def _split(self, node: Node, length: int) -> Node:
        """Put a new node above `node` that takes its first `length` tokens; `node` remains the one at whose end its sequences end."""
        parent = node.parent
        assert parent is not None
        upper = Node(node.ids[:length].copy(), node.start, parent)  # copies, so that no evicted part is kept alive by the other
        parent.children[int(upper.ids[0])] = upper
        upper.children[int(node.ids[length])] = node
        upper.stamp = node.stamp
        if node.slots is not None:
            upper.slots, node.slots = node.slots[:length].copy(), node.slots[length:].copy()
            upper.resident_children = 1
            self._n_resident += 1
        node.ids, node.start, node.parent = node.ids[length:].copy(), node.start + length, upper
        return upper

    def settle(self, node: Node, slots: Slots) -> None:
        """The node's tokens lie in these slots from now on. Parents first."""
        assert node.slots is None
        assert node.parent is not None
        assert node.parent.slots is not None
        node.slots = slots
        node.parent.resident_children += 1
        self._n_resident += 1

    def touch(self, path: Sequence[Node], stamp: int) -> None:
        """The nodes of a path from the root were used at `stamp` (increasing)."""
        for node in path:
            node.stamp = stamp
            self._offer(node)

    def evict(self, n_tokens: int, needed: Container[Node]) -> list[Slots]:
        """Slots of at least `n_tokens` tokens if there are so many outside `needed`, least recently used leaves first; the nodes leave the tree."""
        freed: list[Slots] = []
        skipped: list[Node] = []
        while n_tokens > 0 and self._heap:
            stamp, _, node = heapq.heappop(self._heap)
            if node.slots is None or node.resident_children or node.stamp != stamp or node.parent is None:
                continue
            if node in needed:
                skipped.append(node)
                continue
            n_tokens -= len(node)
            freed.append(self._remove(node))
        for node in skipped:
            self._offer(node)
        return freed

    def retract(self, n_tokens: int, kept: Container[Node]) -> list[Slots]:
        """Like `evict` with only `kept` needed, but the nodes stay in the tree, to be computed again when their sequences' turn comes."""
        freed: list[Slots] = []
        leaves = [node for node in self.resident() if not node.resident_children and node not in kept]
        while n_tokens > 0 and leaves:
            node = leaves.pop()
            n_tokens -= len(node)
            freed.append(self._unsettle(node))
            parent = node.parent
            if parent is not None and parent.parent is not None and not parent.resident_children and parent not in kept:
                leaves.append(parent)
        return freed

    def _unsettle(self, node: Node) -> Slots:
        assert node.parent is not None
        assert not node.resident_children
        slots, node.slots = node.settled, None
        node.parent.resident_children -= 1
        self._n_resident -= 1
        return slots

    def _remove(self, node: Node) -> Slots:
        parent, slots = node.parent, self._unsettle(node)
        assert parent is not None
        assert not node.children
        del parent.children[int(node.ids[0])]
        node.parent = None
        self._offer(parent)
        return slots

    def _offer(self, node: Node) -> None:
        if node.parent is None or node.slots is None or node.resident_children:
            return
        self._n_pushed += 1
        heapq.heappush(self._heap, (node.stamp, self._n_pushed, node))
        if len(self._heap) > 2 * self._n_resident + _STALE:
            self._heap = [entry for entry in self._heap if entry[2].slots is not None and entry[2].stamp == entry[0] and not entry[2].resident_children]
            heapq.heapify(self._heap)

    def resident(self) -> Iterator[Node]:
        """Every node with slots, parents first."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            if node.slots is not None:
                yield node
                stack.extend(node.children.values())


def depth_first(ends: Sequence[Node], root: Node) -> list[int]:
    """The order in which a depth-first walk meets the ends of sequences, ties in the order given: neighbours share the most."""
    below: dict[Node, dict[Node, None]] = {}
    ending: dict[Node, list[int]] = {}
    for index, node in enumerate(ends):
        ending.setdefault(node, []).append(index)
        while node.parent is not None:
            siblings = below.setdefault(node.parent, {})
            if node in siblings:
                break
            siblings[node] = None
            node = node.parent
    order: list[int] = []
    stack = [root]
    while stack:
        node = stack.pop()
        order.extend(ending.get(node, ()))
        stack.extend(reversed(below.get(node, {})))
    return order


def _shared_length(left: Ids, right: Ids) -> int:
    length = min(len(left), len(right))
    equal = left[:length] == right[:length]
    return length if equal.all() else int(equal.argmin())
