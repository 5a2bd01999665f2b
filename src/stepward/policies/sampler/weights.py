"""What a model is: a hash of its weights, its parameter count and its compute per token."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from stepward.core import content_hash

_VOLATILE = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


def weights_fingerprint(model: Any, folder: Path | None) -> str:
    """Hash of configuration, weights and number format; of the files where there is a folder of them, else of the tensors. Where it lies does not count."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _VOLATILE}
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]) if folder is not None else []
    if files:
        hashes = [_file_hash(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    else:
        hashes = [content_hash(name, str(tensor.dtype), str(tuple(tensor.shape)), _raw(tensor)) for name, tensor in sorted(model.state_dict().items())]
    return content_hash("weights", json.dumps(config, sort_keys=True, default=str), str(model.dtype), *hashes)


def active_parameters(model: Any) -> int:
    """Parameters that every token is multiplied with: all but the input embedding; a tied embedding counts once, as the output layer."""
    total = sum(weights.numel() for weights in model.parameters())
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tied = outputs is not None and inputs is not None and inputs.weight is outputs.weight
    return int(total if tied or inputs is None else total - inputs.weight.numel())


class Flops:
    """`flops(start, end)`: floating-point operations for positions start..end-1 of a sequence, 2 x active parameters each and attention."""

    def __init__(self, model: Any) -> None:
        self._per_token = 2 * active_parameters(model)
        self._per_pair = _per_pair(model)  # read once: configurations answer slowly

    def __call__(self, start: int, end: int) -> int:
        return self._per_token * (end - start) + self._per_pair * _pairs(start, end)


def attention_flops(model: Any, start: int, end: int) -> int:
    """Floating-point operations of attention for positions start..end-1: 4 x layers x heads x head size x context, each position reading itself too.

    0 where the configuration has no attention heads (state-space and recurrent models). Where layers differ in their head size, hidden size / heads
    stands for it.
    """
    return _per_pair(model) * _pairs(start, end)


def _pairs(start: int, end: int) -> int:
    """Positions that start..end-1 read, their own included."""
    return (end * (end + 1) - start * (start + 1)) // 2


def _per_pair(model: Any) -> int:
    config = model.config.get_text_config()
    heads, layers, hidden = (_number(config, name) for name in ("num_attention_heads", "num_hidden_layers", "hidden_size"))
    size = _number(config, "head_dim") or (hidden // heads if heads else 0)
    return 4 * layers * heads * size


def _number(config: Any, name: str) -> int:
    """A whole number of the configuration; 0 where it has none, or one a layer."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # transformers refuses a name that is different in every layer
        return 0
    return int(value) if isinstance(value, int) else 0


def context_length(model: Any) -> int | None:
    """Positions that the model was made for; None where it says nothing."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


@lru_cache(maxsize=256)
def _file_hash(path: str, _size: int, _mtime_ns: int) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
