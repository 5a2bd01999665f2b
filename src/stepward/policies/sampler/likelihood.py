"""Likelihood: what a causal language model says about given tokens, as log-probabilities and entropies. Which tokens those are is the policy's business."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stepward.engine.reader.padded import PaddedPass
from stepward.engine.reader.query import Query, Reading
from stepward.engine.reader.reader import Reader
from stepward.engine.reader.vocabulary import LogProb, read_logits
from stepward.policies.sampler.recompute import all_logits

LOGPROB, ENTROPY = 0, 1  # columns of a reading's values
_LOGITS_PER_PASS = 1 << 26  # numbers, where a model cannot be read without whole tables of logits
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-7}


class Likelihood(Protocol):
    """Readings [T, 2] of token sequences: at every position asked for (1 and up) the log-probability of its token and the entropy (nats) there."""

    def __call__(self, queries: Sequence[Query], /) -> list[Reading]: ...


def likelihood_of(model: Any, *, cache_bytes: int, max_batch_tokens: int) -> Likelihood:
    """A reader of the model's body with its output layer as head; of the model as a whole where these two do not make up the model, says a probe."""
    parts = _parts(model)
    if parts is not None:
        body, head = parts
        return Reader(body, head, cache_bytes=cache_bytes, max_batch_tokens=max_batch_tokens)
    n_vocabulary = int(model.config.get_text_config().vocab_size)
    tokens = max(1, min(max_batch_tokens, _LOGITS_PER_PASS // n_vocabulary))
    return PaddedPass(_WholeModel(model), _OfLogits(), max_batch_tokens=tokens, causal=True, ragged=True)


def _parts(model: Any) -> tuple[Any, LogProb] | None:
    """The model's body and the head that does what the model does behind it; None when there is no such pair."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters of peft sit inside the body
    body, output = getattr(inner, "base_model", inner), inner.get_output_embeddings()
    if body is inner or type(output) is not torch.nn.Linear:
        return None
    head = LogProb.of_config(inner.config, output.weight, output.bias, entropy=True)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, int(inner.config.get_text_config().vocab_size), 12)).to(model.device)
    with torch.inference_mode():
        [logits] = all_logits(model, [ids.tolist()], model.device)
        expected = read_logits(logits[:-1], ids[1:], entropy=True)
        try:
            found = head(body(input_ids=ids[None]).last_hidden_state[0, :-1], ids[1:])
        except Exception:  # whatever a foreign model's code raises when it is called in part
            return None
    tolerance = _TOLERANCE.get(model.dtype, 5e-2) * max(1.0, float(expected.abs().max()))
    return (body, head) if bool((found - expected).abs().max() <= tolerance) else None


class _WholeModel:
    """A model as a body whose hidden states are its logits."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def get_input_embeddings(self) -> Any:
        return self._model.get_input_embeddings()

    @torch.no_grad()
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self._model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits)

    __call__ = forward


class _OfLogits:
    """The head over `_WholeModel`."""

    n_outputs = 2
    shift = 1

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return read_logits(hidden.float(), targets, entropy=True)
