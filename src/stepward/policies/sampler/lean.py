"""LeanPass: a forward pass for small Llama and Qwen2 models without the per-module overhead that dominates at their size.

Not a model of its own: it reads the weights of a transformers model, and `choose_decoder` uses it only where it gives the same logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from stepward.engine.reader.linear import linear, linear_add
from stepward.policies.sampler.blocks import Blocks
from stepward.policies.sampler.cache import RowCache
from stepward.policies.sampler.decoder import additive_mask

# (layer, queries [B, heads, T, size], keys and values [B, shared heads, T, size]) -> [B, heads, T, size]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})


def is_lean(model: Any) -> bool:
    """Whether the architecture is one that `LeanPass` writes out: Llama or Qwen2 blocks, SiLU, full attention, static rotary positions, plain weights."""
    config = model.config
    rope = getattr(model.model, "rotary_emb", None) if hasattr(model, "model") else None
    return (
        config.model_type in ("llama", "qwen2")
        and config.hidden_act == "silu"
        and getattr(rope, "rope_type", "") in _STATIC_ROPE
        and not getattr(model, "is_quantized", False)
        and set(getattr(config, "layer_types", None) or ("full_attention",)) == {"full_attention"}
    )


def _turned(weight: Tensor) -> Tensor:
    """The same matrix, in fp32 on a processor stored column by column: products with few rows read it faster like this."""
    return weight.t().contiguous().t() if weight.device.type == "cpu" and weight.dtype == torch.float32 else weight


class _Layer:
    """Fused weights of one block, as they are now: a model that is trained on needs a new decoder."""

    def __init__(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = _turned(torch.cat([projection.weight for projection in projections]))
        self.qkv_bias = None if attention.q_proj.bias is None else torch.cat([projection.bias for projection in projections])
        self.out, self.out_bias = _turned(attention.o_proj.weight), attention.o_proj.bias
        self.gate_up = _turned(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
        self.gate_up_bias = None if mlp.gate_proj.bias is None else torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias])
        self.down, self.down_bias = _turned(mlp.down_proj.weight), mlp.down_proj.bias
        self.norm_in, self.norm_mid = block.input_layernorm.weight, block.post_attention_layernorm.weight


class LeanPass:
    """The Llama block written out: fused projections, rotary tables made once, grouped heads read without copies."""

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        config, body = model.config, model.model
        self._layers = [_Layer(block) for block in body.layers]
        self._embedding, self._norm = body.embed_tokens.weight, body.norm.weight
        self._head, self._head_bias = model.lm_head.weight, model.lm_head.bias
        self._n_heads, self._n_shared = config.num_attention_heads, config.num_key_value_heads
        self._size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps = config.rms_norm_eps
        self._rotary = body.rotary_emb
        self._cos = self._sin = torch.zeros(0)

    def new_blocks(self, device: torch.device) -> Blocks:
        """Blocks for states of this model's shape."""
        return Blocks(layers=len(self._layers), heads=self._n_shared, size=self._size, dtype=self._embedding.dtype, device=device)

    def __call__(self, ids: Tensor, positions: Tensor, visible: int, cache: RowCache) -> Tensor:
        """The pass over a RowCache, as `CachedDecoder` wants it."""
        mask = additive_mask(positions, visible, self._embedding.dtype)
        grouped = self._n_heads // self._n_shared

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            keys, values = (states.repeat_interleave(grouped, dim=1) if grouped > 1 else states for states in cache.update(keys, values, layer))
            return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

        return self.run(ids, positions, visible, attend)

    def run(self, ids: Tensor, positions: Tensor, visible: int, attend: Attend) -> Tensor:
        """Logits [B, V] after the last column of ids [B, T] at `positions` below `visible`; `attend` keeps keys and values."""
        n_rows, n_new = ids.shape
        x = functional.embedding(ids, self._embedding)
        if visible > len(self._cos):
            self._make_tables(max(256, 2 * visible), x)
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        n_heads, n_shared, size = self._n_heads, self._n_shared, self._size
        half = size // 2
        for index, layer in enumerate(self._layers):
            h = self._normed(x, layer.norm_in)
            qkv = linear(h, layer.qkv, layer.qkv_bias).view(n_rows, n_new, n_heads + 2 * n_shared, size).transpose(1, 2)
            turning = qkv[:, : n_heads + n_shared]
            turned = turning * cos
            turned[..., :half] -= turning[..., half:] * sin[..., :half]
            turned[..., half:] += turning[..., :half] * sin[..., half:]
            attended = attend(index, turned[:, :n_heads], turned[:, n_heads:], qkv[:, n_heads + n_shared :])
            attended = attended.transpose(1, 2).reshape(n_rows, n_new, n_heads * size)
            x = linear_add(attended, layer.out, layer.out_bias, x)
            gate, up = linear(self._normed(x, layer.norm_mid), layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            x = linear_add(functional.silu(gate).mul_(up), layer.down, layer.down_bias, x)
        return linear(self._normed(x[:, -1], self._norm), self._head, self._head_bias).float()

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return functional.rms_norm(x, weight.shape, weight, self._eps)
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(self._eps).rsqrt_()  # passes over x less often
        return torch.mul(x, inverse).mul_(weight)

    def _make_tables(self, length: int, like: Tensor) -> None:
        cos, sin = self._rotary(like, torch.arange(length, device=like.device)[None])
        self._cos, self._sin = cos[0].to(like.dtype), sin[0].to(like.dtype)
