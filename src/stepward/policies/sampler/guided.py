"""GuidedDecoder: several models over the same tokens as one decoder, whose logits are those of the first, moved by what the others say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.policies.sampler.decoder import Decoder, Group, Ids


def guided_logits(base: Tensor, personal: Tensor, reference: Tensor, *, top_k: int, weight: float) -> Tensor:
    """base_v + weight (log softmax_K(personal)_v - log softmax_K(reference)_v) for the set K of the top_k largest base logits, -inf elsewhere.

    All of [B, V], V the smallest of their vocabularies (padding differs); softmax_K is over K alone. weight 0 keeps the base's order; with base = reference
    and weight 1 it is the personal model's order on K.
    """
    n = min(logits.shape[-1] for logits in (base, personal, reference))
    base, personal, reference = base[:, :n].float(), personal[:, :n].float(), reference[:, :n].float()
    values, places = base.topk(min(top_k, n), dim=-1)
    reward = personal.gather(-1, places).log_softmax(-1) - reference.gather(-1, places).log_softmax(-1)
    return torch.full_like(base, -torch.inf).scatter_(-1, places, values + weight * reward)


class GuidedDecoder:
    """`reference` None: the base stands for it, and is read once."""

    def __init__(self, base: Decoder, personal: Decoder, reference: Decoder | None, *, top_k: int, weight: float) -> None:
        self._decoders = [base, personal, *([] if reference is None else [reference])]
        self._top_k, self._weight = top_k, weight

    def load(self, slots: Sequence[int], sequences: Sequence[tuple[Group, Ids]]) -> list[int]:
        counts = [decoder.load(slots, sequences) for decoder in self._decoders]
        return counts[0]  # the others remember the same sequences; what they read is counted by who knows that they are there

    def step(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        logits = [decoder.step(tokens, positions) for decoder in self._decoders]
        return guided_logits(logits[0], logits[1], logits[-1] if len(logits) == 3 else logits[0], top_k=self._top_k, weight=self._weight)

    def move(self, source: int, target: int, length: int) -> None:
        for decoder in self._decoders:
            decoder.move(source, target, length)

    def fork(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        for decoder in self._decoders:
            decoder.fork(sources, targets, lengths)

    def keep(self, slot: int, group: Group, ids: Ids) -> None:
        for decoder in self._decoders:
            decoder.keep(slot, group, ids)
