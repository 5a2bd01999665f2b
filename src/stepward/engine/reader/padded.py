"""PaddedPass: reading through the plain body in right-padded batches, for bodies that the packed pass cannot run. It shares nothing but equal queries."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.engine.reader.head import Head
from stepward.engine.reader.linear import FastLinear
from stepward.engine.reader.query import Query, Reading


class PaddedPass:
    """Queries sorted by length, in batches of at most `max_batch_tokens` tokens with their padding; equal sequences go through once.

    A `causal` body reads a sequence up to its last read position only; any other body reads all of it, because what follows counts there. Where padding is
    not harmless (`ragged` is False) only sequences of equal length share a batch. A `rescaled` body has positions that depend on the length of what it reads
    (so that all of it counts), and remembers the longest: it reads a single token before every batch to forget that.
    """

    def __init__(self, body: Any, head: Head, *, max_batch_tokens: int, causal: bool, ragged: bool, rescaled: bool = False) -> None:
        self._body, self._head, self._rescaled = body, head, rescaled
        self._causal, self._ragged = causal and not rescaled, ragged and not rescaled
        self._max_batch_tokens = max_batch_tokens
        self._device = body.get_input_embeddings().weight.device
        accepted = inspect.signature(body.forward).parameters
        self._masked = "attention_mask" in accepted
        self._compiled = getattr(body, "_compiled_call_impl", None) is not None
        self._extra = {"use_cache": False} if "use_cache" in accepted else {}

    def __call__(self, queries: Sequence[Query]) -> list[Reading]:
        """Readings in the order of the queries; of equal sequences the first one is charged."""
        values = [np.zeros((len(query.at), self._head.n_outputs)) for query in queries]
        groups: dict[bytes, list[int]] = {}
        for index, query in enumerate(queries):
            groups.setdefault(self._ids(query).tobytes(), []).append(index)
        distinct = [members for members in groups.values() if len(self._ids(queries[members[0]]))]
        for batch in self._batches(distinct, queries):
            states = self._states([self._ids(queries[members[0]]) for members in batch])
            for row, members in enumerate(batch):
                asked = np.unique(np.concatenate([queries[index].at for index in members]))
                if not len(asked):
                    continue
                ids = self._ids(queries[members[0]])
                at = torch.from_numpy(asked).to(states.device)
                outputs = self._head(states[row, at - self._head.shift], torch.from_numpy(ids[asked]).to(states.device)).double().cpu().numpy()
                for index in members:
                    values[index] = outputs[np.searchsorted(asked, queries[index].at)]
        firsts = {members[0] for members in distinct}
        lengths = [len(self._ids(query)) for query in queries]
        return [
            Reading(values[index], n_computed=length if index in firsts else 0, n_cached=0 if index in firsts else length)
            for index, length in enumerate(lengths)
        ]

    def _ids(self, query: Query) -> NDArray[np.int64]:
        return query.ids[: query.at[-1] + 1 if len(query.at) else 0] if self._causal else query.ids

    def _batches(self, groups: Sequence[list[int]], queries: Sequence[Query]) -> Iterator[list[list[int]]]:
        batch: list[list[int]] = []
        width = 0
        for length, members in sorted(((len(self._ids(queries[members[0]])), members) for members in groups), reverse=True):
            if batch and ((len(batch) + 1) * width > self._max_batch_tokens or (length != width and not self._ragged)):
                yield batch
                batch = []
            width = width if batch else length
            batch.append(members)
        if batch:
            yield batch

    def _states(self, sequences: Sequence[NDArray[np.int64]]) -> Tensor:
        """[B, L, H] final hidden states; what lies behind a sequence's end is meaningless."""
        ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
        masked = {"attention_mask": torch.from_numpy(mask).to(self._device)} if self._masked else {}
        if self._rescaled and ids.shape[1] > 1:
            self._states([ids[0, :1]])
        with nullcontext() if self._compiled else FastLinear():
            states: Tensor = self._body(input_ids=torch.from_numpy(ids).to(self._device), **masked, **self._extra).last_hidden_state
        return states
