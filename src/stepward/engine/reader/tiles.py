"""Tiles: which queries of a pass attend to which keys, as a few dense rectangles. NumPy decides, the tensors of a plan serve all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.engine.reader.tree import Node

# Whether a query at a position sees a key at a position of its own sequence, broadcasting; None stands for "every key that does not come later".
Rule = Callable[[Tensor, Tensor], Tensor]
_ALIGNED = 16  # elements


@dataclass(frozen=True, eq=False)
class Piece:
    """Tokens of one node, by their increasing offsets in it."""

    node: Node
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def extent(self) -> int:
        """Tokens of the node that its last token sees."""
        return int(self.offsets[-1]) + 1

    @property
    def positions(self) -> NDArray[np.int64]:
        return self.offsets + self.node.start

    @property
    def slots(self) -> NDArray[np.int64]:
        return self.node.settled[self.offsets]


@dataclass(frozen=True, eq=False)
class Tile:
    """Rows of the pass and the slots of all that any of them sees. All rows see the first `n_open` keys, `mask` [rows, keys - n_open] is for the others.

    The mask is additive: 0 where a row sees a key, minus infinity elsewhere; None where every row sees every key.
    """

    rows: slice
    keys: Tensor | slice
    n_keys: int
    n_open: int
    mask: Tensor | None

    @cached_property
    def full_mask(self) -> Tensor | None:
        """The mask over all keys; its rows begin at addresses that fast kernels accept."""
        if self.mask is None:
            return None
        n_rows = len(self.mask)
        full = self.mask.new_zeros(n_rows, -(-self.n_keys // _ALIGNED) * _ALIGNED)[:, : self.n_keys]
        full[:, self.n_open :] = self.mask
        return full


@dataclass(frozen=True)
class Costs:
    """What decides how tiles are cut."""

    overhead: int  # pairs that could be computed in the time that one more tile takes
    grain: int  # tokens: longer pieces are cut before neighbours are merged
    largest: int  # pairs of one tile at most, unless a single piece has more


def tiles_of(pieces: Sequence[Piece], *, costs: Costs, rule: Rule | None, dtype: torch.dtype, device: torch.device) -> list[Tile]:
    """Tiles over the tokens of `pieces` (depth-first, as rows 0, 1, ... of a pass)."""
    drafts = [_draft(group, rule) for group in _groups([part for piece in pieces for part in _cut(piece, costs.grain)], costs)]
    keys = _moved([keys for keys, _, _ in drafts], device)
    masks = _moved([mask.reshape(-1) for _, _, mask in drafts], device)
    tiles: list[Tile] = []
    first = 0
    for (slots, n_open, seen), key_index, mask in zip(drafts, keys, masks, strict=True):
        rows = slice(first, first + len(seen))
        first = rows.stop
        additive = None
        if seen.shape[1]:
            additive = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~mask.view(seen.shape), float("-inf"))
        tiles.append(Tile(rows, as_slice(slots) or key_index, len(slots), n_open, additive))
    return tiles


def as_slice(slots: NDArray[np.int64]) -> slice | None:
    """The same slots as a slice where they are consecutive."""
    if len(slots) and slots[-1] - slots[0] == len(slots) - 1 and np.all(np.diff(slots) == 1):
        return slice(int(slots[0]), int(slots[-1]) + 1)
    return None


def _cut(piece: Piece, grain: int) -> Iterator[Piece]:
    n_parts = -(-len(piece) // grain)
    for offsets in np.array_split(piece.offsets, n_parts):
        yield Piece(piece.node, offsets)


def _groups(pieces: Sequence[Piece], costs: Costs) -> Iterator[list[Piece]]:
    """Neighbours go into one tile as long as the pairs that this wastes cost less than one more tile."""
    group: list[Piece] = []
    extents: dict[Node, int] = {}
    n_rows = n_keys = 0
    for piece in pieces:
        added = _added_keys(piece, extents)
        alone = piece.node.start + piece.extent
        rows, keys = n_rows + len(piece), n_keys + sum(added.values())
        if group and (rows * keys - n_rows * n_keys > costs.overhead + len(piece) * alone or rows * keys > costs.largest):
            yield group
            group, extents = [], {}
            added = _added_keys(piece, extents)
            rows, keys = len(piece), alone
        group.append(piece)
        for node, count in added.items():
            extents[node] = extents.get(node, 0) + count
        n_rows, n_keys = rows, keys
    if group:
        yield group


def _added_keys(piece: Piece, extents: dict[Node, int]) -> dict[Node, int]:
    """Keys, by node, that a piece needs beyond those of its tile."""
    added = {piece.node: max(0, piece.extent - extents.get(piece.node, 0))}
    node = piece.node.parent
    while node is not None and node.parent is not None and extents.get(node, 0) < len(node):
        added[node] = len(node) - extents.get(node, 0)
        node = node.parent
    return added


def _draft(group: Sequence[Piece], rule: Rule | None) -> tuple[NDArray[np.int64], int, NDArray[np.bool_]]:
    """Key slots, how many of them all rows see, and which of the others each row sees."""
    extents: dict[Node, int] = {}
    sharers: dict[Node, int] = {}
    for piece in group:
        for node in piece.node.path()[:-1]:
            extents[node], sharers[node] = len(node), sharers.get(node, 0) + 1
        extents[piece.node] = max(extents.get(piece.node, 0), piece.extent)
    starts: dict[Node, int] = {}
    n_keys = n_open = 0
    opening = True
    for node, extent in extents.items():  # in the order of a walk from the root, so that what all share comes first
        starts[node] = n_keys
        n_keys += extent
        opening = opening and sharers.get(node, 0) == len(group)
        n_open = n_keys if opening else n_open
    n_rows = sum(map(len, group))
    seen = np.zeros((n_rows, n_keys - n_open), dtype=np.bool_)
    row = 0
    for piece in group:
        rows = slice(row, row + len(piece))
        row = rows.stop
        own = starts[piece.node] - n_open
        seen[rows, own : own + piece.extent] = np.arange(piece.extent) <= piece.offsets[:, None]
        for node in reversed(piece.node.path()[:-1]):
            if starts[node] < n_open:
                break
            seen[rows, starts[node] - n_open : starts[node] - n_open + len(node)] = True
    slots = np.concatenate([node.settled[:extent] for node, extent in extents.items()])
    if rule is None:
        return slots, n_open, seen
    positions = np.concatenate([np.arange(node.start, node.start + extent) for node, extent in extents.items()])
    queries = np.concatenate([piece.positions for piece in group])
    seen = np.concatenate([np.ones((n_rows, n_open), dtype=np.bool_), seen], axis=1)
    seen &= np.broadcast_to(rule(torch.from_numpy(queries)[:, None], torch.from_numpy(positions)[None]).numpy(), seen.shape)
    some = np.flatnonzero(seen.any(axis=0))
    slots, seen = slots[some], seen[:, some]
    partial = np.flatnonzero(~seen.all(axis=0))
    n_open = int(partial[0]) if len(partial) else len(slots)
    return slots, n_open, seen[:, n_open:]


def _moved(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Arrays on the device as one transfer."""
    joined = torch.from_numpy(np.concatenate(arrays)).to(device)
    return list(torch.split(joined, [len(array) for array in arrays]))
