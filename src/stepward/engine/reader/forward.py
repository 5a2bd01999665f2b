"""Forward: how new tokens of a prefix tree go through a body. Implementations: `lean` (blocks written out) and `interface` (any transformers decoder)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from stepward.engine.reader.pool import Pool
from stepward.engine.reader.tiles import Costs, Piece

_CPU_PASS = 2048  # tokens of a pass that keep a processor busy; the activations of many more would leave its cache


class Unsupported(Exception):
    """The body cannot run in this way; the message says why."""


class Forward(Protocol):
    """Both methods take depth-first pieces whose slots are assigned and whose ancestors have been computed, or come first among the pieces."""

    form: str  # whose code it is, for people

    def compute(self, pieces: Sequence[Piece], pool: Pool) -> None:
        """Fill the slots of the pieces' tokens."""
        ...

    def hidden(self, pieces: Sequence[Piece], pool: Pool) -> Tensor:
        """[M, H] final-normed hidden states of the pieces' tokens, which were computed before."""
        ...


def tokens_of_a_pass(max_batch_tokens: int, device: torch.device) -> int:
    """As many as asked for on an accelerator, at most as many as are of use on a processor."""
    return min(max_batch_tokens, _CPU_PASS) if device.type == "cpu" else max_batch_tokens


def costs_for(device: torch.device, *, heads: int, shared_heads: int, size: int) -> Costs:
    """How to cut tiles, from rough rates: 60 us a tile and 200 GFLOP/s on a processor, 80 us and 100 TFLOP/s on an accelerator."""
    flops, grain, score_bytes = (12e6, 128, 1 << 23) if device.type == "cpu" else (8e9, 512, 1 << 30)
    return Costs(overhead=max(1, int(flops / (4 * heads * size))), grain=grain, largest=score_bytes * shared_heads // (4 * heads))
