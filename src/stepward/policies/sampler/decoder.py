"""Decoder: what the pool asks of a model. Slots hold sequences; a step feeds one token to each and returns the next logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.cache import LayerStates, RowCache
from stepward.policies.sampler.prefixes import Piece, Pieces, PrefixStore, Segment

Ids = tuple[int, ...]
Group = tuple[int, ...]

_PREFILL = 4096  # tokens of a batch
_CPU_PREFILL = 512  # as many keep a processor busy; in more there is more padding, and less of them stays in its cache


class Decoder(Protocol):
    """Slots 0, 1, ... each hold one sequence of token ids."""

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        """Fill slots with sequences; equal and overlapping ones are computed once. How many tokens went through the model for each of them."""

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        """Feed tokens[b] at positions[b] of slot b, for slots 0..B-1; logits of what follows, float32 [B, V]."""

    def move(self, source: int, target: int, length: int) -> None:
        """Copy slot `source` (its first `length` positions) over slot `target`."""

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Let slots `targets` hold copies of `sources` (the first so many positions of each), which stay."""

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        """Remember the slot's sequence for later loads that start with it."""


class Pass(Protocol):
    """One forward pass over new tokens at given positions, reading and writing a RowCache; logits of the last column."""

    def __call__(self, ids: Tensor, positions: Tensor, visible: int, cache: RowCache) -> Tensor: ...


class CachedDecoder:
    """Sequences in a RowCache; prefixes are computed in padded batches of at most `prefill_tokens`, each distinct start once."""

    def __init__(self, forward: Pass, *, device: torch.device, prefix_bytes: int = 1 << 28, prefill_tokens: int | None = None) -> None:
        self._forward = forward
        self._device = device
        self._rows = RowCache()
        self._store = PrefixStore(prefix_bytes)
        self._prefill_tokens = prefill_tokens or (_CPU_PREFILL if device.type == "cpu" else _PREFILL)

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        wanted: dict[tuple[Group, Ids], list[int]] = {}
        for slot, sequence in zip(slots, sequences, strict=True):
            wanted.setdefault(sequence, []).append(slot)
        self._rows.reserve(max(slots) + 1, max(len(ids) for _, ids in wanted) + 1)
        todo = sorted((sequence for sequence in wanted if sequence[1]), key=lambda sequence: -len(sequence[1]))
        first: dict[Group, tuple[Group, Ids]] = {}
        for sequence in todo:  # the longest of each group goes first: the others mostly start like it
            first.setdefault(sequence[0], sequence)
        computed = self._fill([sequence for sequence in todo if first[sequence[0]] is sequence], wanted)
        computed |= self._fill([sequence for sequence in todo if first[sequence[0]] is not sequence], wanted)
        return [computed.pop(sequence, 0) for sequence in sequences]

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        visible = int(positions.max()) + 1
        self._rows.reserve(len(tokens), visible)
        at = torch.from_numpy(positions).to(self._device)[:, None]
        start = int(positions[0]) if bool((positions == positions[0]).all()) else None
        self._rows.begin(at, visible, start=start)
        return self._forward(torch.from_numpy(tokens).to(self._device)[:, None], at, visible, self._rows)

    def move(self, source: int, target: int, length: int) -> None:
        self._rows.move(source, target, length)

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        self._rows.reserve(max(targets) + 1, max(lengths))
        for source, target, length in zip(sources, targets, lengths, strict=True):
            self._rows.move(source, target, length)

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        pieces, known = self._store.find(group, ids)
        if known < len(ids):
            self._remember(group, ids, pieces, self._read(slot, known, len(ids)), known)

    def _read(self, slot: int, start: int, end: int) -> LayerStates:
        """A copy of a slot's states at positions start..end-1."""
        return self._rows.read(slot, start, end)

    def _place(self, slots: Sequence[int], pieces: Pieces) -> None:
        """Let slots hold a computed sequence."""
        write_pieces(self._rows, slots, pieces)

    def _remember(self, group: Group, ids: Ids, pieces: Pieces, states: LayerStates, known: int) -> Pieces:
        """Keep a sequence that goes on with `states` behind the `known` tokens in `pieces`."""
        whole = (*pieces, Piece(Segment(states), len(ids) - known))
        self._store.put(group, ids, whole)
        return whole

    def _fill(self, todo: list[tuple[Group, Ids]], slots: dict[tuple[Group, Ids], list[int]]) -> dict[tuple[Group, Ids], int]:
        """Find or compute sequences; how many tokens were computed of each that was not known whole."""
        missing = []
        for group, ids in todo:
            pieces, known = self._store.find(group, ids)
            if known == len(ids):
                self._place(slots[group, ids], pieces)
            else:
                missing.append(((group, ids), pieces, known))
        computed = {sequence: len(sequence[1]) - known for sequence, _, known in missing}
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
        return computed

    def _prefill(self, batch: list[tuple[tuple[Group, Ids], Pieces, int]], slots: dict[tuple[Group, Ids], list[int]]) -> None:
        n_new = max(len(ids) - known for (_, ids), _, known in batch)
        starts = [known for _, _, known in batch]
        visible = max(starts) + n_new
        scratch = RowCache()
        scratch.reserve(len(batch), visible)
        tokens = np.zeros((len(batch), n_new), dtype=np.int64)
        for row, ((_, ids), pieces, known) in enumerate(batch):
            tokens[row, : len(ids) - known] = ids[known:]  # what is padded lies beyond the row's length and is never read
            write_pieces(scratch, [row], pieces)
        positions = torch.tensor(starts, device=self._device)[:, None] + torch.arange(n_new, device=self._device)
        scratch.begin(positions, visible, start=starts[0] if len(set(starts)) == 1 else None)
        self._forward(torch.from_numpy(tokens).to(self._device), positions, visible, scratch)
        for row, ((group, ids), pieces, known) in enumerate(batch):
            self._place(slots[group, ids], self._remember(group, ids, pieces, scratch.read(row, known, len(ids)), known))


def write_pieces(cache: RowCache, rows: Sequence[int], pieces: Pieces) -> None:
    """Copy the states of a sequence into every one of `rows`."""
    start = 0
    for segment, length in pieces:
        cache.write(rows, segment.states, length, start=start)
        start += length


def additive_mask(positions: Tensor, visible: int, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """0 where the query at position p may read key j (p - window < j <= p), the smallest number elsewhere; [B, 1, T, visible]."""
    keys = torch.arange(visible, device=positions.device)
    hidden = keys > positions[:, None, :, None]
    if window is not None:
        hidden |= keys <= positions[:, None, :, None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, torch.finfo(dtype).min)
