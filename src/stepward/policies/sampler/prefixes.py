"""PrefixStore: keys and values of sequences that were computed, kept for the next sequence that starts the same. Bounded in bytes, least recently used out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stepward.policies.sampler.cache import LayerStates


class _Entry:
    def __init__(self, ids: NDArray[np.int64], states: LayerStates) -> None:
        self.ids, self.states = ids, states
        self.n_bytes = sum(tensor.nbytes for pair in states for tensor in pair)


class PrefixStore:
    """Sequences are searched within their `group` (the prompt), so that a look-up compares a few candidates, not all."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._groups: dict[tuple[int, ...], OrderedDict[int, _Entry]] = {}
        self._order: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._next = 0

    def find(self, group: tuple[int, ...], ids: Sequence[int]) -> tuple[LayerStates | None, int]:
        """The states of a stored sequence with the longest common start, and the length of that start."""
        wanted = np.asarray(ids, dtype=np.int64)
        best, length, chosen = None, 0, -1
        for number, entry in self._groups.get(group, {}).items():
            n = min(len(wanted), len(entry.ids))
            if n <= length:
                continue
            differs = np.flatnonzero(wanted[:n] != entry.ids[:n])
            common = int(differs[0]) if differs.size else n
            if common > length:
                best, length, chosen = entry, common, number
        if best is None:
            return None, 0
        self._order.move_to_end(chosen)
        return best.states, length

    def put(self, group: tuple[int, ...], ids: Sequence[int], states: LayerStates) -> None:
        """Keep the states of `ids`; drop what was not used for longest when over the limit. Sequences that `ids` continues are replaced by it."""
        entry = _Entry(np.asarray(ids, dtype=np.int64), states)
        if entry.n_bytes > self.max_bytes:
            return
        siblings = self._groups.setdefault(group, OrderedDict())
        for number, other in list(siblings.items()):
            if len(other.ids) <= len(entry.ids) and np.array_equal(other.ids, entry.ids[: len(other.ids)]):
                self._drop(number)
        self._groups.setdefault(group, siblings)[self._next] = entry
        self._order[self._next] = group
        self._next += 1
        self.n_bytes += entry.n_bytes
        while self.n_bytes > self.max_bytes:
            self._drop(next(iter(self._order)))

    def _drop(self, number: int) -> None:
        group = self._order.pop(number)
        siblings = self._groups[group]
        self.n_bytes -= siblings.pop(number).n_bytes
        if not siblings:
            del self._groups[group]
