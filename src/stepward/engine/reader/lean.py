"""LeanForward: Llama-like blocks written out over packed tokens, without the per-module overhead of a model class. It reads the body's own weights.

The last block runs for the positions that are read only: other tokens need no more of it than their keys and values. So the pool's states are inputs of
the last block here, and every final hidden state can be had later without computing a token again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from stepward.engine.reader.attention import attend
from stepward.engine.reader.forward import Unsupported, costs_for
from stepward.engine.reader.linear import linear, linear_add
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.tiles import Piece, Tile, as_slice, tiles_of

_MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
_MLP_BYTES = 12 << 20  # of one intermediate tensor of the feed-forward part on a processor: its cache holds a few of them


class _Plan:
    """What all layers share: where the tokens lie, their rotary factors, and their tiles by window."""

    def __init__(self, pieces: Sequence[Piece], forward: LeanForward) -> None:
        self._pieces, self._forward = pieces, forward
        device = forward.device
        slots = np.concatenate([piece.slots for piece in pieces])
        positions = np.concatenate([piece.positions for piece in pieces])
        self.ids = torch.from_numpy(np.concatenate([piece.node.ids[piece.offsets] for piece in pieces])).to(device)
        self.slots = as_slice(slots) or torch.from_numpy(slots).to(device)
        self.length = int(positions.max()) + 1
        self.cos, self.sin = forward.rotary_factors(torch.from_numpy(positions).to(device), self.length)
        self._tiles: dict[int | None, list[Tile]] = {}

    def tiles(self, window: int | None) -> list[Tile]:
        window = window if window is not None and window < self.length else None
        if window not in self._tiles:
            forward = self._forward
            rule = None if window is None else lambda query, key: (key <= query) & (key > query - window)
            self._tiles[window] = tiles_of(self._pieces, costs=forward.costs, rule=rule, dtype=forward.dtype, device=forward.device)
        return self._tiles[window]


class LeanForward:
    """Raises Unsupported for bodies that are not exactly such blocks: Llama, Mistral, Qwen2, Qwen3 with SiLU, static rotary positions and plain weights."""

    form = "lean"

    def __init__(self, body: Any) -> None:
        config = body.config
        rope: Any = getattr(body, "rotary_emb", None)
        if config.model_type not in _MODEL_TYPES:
            raise Unsupported(f"no lean form of {config.model_type}")
        if config.hidden_act != "silu" or getattr(rope, "rope_type", "") not in _STATIC_ROPE:
            raise Unsupported("no lean form of this activation or these positions")
        self._body, self._blocks, self._rotary = body, list(body.layers), rope
        if not all(type(module) is torch.nn.Linear for block in self._blocks for module in _linears(block)):
            raise Unsupported("no lean form of adapted or quantized weights")
        if not self._blocks or len({parameter.device for parameter in body.parameters()}) > 1:
            raise Unsupported("no lean form of a body on several devices")
        weight = body.embed_tokens.weight
        self.device, self.dtype = weight.device, weight.dtype
        self._n_heads, self._n_shared = config.num_attention_heads, config.num_key_value_heads
        self._size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps = config.rms_norm_eps
        self.costs = costs_for(self.device, heads=self._n_heads, shared_heads=self._n_shared, size=self._size)
        self._windows = _windows(config, len(self._blocks))
        self._chunk = max(1, _MLP_BYTES // (config.intermediate_size * weight.element_size())) if self.device.type == "cpu" else 1 << 62
        self._cos = self._sin = torch.zeros(0, device=self.device)

    def compute(self, pieces: Sequence[Piece], pool: Pool) -> None:
        plan = _Plan(pieces, self)
        x = functional.embedding(plan.ids, self._body.embed_tokens.weight)
        last = len(self._blocks) - 1
        for index, block in enumerate(self._blocks):
            h = self._norm(x, block.input_layernorm.weight)
            keys = linear(h, block.self_attn.k_proj.weight, block.self_attn.k_proj.bias).view(-1, self._n_shared, self._size)
            values = linear(h, block.self_attn.v_proj.weight, block.self_attn.v_proj.bias).view(-1, self._n_shared, self._size)
            keys = _turn(self._head_norm(keys, block.self_attn, "k_norm"), plan.cos, plan.sin)
            pool.write(index, plan.slots, keys.transpose(0, 1), values.transpose(0, 1))
            if index < last:
                x = self._mix(index, x, h, plan, pool)
        pool.write_states(plan.slots, x)

    def hidden(self, pieces: Sequence[Piece], pool: Pool) -> Tensor:
        plan = _Plan(pieces, self)
        assert pool.states is not None
        x = pool.states[plan.slots]
        last = len(self._blocks) - 1
        x = self._mix(last, x, self._norm(x, self._blocks[last].input_layernorm.weight), plan, pool)
        return self._norm(x, self._body.norm.weight)

    def _mix(self, index: int, x: Tensor, h: Tensor, plan: _Plan, pool: Pool) -> Tensor:
        """The block for tokens whose keys and values are in the pool, from its input x and that input's norm h (both [N, H])."""
        block = self._blocks[index]
        attention, mlp = block.self_attn, block.mlp
        queries = linear(h, attention.q_proj.weight, attention.q_proj.bias).view(-1, self._n_heads, self._size)
        queries = _turn(self._head_norm(queries, attention, "q_norm"), plan.cos, plan.sin)
        mixed = attend(plan.tiles(self._windows[index]), queries, *pool.layers[index], scale=self._size**-0.5)
        x = linear_add(mixed.flatten(1), attention.o_proj.weight, attention.o_proj.bias, x)
        parts = []
        for part in x.tensor_split(-(-len(x) // self._chunk)):
            h = self._norm(part, block.post_attention_layernorm.weight)
            gate = functional.silu(linear(h, mlp.gate_proj.weight, mlp.gate_proj.bias), inplace=True)
            gate.mul_(linear(h, mlp.up_proj.weight, mlp.up_proj.bias))
            parts.append(linear_add(gate, mlp.down_proj.weight, mlp.down_proj.bias, part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return functional.rms_norm(x, weight.shape, weight, self._eps)
        exact = torch.promote_types(x.dtype, torch.float32)  # rms_norm passes over the tensor several times more
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact).square_().div_(x.shape[-1]).add_(self._eps).rsqrt_()
        return torch.mul(x, inverse).to(x.dtype).mul_(weight)

    def _head_norm(self, x: Tensor, attention: Any, name: str) -> Tensor:
        norm = getattr(attention, name, None)
        return x if norm is None else self._norm(x, norm.weight)

    def rotary_factors(self, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [N, 1, size] at positions below `length`, from tables that are made once."""
        if length > len(self._cos):
            like = torch.zeros(1, dtype=self.dtype, device=self.device)
            cos, sin = self._rotary(like, torch.arange(max(1024, 2 * length), device=self.device)[None])
            self._cos, self._sin = cos[0].to(self.dtype), sin[0].to(self.dtype)
        return self._cos[positions][:, None], self._sin[positions][:, None]


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: x [N, heads, size] with halves (a, b) becomes (a cos - b sin, b cos + a sin)."""
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned


def _windows(config: Any, n_blocks: int) -> list[int | None]:
    """Every block's sliding window, as the model's own class has it: configurations may hold more settings than their class heeds."""
    if config.model_type == "llama":
        return [None] * n_blocks
    if config.model_type == "mistral":
        return [config.sliding_window] * n_blocks
    window = config.sliding_window if getattr(config, "use_sliding_window", True) else None
    return [window if kind == "sliding_attention" else None for kind in config.layer_types]


def _linears(block: Any) -> list[Any]:
    attention, mlp = block.self_attn, block.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
