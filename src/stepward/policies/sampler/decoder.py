"""Decoder: what the pool asks of a model. Slots hold sequences; a step feeds one token to each and returns the next logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.cache import LayerStates, RowCache
from stepward.policies.sampler.prefixes import PrefixStore

Ids = tuple[int, ...]
Group = tuple[int, ...]


class Decoder(Protocol):
    """Slots 0, 1, ... each hold one sequence of token ids."""

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> None:
        """Fill slots with sequences; equal and overlapping ones are computed once."""

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        """Feed tokens[b] at positions[b] of slot b, for slots 0..B-1; logits of what follows, float32 [B, V]."""

    def move(self, source: int, target: int, length: int) -> None:
        """Copy slot `source` (its first `length` positions) over slot `target`."""

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        """Remember the slot's sequence for later loads that start with it."""


class Pass(Protocol):
    """One forward pass over new tokens at given positions, reading and writing a RowCache; logits of the last column."""

    def __call__(self, ids: Tensor, positions: Tensor, visible: int, cache: RowCache) -> Tensor: ...


class CachedDecoder:
    """Sequences in a RowCache; prefixes are computed in padded batches of at most `prefill_tokens`, each distinct start once."""

    def __init__(self, forward: Pass, *, device: torch.device, prefix_bytes: int = 1 << 28, prefill_tokens: int = 4096) -> None:
        self._forward = forward
        self._device = device
        self._rows = RowCache()
        self._store = PrefixStore(prefix_bytes)
        self._prefill_tokens = prefill_tokens

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> None:
        wanted: dict[tuple[Group, Ids], list[int]] = {}
        for slot, sequence in zip(slots, sequences, strict=True):
            wanted.setdefault(sequence, []).append(slot)
        self._rows.reserve(max(slots) + 1, max(len(ids) for _, ids in wanted) + 1)
        todo = sorted((sequence for sequence in wanted if sequence[1]), key=lambda sequence: -len(sequence[1]))
        first: dict[Group, tuple[Group, Ids]] = {}
        for sequence in todo:  # the longest of each group goes first: the others mostly start like it
            first.setdefault(sequence[0], sequence)
        self._fill([sequence for sequence in todo if first[sequence[0]] is sequence], wanted)
        self._fill([sequence for sequence in todo if first[sequence[0]] is not sequence], wanted)

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        visible = int(positions.max()) + 1
        self._rows.reserve(len(tokens), visible)
        at = torch.from_numpy(positions).to(self._device)[:, None]
        start = int(positions[0]) if bool((positions == positions[0]).all()) else None
        self._rows.begin(at, visible, start=start)
        return self._forward(torch.from_numpy(tokens).to(self._device)[:, None], at, visible, self._rows)

    def move(self, source: int, target: int, length: int) -> None:
        self._rows.move(source, target, length)

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        if ids and self._store.find(group, ids)[1] < len(ids):
            self._store.put(group, ids, self._rows.read(slot, len(ids)))

    def _place(self, slots: Sequence[int], states: LayerStates, length: int) -> None:
        """Let slots hold a computed sequence."""
        self._rows.write(slots, states, length)

    def _fill(self, todo: list[tuple[Group, Ids]], slots: dict[tuple[Group, Ids], list[int]]) -> None:
        missing = []
        for group, ids in todo:
            states, known = self._store.find(group, ids)
            if states is not None and known == len(ids):
                self._place(slots[group, ids], states, known)
            else:
                missing.append(((group, ids), states, known))
        missing.sort(key=lambda item: len(item[0][1]) - item[2])
        while missing:
            widest, n = 0, 0
            for (_, ids), _, known in missing:
                widest = len(ids) - known
                if n and (n + 1) * widest > self._prefill_tokens:
                    break
                n += 1
            self._prefill(missing[:n], slots)
            del missing[:n]

    def _prefill(self, batch: list[tuple[tuple[Group, Ids], Any, int]], slots: dict[tuple[Group, Ids], list[int]]) -> None:
        n_new = max(len(ids) - known for (_, ids), _, known in batch)
        starts = [known for _, _, known in batch]
        visible = max(starts) + n_new
        scratch = RowCache()
        scratch.reserve(len(batch), visible)
        tokens = np.zeros((len(batch), n_new), dtype=np.int64)
        for row, ((_, ids), states, known) in enumerate(batch):
            tokens[row, : len(ids) - known] = ids[known:]  # what is padded lies beyond the row's length and is never read
            if states is not None:
                scratch.write([row], states, known)
        positions = torch.tensor(starts, device=self._device)[:, None] + torch.arange(n_new, device=self._device)
        scratch.begin(positions, visible, start=starts[0] if len(set(starts)) == 1 else None)
        self._forward(torch.from_numpy(tokens).to(self._device), positions, visible, scratch)
        for row, ((group, ids), _, _) in enumerate(batch):
            states = scratch.read(row, len(ids))
            self._place(slots[group, ids], states, len(ids))
            self._store.put(group, ids, states)


def additive_mask(positions: Tensor, visible: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """0 where the query at position p may read key j (p - window < j <= p), the smallest number elsewhere; [B, 1, T, visible]."""
    keys = torch.arange(visible, device=positions.device)
    hidden = keys > positions[:, None, :, None]
    if window is not None:
        hidden |= keys <= positions[:, None, :, None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, torch.finfo(dtype).min)
