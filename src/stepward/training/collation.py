"""Collation: which rows form a batch, in an order that depends on (seed, epoch) only, and batches as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.rewards.readout import padded
from stepward.training.dataset import Row

_POOL = 32  # batches that are sorted by length together: enough to pad little, few enough to stay random


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of at most L tokens with N supervised steps in all."""

    ids: Tensor  # [B, L]
    mask: Tensor  # [B, L], 1 for real tokens
    rows: Tensor  # [N]
    columns: Tensor  # [N]
    target: Tensor  # [N]
    n_tokens: int  # real ones

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a StepClassifier reads."""
        return self.ids, self.mask, self.rows, self.columns

    def to(self, device: torch.device | str) -> Batch:
        ids, mask, rows, columns, target = (tensor.to(device, non_blocking=True) for tensor in (*self.inputs, self.target))
        return Batch(ids, mask, rows, columns, target, self.n_tokens)


def collate(rows: Sequence[Row], *, pad: int = 0) -> Batch:
    """Rows as tensors, padded on the right."""
    ids, mask, places, columns = padded([row.ids for row in rows], [row.read for row in rows], pad=pad)
    target = torch.from_numpy(np.concatenate([row.target for row in rows])).float()
    return Batch(ids, mask, places, columns, target, n_tokens=sum(map(len, rows)))


def epoch_batches(lengths: NDArray[np.int64], *, batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Every row index once, in batches of at most `batch_tokens` tokens with padding (a longer row goes alone), the same for the same (seed, epoch).

    Rows are shuffled, sorted by length within pools of about 32 batches, cut into batches, and the batches are shuffled.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool_size = max(1, int(_POOL * batch_tokens / max(1.0, float(lengths.mean()))))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        batches += cut(lengths, pool[np.argsort(-lengths[pool], kind="stable")], batch_tokens)
    return [batches[index] for index in random.permutation(len(batches))]


def cut(lengths: NDArray[np.int64], order: NDArray[np.int64], batch_tokens: int) -> list[list[int]]:
    """Consecutive runs of `order` (longest first) whose padded size stays within `batch_tokens`."""
    batches: list[list[int]] = []
    for index in order.tolist():
        if not batches or (len(batches[-1]) + 1) * int(lengths[batches[-1][0]]) > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
