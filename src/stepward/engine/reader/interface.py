"""InterfaceForward: packed tokens through any transformers decoder whose attention and masks can be replaced by name.

The model computes everything but attention; that is ours, because only we know which tokens of the packed sequence belong together. While a pass runs, the
model's configuration names our functions; threads that use the same model meanwhile get what they would have got.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepward.engine.reader.attention import attend
from stepward.engine.reader.forward import Unsupported, costs_for
from stepward.engine.reader.linear import FastLinear
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.tiles import Piece, Rule, Tile, as_slice, tiles_of

_NAME = "stepward_packed"
_HARMLESS = frozenset(
    {"dropout", "sliding_window", "position_ids", "cache_position", "is_causal", "use_cache", "output_attentions", "layer_idx", "past_key_values"}
)


class InterfaceForward:
    """Raises Unsupported for bodies that take no positions or have no attention to replace; what else cannot work shows when the reader tries it."""

    form = "interface"

    def __init__(self, body: Any) -> None:
        if "position_ids" not in inspect.signature(body.forward).parameters:
            raise Unsupported(f"{type(body).__name__} takes no position ids")
        if len({parameter.device for parameter in body.parameters()}) > 1:
            raise Unsupported(f"the weights of {type(body).__name__} lie on several devices")
        kinds = getattr(body.config.get_text_config(), "layer_types", None) or ()
        if any("compressed" in str(kind) for kind in kinds):  # they do so by the hundred, which no probe is long enough to see
            raise Unsupported(f"{type(body).__name__} attends to many tokens as one")
        _register()
        self._body = body
        configs = [module.config for module in body.modules() if hasattr(getattr(module, "config", None), "get_text_config")]
        self._configs = list({id(each): each for config in configs for each in (config, config.get_text_config())}.values())
        self._device = body.get_input_embeddings().weight.device

    def compute(self, pieces: Sequence[Piece], pool: Pool) -> None:
        slots = np.concatenate([piece.slots for piece in pieces])
        ids = torch.from_numpy(np.concatenate([piece.node.ids[piece.offsets] for piece in pieces])).to(self._device)[None]
        positions = torch.from_numpy(np.concatenate([piece.positions for piece in pieces])).to(self._device)[None]
        where = as_slice(slots) or torch.from_numpy(slots).to(self._device)
        running = _Pass(pieces, where, pool)
        try:
            with _switched(self._configs), _active(running), FastLinear():
                # A mask of ones keeps the model from looking for packed sequences by itself.
                states = self._body(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state[0]
        except Unsupported:
            raise
        except Exception as error:
            if running.failed:
                raise
            raise Unsupported(f"{type(self._body).__name__} cannot read packed tokens ({type(error).__name__}: {error})") from error
        if not running.layers:
            raise Unsupported(f"{type(self._body).__name__} has no attention that can be replaced")
        pool.write_states(where, states)

    def hidden(self, pieces: Sequence[Piece], pool: Pool) -> Tensor:
        assert pool.states is not None
        return pool.states[torch.from_numpy(np.concatenate([piece.slots for piece in pieces])).to(self._device)]


class _Pass:
    """What our functions need to know while the model runs."""

    def __init__(self, pieces: Sequence[Piece], slots: Tensor | slice, pool: Pool) -> None:
        self._pieces, self._slots, self._pool = pieces, slots, pool
        self._n_tokens = sum(map(len, pieces))
        self._rules: dict[int, tuple[Tensor, Rule | None]] = {}  # by the memory of the placeholder that the model carries in place of a mask
        self._tiles: dict[int, list[Tile]] = {}
        self.layers: set[int] = set()
        self.failed = False

    def mask(self, mask_function: Callable[..., Any], device: Any) -> Tensor:
        """A placeholder for a mask that the model asks for, of its shape but without memory."""
        from transformers.masking_utils import causal_mask_function

        placeholder = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device).expand(1, 1, self._n_tokens, self._n_tokens)
        self._rules[_memory(placeholder)] = (placeholder, None if mask_function is causal_mask_function else _as_rule(mask_function))
        return placeholder

    def attend(self, module: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, options: dict[str, Any]) -> tuple[Tensor, None]:
        """In place of the model's attention: [1, heads, N, size] in, [1, N, heads, size] out."""
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or layer in self.layers:
            raise Unsupported(f"{type(module).__name__} does not say which layer it is, or attends more than once")
        if queries.shape[0] != 1 or not queries.shape[2] == keys.shape[2] == values.shape[2] == self._n_tokens:
            raise Unsupported(f"{type(module).__name__} attends to other than its own tokens")
        if mask is not None and (_memory(mask) not in self._rules or mask.shape[-2:] != (self._n_tokens, self._n_tokens)):
            raise Unsupported(f"{type(module).__name__} changes its mask")
        if mask is None and not getattr(module, "is_causal", True):
            raise Unsupported(f"{type(module).__name__} is not causal")
        softcap, sinks, scale = options.pop("softcap", None), options.pop("s_aux", None), options.pop("scaling", None)
        unknown = sorted(name for name, value in options.items() if name not in _HARMLESS and value is not None and value is not False)
        if unknown:
            raise Unsupported(f"{type(module).__name__} gives its attention {', '.join(unknown)}")
        self.layers.add(layer)
        try:
            self._pool.write(layer, self._slots, keys[0], values[0])
            tiles = self._tiles_for(mask, queries, keys)
            scale = queries.shape[3] ** -0.5 if scale is None else scale
            out = attend(tiles, queries[0].transpose(0, 1), *self._pool.layers[layer], scale=float(scale), softcap=softcap, sinks=sinks)
        except Unsupported:
            raise
        except Exception:
            self.failed = True
            raise
        return out[None], None

    def _tiles_for(self, mask: Tensor | None, queries: Tensor, keys: Tensor) -> list[Tile]:
        key = 0 if mask is None else _memory(mask)
        rule = None if mask is None else self._rules[key][1]
        key = 0 if rule is None else key
        if key not in self._tiles:
            device = queries.device
            costs = costs_for(device, heads=queries.shape[1], shared_heads=keys.shape[1], size=queries.shape[3])
            self._tiles[key] = tiles_of(self._pieces, costs=costs, rule=rule, dtype=queries.dtype, device=device)
        return self._tiles[key]


