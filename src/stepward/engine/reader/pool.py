"""Pool: what the model computed for every cached token, in tensors addressed by slots. Which token lies in which slot is the tree's business."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Slots = NDArray[np.int64]
_INDEX_BYTES = 24  # a token's id, its slot in the tree, and the slot's place in the free list


@dataclass(frozen=True)
class LayerShape:
    """Keys [heads, capacity, key_size] and values [heads, capacity, value_size] of one layer."""

    heads: int
    key_size: int
    value_size: int
    dtype: torch.dtype


class Pool:
    """Per slot: keys and values of every layer, a state from which the final hidden state follows, and the head's outputs where they are known.

    Layers are declared by their first write, or taken over from a pool of the same model, `like`. `capacity` is the number of slots that have memory now.
    """

    def __init__(self, *, n_outputs: int, device: torch.device, like: Pool | None = None) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.states: Tensor | None = None  # [capacity, H]
        self.outputs = np.zeros((0, n_outputs))  # [capacity, K]
        self.known = np.zeros(0, dtype=np.bool_)
        self._shapes: dict[int, LayerShape] = dict(like._shapes) if like is not None else {}
        self._state_shape: tuple[int, torch.dtype] | None = like._state_shape if like is not None else None
        self._device = device
        self._free = np.zeros(0, dtype=np.int64)  # the last ones are given out first
        self.capacity = 0

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot in everything that grows with the number of cached tokens."""
        layers = sum(shape.heads * (shape.key_size + shape.value_size) * shape.dtype.itemsize for shape in self._shapes.values())
        state = self._state_shape[0] * self._state_shape[1].itemsize if self._state_shape is not None else 0
        return layers + state + self.outputs.shape[1] * self.outputs.itemsize + self.known.itemsize + _INDEX_BYTES

    @property
    def n_free(self) -> int:
        return len(self._free)

    def take(self, n_slots: int) -> Slots:
        """Free slots, ascending, nothing known about them."""
        assert n_slots <= len(self._free)
        split = len(self._free) - n_slots
        slots, self._free = np.sort(self._free[split:]), self._free[:split]
        self.known[slots] = False
        return slots

    def give_back(self, slots: Slots) -> None:
        self._free = np.concatenate([self._free, slots[::-1]])

    def grow(self, capacity: int) -> None:
        """Memory for more slots; those in use keep their numbers."""
        assert capacity >= self.capacity
        self._resize(capacity, slice(0, self.capacity), self.capacity)
        self._free = np.concatenate([np.arange(capacity - 1, self.capacity - 1, -1), self._free])
        self.capacity = capacity

    def shrink(self, capacity: int, kept: Slots) -> None:
        """Memory for fewer slots: `kept` ones become slots 0, 1, ..., all others are forgotten."""
        assert len(kept) <= capacity
        self._resize(capacity, kept, len(kept))
        self._free = np.arange(capacity - 1, len(kept) - 1, -1)
        self.capacity = capacity

    def write(self, layer: int, slots: Tensor | slice, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [heads, N, size] of N slots."""
        if layer not in self.layers:
            shape = LayerShape(keys.shape[0], keys.shape[2], values.shape[2], keys.dtype)
            assert self._shapes.setdefault(layer, shape) == shape, f"layer {layer} changed its shape"
            self.layers[layer] = self._new_layer(shape, self.capacity)
        for stored, new in zip(self.layers[layer], (keys, values), strict=True):
            if isinstance(slots, slice):
                stored[:, slots] = new
            else:
                stored.index_copy_(1, slots, new)

    def write_states(self, slots: Tensor | slice, states: Tensor) -> None:
        """Store states [N, H] of N slots."""
        if self.states is None:
            self._state_shape = (states.shape[1], states.dtype)
            self.states = torch.empty(self.capacity, states.shape[1], dtype=states.dtype, device=self._device)
        self.states[slots] = states

    def _resize(self, capacity: int, kept: Slots | slice, n_kept: int) -> None:
        where = kept if isinstance(kept, slice) else torch.from_numpy(kept).to(self._device)
        for layer, shape in self._shapes.items():  # one layer after the other, so that old and new exist together for one only
            if layer in self.layers:
                old = self.layers.pop(layer)
                new = self._new_layer(shape, capacity)
                for source, target in zip(old, new, strict=True):
                    target[:, :n_kept] = source[:, where]
                self.layers[layer] = new
        if self.states is not None:
            states = self.states.new_empty(capacity, self.states.shape[1])
            states[:n_kept] = self.states[where]
            self.states = states
        outputs, known = np.zeros((capacity, self.outputs.shape[1])), np.zeros(capacity, dtype=np.bool_)
        outputs[:n_kept], known[:n_kept] = self.outputs[kept], self.known[kept]
        self.outputs, self.known = outputs, known

    def _new_layer(self, shape: LayerShape, capacity: int) -> tuple[Tensor, Tensor]:
        keys, values = (torch.empty(shape.heads, capacity, size, dtype=shape.dtype, device=self._device) for size in (shape.key_size, shape.value_size))
        return keys, values
