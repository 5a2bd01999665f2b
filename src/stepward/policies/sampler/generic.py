"""GenericPass: a forward pass through any transformers decoder that reads a key-value cache."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from stepward.policies.sampler.cache import RowCache
from stepward.policies.sampler.decoder import additive_mask


class GenericPass:
    """`model.forward` with our cache, explicit positions and ready-made masks (full and sliding-window attention)."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        window = getattr(config, "sliding_window", None)
        if getattr(config, "use_sliding_window", True) is False or config.model_type == "llama":  # whose class heeds no window, whatever is configured
            window = None
        if config.model_type == "mistral":  # nor kinds of layers
            kinds = set()
        self._window = window if window is not None and (not kinds or "sliding_attention" in kinds) else None
        self._mixed = self._window is not None and len(kinds) > 1
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}

    def __call__(self, ids: Tensor, positions: Tensor, visible: int, cache: RowCache) -> Tensor:
        dtype = self._model.dtype
        mask: Any = additive_mask(positions, visible, dtype, None if self._mixed else self._window)
        if self._mixed:
            mask = {"full_attention": mask, "sliding_attention": additive_mask(positions, visible, dtype, self._window)}
        output = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **self._extra)
        logits: Tensor = output.logits[:, -1]
        return logits.float()
