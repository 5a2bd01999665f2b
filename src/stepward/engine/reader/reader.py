"""Reader: queries in, readings out. How tokens go through the model lives in `packed` (each distinct token once) and `padded` (bodies that cannot share)."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stepward.core.errors import InputError
from stepward.engine.reader.forward import tokens_of_a_pass
from stepward.engine.reader.head import Head
from stepward.engine.reader.packed import PackedPass
from stepward.engine.reader.padded import PaddedPass
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.positions import longest_static
from stepward.engine.reader.probe import Padded, probe
from stepward.engine.reader.query import Query, Reading

logger = logging.getLogger(__name__)


class Reader:
    """Reads token sequences with a transformer at the cost of their distinct tokens, within a call and across calls.

    `body` is a transformers decoder without its language-model head (`AutoModel`, or a model's `base_model`), in evaluation mode, whose
    `last_hidden_state` is final-normed; the reader never changes it. `cache_bytes` bounds the memory that keeps what calls computed for later ones (0: share
    within a call only); `max_batch_tokens` bounds the tokens of one forward pass. Results do not depend on either, nor on the order or the company of the
    queries, floating-point ties aside. While a call runs it may use more memory than `cache_bytes`: up to that of its longest query and one pass.

    Safe to call from many threads; calls take turns. When the weights change in place the cache is dropped by itself, unless they were changed through
    `.data`: call `clear()` then.

    `path` says what runs: "packed", or "padded" where the body cannot share prefixes (a warning in the log names the reason, `reason` keeps it). Sequences
    so long that their positions are rescaled (dynamic and LongRoPE models) are read padded in any case. `form` says whose code runs: "lean" (blocks written
    out here), "interface" (the model's with attention from here) or "plain" (the model's).
    """

    def __init__(self, body: Any, head: Head, *, cache_bytes: int = 1 << 28, max_batch_tokens: int = 8192) -> None:
        if cache_bytes < 0:
            raise InputError(f"cache_bytes is {cache_bytes}; give the bytes that the prefix cache may use, 0 for none")
        if max_batch_tokens < 1:
            raise InputError(f"max_batch_tokens is {max_batch_tokens}; give the tokens of one forward pass, at least 1")
        if getattr(body, "training", False):
            raise InputError(f"{type(body).__name__} is in training mode; call .eval() first")
        self.n_computed = 0  # tokens that went through the model since construction
        self.n_cached = 0  # tokens that did not have to
        self._head, self._body = head, body
        self._lock = threading.Lock()
        embedding = body.get_input_embeddings().weight
        self._vocabulary, device = int(embedding.shape[0]), embedding.device
        found = probe(body)
        static = longest_static(body.config)
        self._packed: PackedPass | None = None
        if isinstance(found, Padded):
            self.path, self.form, self.reason = "padded", "plain", found.reason
            logger.warning("reading without shared prefixes and without a cache: %s", found.reason)
            self._packed_length, causal, ragged = -1, found.causal, found.ragged  # tokens of the longest query that is read packed
        else:
            self.path, self.form, self.reason = "packed", found.forward.form, ""
            pool = Pool(n_outputs=head.n_outputs, device=device, like=found.pool)
            pass_tokens = tokens_of_a_pass(max_batch_tokens, device)
            self._packed = PackedPass(found.forward, head, pool, cache_bytes=cache_bytes, pass_tokens=pass_tokens, device=device)
            self._packed_length, causal, ragged = static, True, True
        self._padded = PaddedPass(body, head, max_batch_tokens=max_batch_tokens, causal=causal, ragged=ragged, rescaled=static < sys.maxsize)
        self._version = self._weights_version()

    @property
    def cached_bytes(self) -> int:
        """Bytes of memory that the cache holds now."""
        return self._packed.cache.n_bytes if self._packed is not None else 0

    def __call__(self, queries: Sequence[Query]) -> list[Reading]:
        """One reading a query, in their order. Raises InputError for ids outside the vocabulary and positions outside the sequence."""
        for query in queries:
            self._check(query)
        with self._lock, torch.inference_mode():
            version = self._weights_version()
            if version != self._version:
                self._forget()
                self._version = version
            packed = [index for index, query in enumerate(queries) if len(query.ids) <= self._packed_length]
            padded = [index for index, query in enumerate(queries) if len(query.ids) > self._packed_length]
            readings: dict[int, Reading] = {}
            if self._packed is not None and packed:
                readings.update(zip(packed, self._packed([queries[index] for index in packed]), strict=True))
            if padded:
                readings.update(zip(padded, self._padded([queries[index] for index in padded]), strict=True))
            self.n_computed += sum(reading.n_computed for reading in readings.values())
            self.n_cached += sum(reading.n_cached for reading in readings.values())
        return [readings[index] for index in range(len(queries))]

    def clear(self) -> None:
        """Forget every cached state."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._packed is not None:
            self._packed.cache.clear()

    def _weights_version(self) -> int:
        """Grows whenever torch changes a weight in place."""
        return sum(parameter._version for parameter in self._body.parameters() if not parameter.is_inference())

    def _check(self, query: Query) -> None:
        ids, at = query.ids, query.at
        if len(ids) and (ids.min() < 0 or ids.max() >= self._vocabulary):
            raise InputError(f"token ids span {ids.min()}..{ids.max()}, the model knows 0..{self._vocabulary - 1}; use the tokenizer of this model")
        if len(at) and (at[0] < self._head.shift or at[-1] >= len(ids) or np.any(np.diff(at) <= 0)):
            raise InputError(f"positions {at.tolist()} cannot be read in {len(ids)} tokens; give increasing ones in {self._head.shift}..{len(ids) - 1}")
