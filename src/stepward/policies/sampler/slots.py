"""Slots: which rows share a sequence. Rows that have written the same tokens behind the same prefix are computed once, until what they draw differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.decoder import Decoder, Group, Ids


class Slots:
    """Rows 0..B-1 of a pool in slots 0..n-1 of a decoder, n <= B. A slot's next token is fed in the next step."""

    def __init__(self, decoder: Decoder, *, max_rows: int) -> None:
        self._decoder = decoder
        self._feed = np.zeros(max_rows, dtype=np.int64)
        self._length = np.zeros(max_rows, dtype=np.int64)  # positions that the decoder holds
        self.of_row = np.zeros(max_rows, dtype=np.int64)
        self.n = 0

    def open(self, first_row: int, sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        """Rows from `first_row` on hold these sequences, none of them empty. How many tokens were computed for each before its last one."""
        opened: dict[tuple[Group, Ids], int] = {}
        firsts: list[int] = []
        for offset, (group, ids) in enumerate(sequences):
            slot = opened.get((group, ids))
            if slot is None:
                slot = opened[group, ids] = self.n + len(opened)
                firsts.append(offset)
                self._feed[slot], self._length[slot] = ids[-1], len(ids) - 1
            self.of_row[first_row + offset] = slot
        counts = self._decoder.load(range(self.n, self.n + len(opened)), [(group, ids[:-1]) for group, ids in opened])
        self.n += len(opened)
        computed = [0] * len(sequences)
        for offset, count in zip(firsts, counts, strict=True):
            computed[offset] = count
        return computed

    def step(self, n_rows: int) -> Tensor:
        """Logits after every row's sequence, [B, V]."""
        logits = self._decoder.step(self._feed[: self.n], self._length[: self.n])
        self._length[: self.n] += 1
        of_row = self.of_row[:n_rows]
        if np.array_equal(of_row, np.arange(len(logits))):
            return logits
        return logits.index_select(0, torch.from_numpy(of_row).to(logits.device))

    def keep(self, row: int, group: Group, ids: Ids) -> None:
        """Remember the row's sequence: `ids`, all of which were fed."""
        self._decoder.keep(int(self.of_row[row]), group, ids)

    def settle(self, tokens: NDArray[np.int64]) -> None:
        """The rows that are left go on with `tokens` [B]: those of a slot that drew different ones part."""
        self._close(len(tokens))
        of_row = self.of_row[: len(tokens)]
        if not len(of_row):
            return
        _, firsts, group_of_row = np.unique(np.stack([of_row, tokens]), axis=1, return_index=True, return_inverse=True)
        of_group = of_row[firsts]
        parts = np.concatenate([[False], of_group[1:] == of_group[:-1]])  # the first group of every slot stays in it
        sources = of_group[parts]
        if len(sources):
            targets = np.arange(self.n, self.n + len(sources))
            self._decoder.fork(sources.tolist(), targets.tolist(), self._length[sources].tolist())
            self._length[targets] = self._length[sources]
            of_group[parts] = targets
            self.n += len(sources)
        of_row[:] = of_group[group_of_row.reshape(-1)]
        self._feed[of_group] = tokens[firsts]

    def _close(self, n_rows: int) -> None:
        """Free the slots that no row is in, by moving the last ones into them."""
        of_row = self.of_row[:n_rows]
        n_users = np.bincount(of_row, minlength=self.n)
        for slot in np.flatnonzero(n_users == 0)[::-1].tolist():
            last = self.n - 1
            if slot != last:
                self._decoder.move(last, slot, int(self._length[last]))
                self._length[slot] = self._length[last]
                of_row[of_row == last] = slot
            self.n -= 1
