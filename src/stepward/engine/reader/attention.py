"""Attention of a pass: queries of all tiles against the keys and values of a pool. How tiles are cut lives in `tiles`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from stepward.engine.reader.linear import linear
from stepward.engine.reader.tiles import Tile

_SMALL = 1 << 15  # scores of a tile and head, up to which all heads are computed together


def attend(
    tiles: Sequence[Tile], queries: Tensor, keys: Tensor, values: Tensor, *, scale: float, softcap: float | None = None, sinks: Tensor | None = None
) -> Tensor:
    """softmax(scale q k + mask) v, [N, heads, value size].

    Queries [N, heads, size]; keys [shared heads, capacity, size] and values [shared heads, capacity, value size], each shared head read by
    heads / shared heads neighbouring heads without a copy. `softcap` c turns a score s into c tanh(s / c); `sinks` [heads] are scores of a key without a
    value. fp32 throughout on a processor, where 16 bits would be slower; elsewhere torch's scaled dot product where it can do what is asked.
    """
    n_rows, n_heads, size = queries.shape
    n_shared, value_size = keys.shape[0], values.shape[2]
    grouped = n_heads // n_shared
    by_head = queries.reshape(n_rows, n_shared, grouped, size)
    out = queries.new_empty(n_rows, n_shared, grouped, value_size)
    fused = softcap is None and sinks is None and size == value_size and _has_fused(queries)
    for tile in tiles:
        tile_keys, tile_values = _pick(keys, tile.keys), _pick(values, tile.keys)
        tile_queries = by_head[tile.rows].permute(1, 2, 0, 3)  # [shared, grouped, n, size]
        target = out[tile.rows].permute(1, 2, 0, 3)
        if fused:
            shared_keys, shared_values = (states[:, None].expand(-1, grouped, -1, -1) for states in (tile_keys, tile_values))
            target.copy_(functional.scaled_dot_product_attention(tile_queries, shared_keys, shared_values, attn_mask=tile.full_mask, scale=scale))
        else:
            _explicit(tile, tile_queries, tile_keys, tile_values, target, scale=scale, softcap=softcap, sinks=sinks)
    return out.view(n_rows, n_heads, value_size)


def _has_fused(queries: Tensor) -> bool:
    return queries.device.type != "cpu"  # there, two products and a softmax are faster


def _pick(states: Tensor, slots: Tensor | slice) -> Tensor:
    return states[:, slots] if isinstance(slots, slice) else states.index_select(1, slots)


def _explicit(tile: Tile, queries: Tensor, keys: Tensor, values: Tensor, target: Tensor, *, scale: float, softcap: float | None, sinks: Tensor | None) -> None:
    """Two products and a softmax: of all shared heads together where that is little work, else one after the other, as scores then stay in the processor's
    cache and fp32 products are fastest as `linear`."""
    n_shared, grouped, n_rows, size = queries.shape
    compute = torch.promote_types(queries.dtype, torch.float32)
    small = grouped * n_rows * tile.n_keys <= _SMALL
    product = _together if small else _alone
    n_heads = n_shared if small else 1
    for first in range(0, n_shared, n_heads):
        heads = slice(first, first + n_heads)
        scaled = torch.empty(n_heads, grouped, n_rows, size, dtype=compute, device=queries.device)
        torch.mul(queries[heads].to(compute), scale, out=scaled)
        scores = product(scaled.view(n_heads, grouped * n_rows, size), keys[heads].to(compute))
        if softcap is not None:
            scores = scores.div_(softcap).tanh_().mul_(softcap)
        by_row = scores.view(n_heads, grouped, n_rows, tile.n_keys)
        if tile.mask is not None:
            by_row[..., tile.n_open :].add_(tile.mask)
        if sinks is None:
            weights = torch.softmax(scores, dim=-1)
        else:
            sink = sinks.view(n_shared, grouped)[heads][:, :, None, None].to(compute).expand(n_heads, grouped, n_rows, 1)
            weights = torch.softmax(torch.cat([by_row, sink], dim=-1), dim=-1)[..., :-1].reshape(n_heads, grouped * n_rows, tile.n_keys)
        target[heads] = product(weights, values[heads].to(compute).transpose(1, 2)).view(n_heads, grouped, n_rows, -1)


def _together(a: Tensor, b: Tensor) -> Tensor:
    """a [H, N, K] times b [H, M, K] transposed. Nothing is made ready for a shape first, which costs `linear` more than a small product itself."""
    return torch.bmm(a, b.transpose(1, 2))


def _alone(a: Tensor, b: Tensor) -> Tensor:
    """The same for H = 1."""
    return linear(a[0], b[0])[None]
