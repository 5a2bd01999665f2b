"""PrefixCache: a prefix tree and the pool its slots point into, kept within a number of bytes."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from stepward.engine.reader.pool import Pool
from stepward.engine.reader.tree import Node, PrefixTree

_FIRST_CAPACITY = 256  # slots


class PrefixCache:
    """Between calls it holds at most `max_bytes`. While a call runs it may hold `working` slots (see `settle`), whatever their bytes."""

    def __init__(self, pool: Pool, *, max_bytes: int) -> None:
        self.tree, self.pool = PrefixTree(), pool
        self._max_bytes = max_bytes
        self._stamp = 0

    @property
    def capacity(self) -> int:
        """Slots that may be kept between calls."""
        return self._max_bytes // self.pool.slot_bytes

    @property
    def n_bytes(self) -> int:
        return self.pool.capacity * self.pool.slot_bytes

    def settle(self, pending: Sequence[Node], *, kept: Container[Node], wanted: Container[Node], working: int) -> None:
        """Give slots to nodes without (parents first). `kept` nodes stay; of the others those that are not `wanted` go first, least recently used first."""
        missing = sum(map(len, pending))
        pool = self.pool
        if missing > pool.n_free:
            self._grow(missing, self.capacity)
        if missing > pool.n_free:
            self._free(self.tree.evict(missing - pool.n_free, wanted))
        if missing > pool.n_free:
            self._grow(missing, working)
        if missing > pool.n_free:
            self._free(self.tree.retract(missing - pool.n_free, kept))
        slots = pool.take(missing)
        at = 0
        for node in pending:
            self.tree.settle(node, slots[at : at + len(node)].copy())
            at += len(node)

    def touch(self, path: Sequence[Node]) -> None:
        """The nodes of a path from the root have just been used."""
        self._stamp += 1
        self.tree.touch(path, self._stamp)

    def trim(self) -> None:
        """Back to the bytes that may be kept between calls."""
        pool, capacity = self.pool, self.capacity
        if pool.capacity <= capacity:
            return
        used = pool.capacity - pool.n_free
        self._free(self.tree.evict(used - capacity, ()))
        nodes = list(self.tree.resident())
        kept = np.concatenate([np.zeros(0, dtype=np.int64), *(node.settled for node in nodes)])
        pool.shrink(capacity, kept)
        at = 0
        for node in nodes:
            node.slots = np.arange(at, at + len(node))
            at += len(node)

    def clear(self) -> None:
        self.tree = PrefixTree()
        self.pool.shrink(0, np.zeros(0, dtype=np.int64))

    def _grow(self, missing: int, limit: int) -> None:
        pool = self.pool
        wanted = max(pool.capacity + missing - pool.n_free, 2 * pool.capacity, _FIRST_CAPACITY)
        if min(wanted, limit) > pool.capacity:
            pool.grow(min(wanted, limit))

    def _free(self, freed: Sequence[NDArray[np.int64]]) -> None:
        if freed:
            self.pool.give_back(np.concatenate(freed))