def _memory(mask: Tensor) -> int:
    """The same for a tensor and for views of it."""
    return mask.untyped_storage().data_ptr()


def _as_rule(mask_function: Callable[..., Any]) -> Rule:
    def rule(query: Tensor, key: Tensor) -> Tensor:
        none = torch.zeros(1, 1, dtype=torch.long)
        try:
            seen = mask_function(none, none, query, key)
        except Exception as error:
            raise Unsupported(f"a mask of the model is no function of positions ({type(error).__name__}: {error})") from error
        return torch.as_tensor(seen)

    return rule


_running = threading.local()
_lock = threading.Lock()
_borrowed: dict[int, tuple[Any, str, int]] = {}  # configurations that name our functions: (configuration, what it named before, users), by identity


@contextmanager
def _active(running: _Pass) -> Iterator[None]:
    _running.now = running
    try:
        yield
    finally:
        _running.now = None


@contextmanager
def _switched(configs: Sequence[Any]) -> Iterator[None]:
    with _lock:
        for config in configs:
            _, original, users = _borrowed.get(id(config), (config, config._attn_implementation, 0))
            _borrowed[id(config)] = (config, original, users + 1)
            _rename(config, _NAME)
    try:
        yield
    finally:
        with _lock:
            for config in configs:
                _, original, users = _borrowed.pop(id(config))
                if users > 1:
                    _borrowed[id(config)] = (config, original, users - 1)
                else:
                    _rename(config, original)


def _rename(config: Any, name: str) -> None:
    """In this configuration alone: the public property would do it to the configurations inside as well."""
    config._attn_implementation_internal = name


def _original(config: Any) -> str:
    with _lock:
        borrowed = _borrowed.get(id(config))
    return borrowed[1] if borrowed is not None else str(config._attn_implementation)


def _attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any) -> tuple[Tensor, Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    running: _Pass | None = getattr(_running, "now", None)
    if running is not None:
        return running.attend(module, query, key, value, attention_mask, options)
    name = _original(module.config)
    theirs = sys.modules[type(module).__module__].eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
    result: tuple[Tensor, Any] = theirs(module, query, key, value, attention_mask, **options)
    return result


def _mask(*args: Any, **options: Any) -> Any:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    running: _Pass | None = getattr(_running, "now", None)
    if running is not None:
        return running.mask(options["mask_function"], options.get("device"))
    return ALL_MASK_ATTENTION_FUNCTIONS[_original(options["config"])](*args, **options)


def _register() -> None:
    try:
        from transformers.masking_utils import AttentionMaskInterface
        from transformers.modeling_utils import AttentionInterface
    except ImportError as error:
        raise Unsupported("this version of transformers has no attention interface") from error
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)
