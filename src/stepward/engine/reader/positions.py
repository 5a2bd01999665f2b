"""Positions that are rescaled when a sequence gets long: up to which length a prefix means the same in every sequence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any


def longest_static(config: Any) -> int:
    """Sequences of at most so many tokens all have the same positions; sys.maxsize where length does not matter."""
    config = config.get_text_config()
    limits = [_limit(rope, config) for rope in _ropes(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None))]
    return min([*limits, longest_pass(config)])


def longest_pass(config: Any) -> int:
    """Tokens of one pass at most; sys.maxsize where their number does not matter.

    Llama 4 scales queries by their index in what it reads, whatever position they are said to have, from the floor scale on.
    """
    config = config.get_text_config()
    return int(config.floor_scale) - 1 if getattr(config, "attn_temperature_tuning", False) and hasattr(config, "floor_scale") else sys.maxsize


def _ropes(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """Every set of rotary parameters; models whose layers differ have one a kind of layer."""
    if isinstance(parameters, Mapping):
        yield parameters
        for value in parameters.values():
            yield from _ropes(value)


def _limit(rope: Mapping[str, Any], config: Any) -> int:
    kind = rope.get("rope_type") or rope.get("type")
    if kind == "dynamic":
        return int(config.max_position_embeddings) - 1  # transformers forgets a longer sequence that it saw before in shorter ones than that only
    if kind in ("longrope", "su"):
        return int(rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings)
    return sys.maxsize
