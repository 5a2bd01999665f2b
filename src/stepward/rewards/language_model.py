"""LanguageModel: a decoder and its output layer, read for the log-probability of given tokens. What is made of these numbers is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stepward.core import InputError, content_hash
from stepward.engine.reader.vocabulary import LogProb
from stepward.policies.sampler.weights import weights_fingerprint
from stepward.rewards.families.family import plain_name
from stepward.rewards.head_weights import OUTPUT_LAYERS
from stepward.rewards.loading import CheckpointFolder, Placement


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """`body`: a transformers decoder without its output layer, in evaluation mode; `fingerprint` names the weights of both."""

    body: Any
    head: LogProb
    fingerprint: str

    @classmethod
    def load(cls, checkpoint: CheckpointFolder, placement: Placement) -> LanguageModel:
        """The language model of a folder or hub id; an adapter is merged into its base.

        Raises: InputError when weights are missing, the output layer's among them.
        """
        body, weights = checkpoint.load(placement)
        text = checkpoint.config.get_text_config()
        plain = {plain_name(name): name for name in weights.names}
        tensors = [weights.tensor(plain[f"{layer}.{part}"]) for layer in OUTPUT_LAYERS for part in ("weight", "bias") if f"{layer}.{part}" in plain]
        embedding = body.get_input_embeddings().weight
        if not tensors:
            if not getattr(text, "tie_word_embeddings", False):
                raise InputError(
                    f"{checkpoint.source!r} lacks lm_head.weight, and log-probabilities need a language model's output layer; give a causal language model"
                )
            tensors = [embedding]
        head = LogProb.of_config(checkpoint.config, *(tensor.to(device=embedding.device, dtype=getattr(torch, placement.dtype)) for tensor in tensors))
        name = content_hash(weights_fingerprint(body, checkpoint.folder if checkpoint.adapter is None else None), str(placement.load_in))
        return cls(body, head, name)
