"""Which decoder serves a model: the fastest of ours that gives the model's own logits on a probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stepward.policies.sampler.decoder import CachedDecoder, Decoder
from stepward.policies.sampler.generic import GenericPass
from stepward.policies.sampler.lean import LeanPass, is_lean
from stepward.policies.sampler.recompute import RecomputeDecoder, all_logits
from stepward.policies.sampler.shared import SharedDecoder

_LEAN_PARAMETERS = 1 << 26  # above this the arithmetic dominates and fused copies of the weights would only cost memory
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


def choose_decoder(model: Any, *, prefix_bytes: int, prefill_tokens: int | None) -> Decoder:
    """The first of these that agrees with the model on a probe.

    A lean pass with shared prefixes (small Llama-like models), a generic pass with our cache, recomputation.
    """
    device = model.device
    candidates: list[Callable[[], Decoder]] = []
    if is_lean(model) and sum(weights.numel() for weights in model.parameters()) <= _LEAN_PARAMETERS:
        candidates.append(lambda: SharedDecoder(LeanPass(model), device=device, prefix_bytes=prefix_bytes, prefill_tokens=prefill_tokens))
    candidates.append(lambda: CachedDecoder(GenericPass(model), device=device, prefix_bytes=prefix_bytes, prefill_tokens=prefill_tokens))
    with torch.inference_mode():
        for make in candidates:
            if agrees(make(), model):
                return make()
    return RecomputeDecoder(model, device=device)


def agrees(decoder: Decoder, model: Any) -> bool:
    """Whether the decoder gives the model's own next-token logits on two overlapping sequences of different lengths."""
    n_vocabulary = int(model.config.get_text_config().vocab_size)
    sequence = [int(token) for token in np.random.default_rng(0).integers(0, n_vocabulary, 12)]
    rows = [sequence[:9], [*sequence[:4], sequence[5], sequence[4]]]
    expected = all_logits(model, rows, model.device)
    scale = max(float(logits.abs().max()) for logits in expected) or 1.0
    tolerance = _TOLERANCE.get(model.dtype, 5e-2) * scale
    fed = [len(row) - 3 for row in rows]
    try:
        decoder.load([0, 1], [((0,), tuple(row[:n])) for row, n in zip(rows, fed, strict=True)])
        for offset in range(3):
            positions = np.array([n + offset for n in fed])
            logits = decoder.step(np.array([row[at] for row, at in zip(rows, positions, strict=True)]), positions)
            for row, at in enumerate(positions):
                if not bool((logits[row] - expected[row][at]).abs().max() <= tolerance):
                    return False
    except Exception:  # whatever a foreign model's code raises on a cache that it does not know
        return False
    return True
