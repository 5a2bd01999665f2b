"""SharedDecoder: rows that start from the same prefix read one copy of its keys and values. For `LeanPass`, where reading them is most of the work.

A row attends to its prefix and to what was written since: softmax over both, with scores and sums of the prefix computed for all its rows
in one matrix product (after Hydragen: high-throughput LLM inference with shared prefixes, 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.cache import LayerStates, RowCache
from stepward.policies.sampler.decoder import CachedDecoder, Group, Ids, write_pieces
from stepward.policies.sampler.lean import LeanPass
from stepward.policies.sampler.prefixes import Pieces

_ROWS_A_CHUNK = 16  # rows of one prefix that go into one matrix product


class SharedDecoder(CachedDecoder):
    """Prefixes in a RowCache (a row of it each, counted by how many slots use it), what slots wrote since in blocks."""

    def __init__(self, forward: LeanPass, *, device: torch.device, prefix_bytes: int = 1 << 28, prefill_tokens: int | None = None) -> None:
        super().__init__(forward, device=device, prefix_bytes=prefix_bytes, prefill_tokens=prefill_tokens)
        self._lean = forward
        self._prefixes = RowCache()
        self._own = forward.new_blocks(device)
        self._lengths: list[int] = []  # of prefixes
        self._users: list[set[int]] = []  # slots of each prefix
        self._prefix_of: dict[int, int] = {}
        self._layout: _Layout | None = None

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        for slot in slots:
            self._leave(slot)
        self._leave_above(min(slots))
        empty = [slot for slot, (_, ids) in zip(slots, sequences, strict=True) if not ids]
        computed = super().load(slots, sequences)
        if empty:
            self._place(empty, ())
        return computed

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        n_rows = len(tokens)
        self._leave_above(n_rows)
        if self._layout is None or self._layout.n_rows != n_rows:
            self._layout = _Layout(n_rows, self._users, self._lengths, self._device)
        layout = self._layout
        own, prefixes = self._own, self._prefixes
        own.begin(positions - layout.starts)
        n_prefixes, longest = len(self._lengths), max(self._lengths)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            own.write(layer, keys, values)
            n_heads, n_shared, size = queries.shape[1], keys.shape[1], queries.shape[3]
            grouped = (queries[:, :, 0] * size**-0.5).view(n_rows, n_shared, n_heads // n_shared, size)
            scores = own.scores(layer, grouped)
            if not longest:
                return own.mix(layer, scores.softmax(-1)).view(n_rows, n_heads, 1, size)
            prefix_keys = layout.of_chunks(prefixes.keys[layer][:n_prefixes, :, :longest])
            prefix_values = layout.of_chunks(prefixes.values[layer][:n_prefixes, :, :longest])
            shared = layout.to_rows(layout.to_chunks(grouped) @ prefix_keys.transpose(2, 3), n_heads // n_shared)
            chances = torch.cat([shared.masked_fill_(layout.beyond, -torch.inf), scores], dim=-1).softmax(-1)
            read: Tensor = layout.to_rows(layout.to_chunks(chances[..., :longest]) @ prefix_values, n_heads // n_shared)
            read += own.mix(layer, chances[..., longest:])
            return read.view(n_rows, n_heads, 1, size)

        ids, at = torch.from_numpy(tokens).to(self._device)[:, None], torch.from_numpy(positions).to(self._device)[:, None]
        return self._lean.run(ids, at, int(positions.max()) + 1, attend)

    def move(self, source: int, target: int, length: int) -> None:  # noqa: ARG002
        prefix = self._prefix_of[source]
        self._leave(target)
        prefix = self._prefix_of[source]  # leaving may have moved it
        self._join(target, prefix)
        self._own.rename(source, target)

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:  # noqa: ARG002
        for target in targets:
            self._leave(target)
        for source, target in zip(sources, targets, strict=True):
            self._join(target, self._prefix_of[source])
        self._own.copy(sources, targets)

    def _read(self, slot: int, start: int, end: int) -> LayerStates:
        prefix = self._prefix_of[slot]
        border = self._lengths[prefix]
        own = self._own.read(slot, max(0, start - border), end - border)
        if start >= border:
            return own
        before = self._prefixes.read(prefix, start, border)
        return [(torch.cat([k, own_k], 1), torch.cat([v, own_v], 1)) for (k, v), (own_k, own_v) in zip(before, own, strict=True)]

    def _place(self, slots: Sequence[int], pieces: Pieces) -> None:
        prefix, length = len(self._lengths), sum(piece.length for piece in pieces)
        self._lengths.append(length)
        self._users.append(set())
        self._prefixes.reserve(prefix + 1, length)
        write_pieces(self._prefixes, [prefix], pieces)
        for slot in slots:
            self._join(slot, prefix)

    def _join(self, slot: int, prefix: int) -> None:
        self._users[prefix].add(slot)
        self._prefix_of[slot] = prefix
        self._layout = None

    def _leave(self, slot: int) -> None:
        """The slot no longer needs its prefix; a prefix without slots makes room for the last one."""
        prefix = self._prefix_of.pop(slot, None)
        if prefix is None:
            return
        self._own.free(slot)
        self._layout = None
        self._users[prefix].discard(slot)
        if self._users[prefix]:
            return
        last = len(self._lengths) - 1
        if prefix != last:
            self._prefixes.move(last, prefix, self._lengths[last])
            self._lengths[prefix], self._users[prefix] = self._lengths[last], self._users[last]
            for user in self._users[prefix]:
                self._prefix_of[user] = prefix
        self._lengths.pop()
        self._users.pop()

    def _leave_above(self, n_rows: int) -> None:
        if len(self._prefix_of) > n_rows:
            for slot in [slot for slot in self._prefix_of if slot >= n_rows]:
                self._leave(slot)


class _Layout:
    """Which rows go into which chunk, [C, G] padded with row 0, and back."""

    def __init__(self, n_rows: int, users: Sequence[set[int]], lengths: Sequence[int], device: torch.device) -> None:
        self.n_rows = n_rows
        widest = min(_ROWS_A_CHUNK, max(map(len, users)))
        chunks = [(prefix, members[first : first + widest]) for prefix, members in enumerate(map(sorted, users)) for first in range(0, len(members), widest)]
        rows = np.zeros((len(chunks), widest), dtype=np.int64)
        chunk, place, starts = (np.zeros(n_rows, dtype=np.int64) for _ in range(3))
        for number, (prefix, members) in enumerate(chunks):
            rows[number, : len(members)] = members
            chunk[members], place[members], starts[members] = number, np.arange(len(members)), lengths[prefix]
        self._rows, self._at = torch.from_numpy(rows).to(device), torch.from_numpy(chunk * widest + place).to(device)
        self._prefix = None if len(chunks) == len(users) else torch.tensor([prefix for prefix, _ in chunks], device=device)
        self.starts = starts
        self.beyond = torch.from_numpy(np.arange(max(lengths)) >= starts[:, None]).to(device)[:, None, None]

    def of_chunks(self, states: Tensor) -> Tensor:
        """Prefix states of every chunk: a view, unless a prefix has several chunks."""
        return states if self._prefix is None else states[self._prefix]

    def to_chunks(self, rows: Tensor) -> Tensor:
        """[B, shared heads, group, X] -> [C, shared heads, G * group, X]."""
        n_chunks, widest = self._rows.shape
        _, n_shared, grouped, size = rows.shape
        return rows[self._rows].transpose(1, 2).reshape(n_chunks, n_shared, widest * grouped, size)

    def to_rows(self, chunks: Tensor, grouped: int) -> Tensor:
        """The inverse."""
        n_chunks, n_shared, width, size = chunks.shape
        return chunks.view(n_chunks, n_shared, width // grouped, grouped, size).transpose(1, 2).reshape(-1, n_shared, grouped, size)[self._at]
