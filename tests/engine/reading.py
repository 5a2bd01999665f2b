"""Parts for tests of the reader: tiny bodies, heads, token trees, and the naive reading that is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModel

from stepward.engine.reader.query import Query

VOCABULARY = 61
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {},
    "mistral": {"sliding_window": 7},
    "gemma2": {"head_dim": 8, "sliding_window": 5, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 11},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512},
    "qwen3": {"head_dim": 16},
    "phi3": {},
}


def tiny_body(model_type: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random decoder without head whose weights are large enough for attention to matter."""
    torch.manual_seed(11)
    config = AutoConfig.for_model(model_type, **{**TINY, **SETTINGS.get(model_type, {}), **changes})
    body = AutoModel.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, weight in body.named_parameters():
            if weight.dim() > 1 and "embed" not in name and "wte" not in name:
                weight.mul_(6)
            elif weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.3)
    return body


class ClassHead:
    """Two logits at every position."""

    shift, n_outputs = 0, 2

    def __init__(self, size: int = 32) -> None:
        self.weight = torch.randn(2, size, generator=torch.Generator().manual_seed(3))
        self.n_rows = 0

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self.n_rows += len(hidden)
        return hidden.float() @ self.weight.T


class LogprobHead:
    """The log-probability of the token itself, from the state before it."""

    shift, n_outputs = 1, 1

    def __init__(self, size: int = 32) -> None:
        self.weight = torch.randn(VOCABULARY, size, generator=torch.Generator().manual_seed(4))
        self.n_rows = 0

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:
        self.n_rows += len(hidden)
        return torch.log_softmax(hidden.float() @ self.weight.T, dim=-1).gather(1, targets[:, None])


@torch.no_grad()
def naive(body: Any, head: Any, queries: Sequence[Query]) -> list[NDArray[np.float64]]:
    """One sequence after the other through the body alone, one position after the other through the head."""
    values = []
    for query in queries:
        hidden = body(input_ids=torch.from_numpy(query.ids)[None]).last_hidden_state[0] if len(query.ids) else None
        rows = []
        for at in query.at.tolist():
            assert hidden is not None
            rows.append(head(hidden[at - head.shift][None], torch.from_numpy(query.ids[at : at + 1]))[0].double().numpy())
        values.append(np.array(rows).reshape(len(rows), head.n_outputs))
    return values


def n_distinct(queries: Sequence[Query]) -> int:
    """Prefixes that differ, counted one by one: what reading must cost at least."""
    prefixes = set()
    for query in queries:
        ids = tuple(query.ids.tolist())
        prefixes.update(ids[:length] for length in range(1, (int(query.at[-1]) + 1 if len(query.at) else 0) + 1))
    return len(prefixes)


def random_tree(seed: int, *, n_roots: int = 2, width: int = 3, depth: int = 3, longest: int = 9, vocabulary: int = VOCABULARY, shift: int = 0) -> list[Query]:
    """Sequences that branch from each other at random, some of them prefixes of others, read at random positions, shuffled."""
    rng = np.random.default_rng(seed)
    level = [rng.integers(0, vocabulary, rng.integers(2, 2 * longest)) for _ in range(n_roots)]
    every = list(level)
    for _ in range(depth):
        level = [np.concatenate([parent, rng.integers(0, vocabulary, rng.integers(1, longest))]) for parent in level for _ in range(rng.integers(1, width + 1))]
        every.extend(level)
    chosen = [every[index] for index in rng.permutation(len(every))]
    return [Query(ids, np.flatnonzero(rng.random(len(ids) - shift) < rng.choice([0.1, 0.5, 1.0])) + shift) for ids in chosen]
