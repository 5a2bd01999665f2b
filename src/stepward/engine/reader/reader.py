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
from stepward.engine.reader.forward import Unsupported, tokens_of_a_pass
from stepward.engine.reader.head import Head
from stepward.engine.reader.packed import PackedPass
from stepward.engine.reader.padded import PaddedPass
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.positions import longest_pass, longest_static
from stepward.engine.reader.probe import Padded, probe
from stepward.engine.reader.query import Query, Reading

logger = logging.getLogger(__name__)


class Reader:
    """Reads token sequences with a transformer at the cost of their distinct tokens, within a call and across calls.

    `body` is a transformers decoder without its language-model head (`AutoModel`, or a model's `base_model`), in evaluation mode, whose
    `last_hidden_state` is final-normed; the reader never changes it. `cache_bytes` bounds the memory that keeps what calls computed for later ones (0: share
    within a call only); `max_batch_tokens` bounds the tokens of one forward pass. Results do not depend on either, nor on the order or the company of the
    queries, floating-point ties aside. While a call runs it may use more memory than `cache_bytes`: up to that of its longest query and one pass.

    Safe to call from many threads; calls take turns. When the weights (the head's `tensors` too, where it has some) change in place the cache is dropped by
    itself, unless they were changed through `.data`: call `clear()` then. It is dropped too when adapters of peft are attached, switched, merged or disabled.

    `path` says what runs: "packed", or "padded" where the body cannot share prefixes (a warning in the log names the reason, `reason` keeps it). Sequences
    so long that their positions are rescaled (dynamic and LongRoPE models) are read padded in any case. `form` says whose code runs: "lean" (blocks written
    out here), "interface" (the model's with attention from here) or "plain" (the model's).
    """

    def __init__(self, body: Any, head: Head, *, cache_bytes: int = 1 << 28, max_batch_tokens: int = 8192) -> None:
        if cache_bytes < 0:
            raise InputError(f"cache_bytes is {cache_bytes}; give the bytes that the prefix cache may use, 0 for none")
        if max_batch_tokens < 1:
            raise InputError(f"max_batch_tokens is {max_batch_tokens}; give the tokens of one forward pass, at least 1")
        self.n_computed = 0  # tokens that went through the model since construction
        self.n_cached = 0  # tokens that did not have to
        self._head, self._body = head, body
        self._cache_bytes, self._max_batch_tokens = cache_bytes, max_batch_tokens
        self._lock = threading.Lock()
        self._vocabulary = int(body.get_input_embeddings().weight.shape[0])
        self._check_mode()
        self._prepare()

    def _prepare(self) -> None:
        """Find out how the body can be read. Nothing is cached then."""
        body, head = self._body, self._head
        device = body.get_input_embeddings().weight.device
        found = probe(body)
        self._adapted = [module for module in body.modules() if hasattr(module, "merged_adapters")]
        self._version = self._weights_version()
        if isinstance(found, Padded):
            self._read_padded(found)
            return
        self.path, self.form, self.reason = "packed", found.forward.form, ""
        pool = Pool(n_outputs=head.n_outputs, device=device, like=found.pool)
        pass_tokens = min(tokens_of_a_pass(self._max_batch_tokens, device), longest_pass(body.config))
        self._packed: PackedPass | None = PackedPass(found.forward, head, pool, cache_bytes=self._cache_bytes, pass_tokens=pass_tokens, device=device)
        self._packed_length = longest_static(body.config)  # tokens of the longest query that is read packed
        self._padded = self._padded_pass(causal=True, ragged=True)

    def _read_padded(self, how: Padded) -> None:
        self.path, self.form, self.reason = "padded", "plain", how.reason
        logger.warning("reading without shared prefixes and without a cache: %s", how.reason)
        self._packed, self._packed_length = None, -1
        self._padded = self._padded_pass(causal=how.causal, ragged=how.ragged)

    def _padded_pass(self, *, causal: bool, ragged: bool) -> PaddedPass:
        rescaled = longest_static(self._body.config) < sys.maxsize
        return PaddedPass(self._body, self._head, max_batch_tokens=self._max_batch_tokens, causal=causal, ragged=ragged, rescaled=rescaled)

    @property
    def cached_bytes(self) -> int:
        """Bytes of memory that the cache holds now."""
        return self._packed.cache.n_bytes if self._packed is not None else 0

    def __call__(self, queries: Sequence[Query]) -> list[Reading]:
        """One reading a query, in their order. Raises InputError for ids outside the vocabulary and positions outside the sequence."""
        for query in queries:
            self._check(query)
        with self._lock, torch.inference_mode():
            self._check_mode()
            self._follow_weights()
            try:
                readings = self._read(queries)
            except Unsupported as error:
                if error.__cause__ is not None:  # it is not the body that cannot, but this call: sequences that are too long, say
                    raise
                self._read_padded(Padded(str(error), causal=True, ragged=False))
                readings = self._read(queries)
            self.n_computed += sum(reading.n_computed for reading in readings)
            self.n_cached += sum(reading.n_cached for reading in readings)
        return readings

    def _read(self, queries: Sequence[Query]) -> list[Reading]:
        packed = [index for index, query in enumerate(queries) if len(query.ids) <= self._packed_length]
        padded = [index for index, query in enumerate(queries) if len(query.ids) > self._packed_length]
        readings: dict[int, Reading] = {}
        if self._packed is not None and packed:
            readings.update(zip(packed, self._packed([queries[index] for index in packed]), strict=True))
        if padded:
            readings.update(zip(padded, self._padded([queries[index] for index in padded]), strict=True))
        return [readings[index] for index in range(len(queries))]

    def clear(self) -> None:
        """Forget every cached state."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._packed is not None:
            self._packed.cache.clear()

    def _follow_weights(self) -> None:
        version = self._weights_version()
        if version[0] != self._version[0]:
            self._prepare()
        elif version != self._version:
            self._forget()
            self._version = version

    def _weights_version(self) -> tuple[tuple[Any, ...], int, tuple[Any, ...]]:
        """How many weights there are, where and in which format; a number that grows whenever torch changes one in place; what the adapters are doing."""
        parameters, embedding = list(self._body.parameters()), self._body.get_input_embeddings().weight
        changes = sum(tensor._version for tensor in (*parameters, *getattr(self._head, "tensors", ())) if not tensor.is_inference())
        adapters = tuple((tuple(layer.active_adapters), layer.disable_adapters, tuple(layer.merged_adapters)) for layer in self._adapted)
        return (len(parameters), embedding.device, embedding.dtype), changes, adapters

    def _check_mode(self) -> None:
        if getattr(self._body, "training", False):
            raise InputError(f"{type(self._body).__name__} is in training mode; call .eval() first")

    def _check(self, query: Query) -> None:
        ids, at = query.ids, query.at
        if len(ids) and (ids.min() < 0 or ids.max() >= self._vocabulary):
            raise InputError(f"token ids span {ids.min()}..{ids.max()}, the model knows 0..{self._vocabulary - 1}; use the tokenizer of this model")
        if len(at) and (at[0] < self._head.shift or at[-1] >= len(ids) or np.any(np.diff(at) <= 0)):
            raise InputError(f"positions {at.tolist()} cannot be read in {len(ids)} tokens; give increasing ones in {self._head.shift}..{len(ids) - 1}")
