"""Readout: hidden states at the positions that are read, and the two-class head on them in fp32. The one forward pass that scoring and training share.

Shapes: B sequences, L tokens (padded), N positions that are read, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stepward.core import InputError
from stepward.policies.sampler.weights import active_parameters, attention_flops

Ints = NDArray[np.int64]


class StepClassifier(nn.Module):
    """A transformers token classifier that computes its head only where a step is read, in fp32 whatever the backbone's dtype."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        head_of(model)
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits [N, 2] at ids[rows, columns]; ids [B, L], mask [B, L] with 1 for real tokens."""
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        picked = hidden[rows, columns]
        dropout = getattr(self.model, "dropout", None)
        if dropout is not None:
            picked = dropout(picked)
        head = head_of(self.model)
        with torch.autocast(picked.device.type, enabled=False):
            bias = None if head.bias is None else head.bias.float()
            return nn.functional.linear(picked.float(), head.weight.float(), bias)


def head_of(model: Any) -> nn.Linear:
    """The two-class linear layer of a token classifier.

    Raises: InputError for a model whose head is something else.
    """
    for name in ("score", "classifier"):
        head = getattr(model, name, None)
        if isinstance(head, nn.Linear) and head.out_features == 2:
            return head
    raise InputError(f"{type(model).__name__} has no linear head with two labels; a step classifier is a transformers ...ForTokenClassification model")


def padded(ids: Sequence[Ints], read: Sequence[Ints], *, pad: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids [B, L], mask [B, L], rows [N], columns [N] from the ids and read positions of B sequences.

    Padding is on the right, and the mask, not the padding id, says what is real. Positions come in order of sequence and step.
    """
    lengths = np.array([len(sequence) for sequence in ids])
    width = int(lengths.max())
    table = np.full((len(ids), width), pad, dtype=np.int64)
    for row, sequence in enumerate(ids):
        table[row, : len(sequence)] = sequence
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    rows = np.repeat(np.arange(len(ids)), [len(positions) for positions in read])
    return torch.from_numpy(table), torch.from_numpy(mask), torch.from_numpy(rows), torch.from_numpy(np.concatenate(read))


def n_flops(model: Any, n_tokens: int) -> int:
    """FLOPs of one forward pass over a sequence: 2 x parameters (without the input embedding) x tokens, plus attention."""
    return 2 * active_parameters(model) * n_tokens + attention_flops(model, 0, n_tokens)
