"""RowCache: keys and values of many rows in preallocated tensors, in the form that a transformers model can write to and read from.

Rows are left-aligned: position p of a row lies at index p, so that a row's length is the only thing to know about it. Which sequence a row
holds is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

LayerStates = list[tuple[Tensor, Tensor]]  # keys and values of one sequence, each [heads, T, head size], layer by layer
_GRAIN = 64  # lengths grow in these units at least
_ROW_GRAIN = 16  # and numbers of rows in these


def untouched_zeros(shape: Sequence[int], *, like: Tensor) -> Tensor:
    """Zeros of `like`'s type and device; a processor's memory is taken page by page, when something is written there."""
    if like.device.type != "cpu" or not math.prod(shape):
        return like.new_zeros(shape)
    raw = np.zeros(math.prod(shape) * like.element_size(), dtype=np.uint8)  # asks the system for zeroed pages, where torch would write them
    return torch.from_numpy(raw).view(like.dtype).view(*shape)


class RowCache(Cache):  # type: ignore[misc]
    """`begin(positions)` says where the next forward pass writes; `update` is then called once a layer by the model.

    Keys and values: [rows, heads, length, head size] a layer, allocated when a layer is first written and enlarged (doubling) when needed.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._capacity = (0, 0)
        self._visible = 0
        self._positions = torch.zeros(0, 0, dtype=torch.long)
        self._start: int | None = None
        self._flat: dict[tuple[int, int], Tensor] = {}

    def reserve(self, n_rows: int, length: int) -> None:
        """Make room for rows 0..n_rows-1 of `length` positions each."""
        rows_now, length_now = self._capacity
        if n_rows <= rows_now and length <= length_now:
            return
        rows = rows_now if n_rows <= rows_now else max(-(-n_rows // _ROW_GRAIN) * _ROW_GRAIN, min(2 * rows_now, n_rows + 64))
        columns = length_now if length <= length_now else max(-(-length // _GRAIN) * _GRAIN, min(2 * length_now, length + 1024))
        self._capacity = (rows, columns)
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = untouched_zeros((rows, old.shape[1], columns, old.shape[3]), like=old)
                new[: old.shape[0], :, : old.shape[2]] = old
                tensors[layer] = new

    def begin(self, positions: Tensor, visible: int, *, start: int | None = None) -> None:
        """The next pass writes rows 0..B-1 at `positions` ([B, T]; `start` if every row's are start, start + 1, ...) and reads 0..visible-1."""
        self._positions, self._visible, self._start = positions, visible, start
        self._flat.clear()

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new states [B, heads, T, head size]; return views of all that is visible."""
        while len(self.keys) <= layer_idx:
            rows, columns = self._capacity
            self.keys.append(untouched_zeros((rows, key_states.shape[1], columns, key_states.shape[3]), like=key_states))
            self.values.append(untouched_zeros((rows, value_states.shape[1], columns, value_states.shape[3]), like=value_states))
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        n_rows, n_new = key_states.shape[0], key_states.shape[2]
        if self._start is not None:
            keys[:n_rows, :, self._start : self._start + n_new] = key_states
            values[:n_rows, :, self._start : self._start + n_new] = value_states
        elif n_new == 1:  # by far the most frequent case: one flat index serves all layers of the same shape
            places = self._places(keys)
            keys.view(-1, keys.shape[3]).index_copy_(0, places, key_states.reshape(-1, keys.shape[3]))
            values.view(-1, values.shape[3]).index_copy_(0, places, value_states.reshape(-1, values.shape[3]))
        else:
            rows_index = torch.arange(n_rows, device=keys.device)[:, None]
            keys[rows_index, :, self._positions] = key_states.transpose(1, 2)
            values[rows_index, :, self._positions] = value_states.transpose(1, 2)
        return keys[:n_rows, :, : self._visible], values[:n_rows, :, : self._visible]

    def _places(self, like: Tensor) -> Tensor:
        """Where one position a row lies in a layer seen as [rows * heads * length, head size]."""
        n_heads, length = like.shape[1], like.shape[2]
        if (n_heads, length) not in self._flat:
            n_rows = len(self._positions)
            lines = torch.arange(n_rows * n_heads, device=like.device).view(n_rows, n_heads)
            self._flat[n_heads, length] = (lines * length + self._positions).reshape(-1)
        return self._flat[n_heads, length]

    def get_seq_length(self, *_: Any) -> int:
        return self._visible - self._positions.shape[-1]

    def get_mask_sizes(self, *_: Any) -> tuple[int, int]:
        return self._visible, 0

    def read(self, row: int, start: int, end: int) -> LayerStates:
        """A copy of the row's positions start..end-1."""
        return [(keys[row, :, start:end].clone(), values[row, :, start:end].clone()) for keys, values in zip(self.keys, self.values, strict=True)]

    def write(self, rows: Sequence[int], states: LayerStates, length: int, *, start: int = 0) -> None:
        """Copy the first `length` positions of `states` into every one of `rows`, at `start`."""
        if not length:
            return
        first, n = rows[0], len(rows)
        run = slice(first, first + n) if list(rows) == list(range(first, first + n)) else torch.tensor(rows)
        while len(self.keys) < len(states):
            for tensors, like in zip((self.keys, self.values), states[len(self.keys)], strict=True):
                tensors.append(untouched_zeros((self._capacity[0], like.shape[0], self._capacity[1], like.shape[2]), like=like))
        for layer, (keys, values) in enumerate(states):
            self.keys[layer][run, :, start : start + length] = keys[None, :, :length]
            self.values[layer][run, :, start : start + length] = values[None, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row over another."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[target, :, :length] = tensor[source, :, :length]
