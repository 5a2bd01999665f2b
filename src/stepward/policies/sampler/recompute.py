"""RecomputeDecoder: for models that keep no key-value cache of the usual kind. Every step reads whole sequences; slow, and right for any causal model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.decoder import Group, Ids


class RecomputeDecoder:
    """Slots are lists of ids; a step is a right-padded forward pass over them."""

    def __init__(self, model: Any, *, device: torch.device) -> None:
        self._model, self._device = model, device
        self._slots: dict[int, list[int]] = {}

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        for slot, (_, ids) in zip(slots, sequences, strict=True):
            self._slots[slot] = list(ids)
        return [len(ids) for _, ids in sequences]

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        rows = []
        for slot, (token, position) in enumerate(zip(tokens.tolist(), positions.tolist(), strict=True)):
            row = self._slots[slot]
            del row[position:]
            row.append(token)
            rows.append(row)
        return torch.stack([logits[-1] for logits in all_logits(self._model, rows, self._device)])

    def move(self, source: int, target: int, length: int) -> None:
        self._slots[target] = self._slots[source][:length]

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        for source, target, length in zip(sources, targets, lengths, strict=True):
            self._slots[target] = self._slots[source][:length]

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        """Nothing is kept."""


def all_logits(model: Any, rows: Sequence[Sequence[int]], device: torch.device) -> list[Tensor]:
    """Logits after every token of every row, float32 [T, V] each, from one right-padded pass without a cache."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [logits[index, : len(row)].float() for index, row in enumerate(rows)]
