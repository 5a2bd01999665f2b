"""Blocks: keys and values that rows have written, in blocks of a few positions that lie without gaps, so that a pass reads no padding but that of last blocks.

Which sequence a row holds is the caller's business. After PagedAttention (Efficient Memory Management for Large Language Model Serving with PagedAttention,
2023); here blocks that are in use stay together at the beginning of a layer's tensors, so that all of them are read in one product without being gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.cache import LayerStates, untouched_zeros

_POSITIONS = 16  # of a block
_FIRST_BLOCKS = 64
_FIRST_BYTES = 1 << 29  # of a processor's address space; memory is taken only as it is written


class Blocks:
    """`begin(written)` says where the next pass writes; then, layer by layer, `write`, `scores` and `mix`.

    Keys and values: [blocks, shared heads, positions, head size] a layer; block b belongs to row `_row[b]`, whose block number `_number[b]` it is.
    """

    def __init__(self, *, layers: int, heads: int, size: int, dtype: torch.dtype, device: torch.device, first_blocks: int | None = None) -> None:
        self._keys = [torch.zeros(0, heads, _POSITIONS, size, dtype=dtype, device=device) for _ in range(layers)]
        self._values = [torch.zeros_like(keys) for keys in self._keys]
        self._n_heads, self._device = heads, device
        of_a_block = 2 * layers * heads * _POSITIONS * size * dtype.itemsize
        lazily = max(_FIRST_BLOCKS, _FIRST_BYTES // of_a_block) if device.type == "cpu" else _FIRST_BLOCKS
        self._first_blocks = lazily if first_blocks is None else first_blocks  # how many there is room for before the tensors grow
        self._row = np.zeros(0, dtype=np.int64)
        self._number = np.zeros(0, dtype=np.int64)
        self._of_row: dict[int, list[int]] = {}
        self._freed: list[int] = []
        self._n = 0
        self._n_rows = self._width = 0
        self._rows = self._numbers = self._places = self._at = torch.zeros(0, dtype=torch.long)
        self._unwritten = torch.zeros(0, dtype=torch.bool)

    def begin(self, written: NDArray[np.int64]) -> None:
        """The next pass writes position `written[b]` of row b, for rows 0..B-1; it follows what the row holds."""
        self._close_gaps()
        self._n_rows = len(written)
        number, offset = np.divmod(written, _POSITIONS)
        owned = self._of_row
        for row in np.flatnonzero(offset == 0).tolist():
            if len(owned.setdefault(row, [])) <= number[row]:
                owned[row].append(self._take(row, len(owned[row])))
        current = np.array([owned[row][at] for row, at in enumerate(number.tolist())], dtype=np.int64)
        n, n_heads = self._n, self._n_heads
        self._width = int(number.max()) + 1
        self._rows = torch.from_numpy(self._row[:n].copy()).to(self._device)
        self._numbers = torch.from_numpy(self._number[:n].copy()).to(self._device)
        self._at = self._rows * self._width + self._numbers
        places = (current[:, None] * n_heads + np.arange(n_heads)) * _POSITIONS + offset[:, None]
        self._places = torch.from_numpy(places.reshape(-1)).to(self._device)
        unwritten = np.arange(self._width * _POSITIONS) > written[:, None]
        self._unwritten = torch.from_numpy(unwritten).to(self._device)[:, None, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """One position a row: [B, shared heads, 1, size] each."""
        size = keys.shape[3]
        for states, new in ((self._keys[layer], keys), (self._values[layer], values)):
            states.view(-1, size).index_copy_(0, self._places, new.reshape(-1, size))

    def scores(self, layer: int, queries: Tensor) -> Tensor:
        """Products of queries [B, shared heads, G, size] with the row's keys, [B, shared heads, G, positions]; -inf where nothing is written."""
        n_rows, n_heads, grouped, _ = queries.shape
        products = queries[self._rows] @ self._keys[layer][: self._n].transpose(2, 3)
        table = products.new_empty(n_rows * self._width, n_heads, grouped, _POSITIONS).index_copy_(0, self._at, products)
        by_row = table.view(n_rows, self._width, n_heads, grouped, _POSITIONS).permute(0, 2, 3, 1, 4)
        return by_row.reshape(n_rows, n_heads, grouped, -1).masked_fill_(self._unwritten, -torch.inf)

    def mix(self, layer: int, chances: Tensor) -> Tensor:
        """The row's values weighted with chances [B, shared heads, G, positions], [B, shared heads, G, size]."""
        n_rows, n_heads, grouped, _ = chances.shape
        by_block = (
            chances.view(n_rows, n_heads, grouped, self._width, _POSITIONS)
            if chances.is_contiguous()
            else chances.reshape(n_rows, n_heads, grouped, self._width, _POSITIONS)
        )
        of_blocks = by_block.permute(0, 3, 1, 2, 4)[self._rows, self._numbers]
        mixed = of_blocks @ self._values[layer][: self._n]
        if self._width == 1:
            return torch.empty_like(mixed).index_copy_(0, self._at, mixed)
        table = mixed.new_zeros(n_rows * self._width, n_heads, grouped, mixed.shape[3]).index_copy_(0, self._at, mixed)
        return table.view(n_rows, self._width, n_heads, grouped, -1).sum(1)

    def read(self, row: int, start: int, end: int) -> LayerStates:
        """A copy of the row's positions start..end-1."""
        first, last = start // _POSITIONS, -(-end // _POSITIONS)
        blocks = self._of_row.get(row, [])[first:last]
        skipped = first * _POSITIONS
        index = torch.tensor(blocks, dtype=torch.long, device=self._device)
        keys, values = (
            [of_layer.index_select(0, index).transpose(0, 1).flatten(1, 2)[:, start - skipped : end - skipped].contiguous() for of_layer in states]
            for states in (self._keys, self._values)
        )
        return list(zip(keys, values, strict=True))

    def rename(self, source: int, target: int) -> None:
        """What row `source` holds is row `target`'s from now on."""
        self.free(target)
        blocks = self._of_row.pop(source, None)
        if blocks:
            self._row[blocks] = target
            self._of_row[target] = blocks

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Rows `targets`, which hold nothing, get copies of what rows `sources` hold."""
        old: list[int] = []
        new: list[int] = []
        for source, target in zip(sources, targets, strict=True):
            blocks = self._of_row.get(source, [])
            old += blocks
            self._of_row[target] = [self._take(target, number) for number in range(len(blocks))]
            new += self._of_row[target]
        self._copy(old, new)

    def free(self, row: int) -> None:
        """The row holds nothing any more."""
        self._freed += self._of_row.pop(row, ())

    def _take(self, row: int, number: int) -> int:
        if self._n == len(self._row):
            self._grow(max(self._first_blocks, 2 * self._n))
        block = self._n
        self._row[block], self._number[block] = row, number
        self._n += 1
        return block

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self._row)
        for states in (self._keys, self._values):
            for layer, old in enumerate(states):  # one by one, so that little is held twice
                states[layer] = untouched_zeros((capacity, *old.shape[1:]), like=old)  # zeros: what is masked must not be NaN
                states[layer][: self._n] = old[: self._n]
        self._row = np.concatenate([self._row, np.zeros(more, dtype=np.int64)])
        self._number = np.concatenate([self._number, np.zeros(more, dtype=np.int64)])

    def _copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy blocks over other ones."""
        if not sources:
            return
        old, new = (torch.tensor(blocks, device=self._device) for blocks in (sources, targets))
        for states in (*self._keys, *self._values):
            states.index_copy_(0, new, states.index_select(0, old))

    def _close_gaps(self) -> None:
        """Move the last blocks into the places of freed ones."""
        if not self._freed:
            return
        freed = set(self._freed)
        n = self._n - len(freed)
        holes = sorted(block for block in freed if block < n)
        moved = [block for block in range(n, self._n) if block not in freed]
        self._copy(moved, holes)
        for hole, block in zip(holes, moved, strict=True):
            row, number = int(self._row[block]), int(self._number[block])
            self._row[hole], self._number[hole] = row, number
            self._of_row[row][number] = hole
        self._n = n
        self._freed.clear()
