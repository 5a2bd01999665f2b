"""PrefixStore: keys and values of sequences that were computed, kept for the next sequence that starts the same. Bounded in bytes, least recently used out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepward.policies.sampler.cache import LayerStates


class Segment:
    """States of some neighbouring positions; the sequences of a tree share those of their common steps."""

    def __init__(self, states: LayerStates) -> None:
        self.states = states
        self.n_bytes = sum(tensor.nbytes for pair in states for tensor in pair)
        self.n_users = 0


class Piece(NamedTuple):
    """The first `length` positions of a segment."""

    segment: Segment
    length: int


Pieces = tuple[Piece, ...]


class _Entry(NamedTuple):
    ids: NDArray[np.int64]
    pieces: Pieces


class PrefixStore:
    """Sequences are searched within their `group` (the prompt), so that a look-up compares a few candidates, not all."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._groups: dict[tuple[int, ...], OrderedDict[int, _Entry]] = {}
        self._order: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._next = 0

    def find(self, group: tuple[int, ...], ids: Sequence[int]) -> tuple[Pieces, int]:
        """The states of the longest start of `ids` that is stored, in order, and the length of that start."""
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
            return (), 0
        self._order.move_to_end(chosen)
        return _start_of(best.pieces, length), length

    def put(self, group: tuple[int, ...], ids: Sequence[int], pieces: Pieces) -> None:
        """Keep the states of `ids`; drop what was not used for longest when over the limit. Sequences that `ids` continues are replaced by it."""
        entry = _Entry(np.asarray(ids, dtype=np.int64), pieces)
        if sum(piece.segment.n_bytes for piece in pieces) > self.max_bytes:
            return
        siblings = self._groups.setdefault(group, OrderedDict())
        replaced = [number for number, other in siblings.items() if len(other.ids) <= len(entry.ids) and np.array_equal(other.ids, entry.ids[: len(other.ids)])]
        siblings[self._next] = entry
        self._order[self._next] = group
        self._next += 1
        for piece in pieces:
            self.n_bytes += piece.segment.n_bytes if not piece.segment.n_users else 0
            piece.segment.n_users += 1
        for number in replaced:
            self._drop(number)
        while self.n_bytes > self.max_bytes:
            self._drop(next(iter(self._order)))

    def _drop(self, number: int) -> None:
        group = self._order.pop(number)
        siblings = self._groups[group]
        for piece in siblings.pop(number).pieces:
            piece.segment.n_users -= 1
            self.n_bytes -= piece.segment.n_bytes if not piece.segment.n_users else 0
        if not siblings:
            del self._groups[group]


def _start_of(pieces: Pieces, length: int) -> Pieces:
    """The pieces that hold the first `length` positions."""
    start: list[Piece] = []
    for piece in pieces:
        n = min(piece.length, length)
        if not n:
            break
        start.append(Piece(piece.segment, n))
        length -= n
    return tuple(start)
