"""PackedPass: reading at the cost of distinct tokens. What is new in a call, says the prefix tree, goes through the body, what is read through the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.engine.reader.cache import PrefixCache
from stepward.engine.reader.forward import Forward
from stepward.engine.reader.head import Head
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.query import Query, Reading
from stepward.engine.reader.tiles import Piece
from stepward.engine.reader.tree import Node, depth_first

_HEAD_ROWS = 512  # positions that a head sees at once: it may make a row of the vocabulary's size of each


class PackedPass:
    """Reads queries in parts of neighbouring ones that fit the cache's working room together; each part's new tokens in passes of `pass_tokens`.

    The working room is what may be kept between calls, or the longest query and one pass where that is more.
    """

    def __init__(self, forward: Forward, head: Head, pool: Pool, *, cache_bytes: int, pass_tokens: int, device: torch.device) -> None:
        self._forward, self._head, self._device = forward, head, device
        self._pass_tokens = pass_tokens
        self.cache = PrefixCache(pool, max_bytes=cache_bytes)

    def __call__(self, queries: Sequence[Query]) -> list[Reading]:
        """Readings in the order of the queries. New tokens are charged to the first query, in that order, of the part that brought them."""
        try:
            readings = self._read(queries)
            self.cache.trim()
        except BaseException:
            self.cache.clear()  # slots may have been given to tokens that were not computed
            raise
        return readings

    def _read(self, queries: Sequence[Query]) -> list[Reading]:
        tree = self.cache.tree
        lengths = [int(query.at[-1]) + 1 if len(query.at) else 0 for query in queries]
        ends = [tree.insert(query.ids[:length]) for query, length in zip(queries, lengths, strict=True)]
        paths = [end.path() for end in ends]
        wanted: dict[Node, int] = {}  # queries that still need a node
        for path in paths:
            for node in path:
                wanted[node] = wanted.get(node, 0) + 1
        working = max([self.cache.capacity, *(length + self._pass_tokens for length in lengths)])
        values: list[NDArray[np.float64]] = [np.zeros((0, self._head.n_outputs))] * len(queries)
        computed = [0] * len(queries)
        for part in _parts(depth_first(ends, tree.root), paths, working):
            owners: dict[Node, int] = {}
            for index in part:
                for node in paths[index]:
                    owners[node] = min(owners.get(node, index), index)
            pending = [node for node in owners if node.slots is None]
            self.cache.settle(pending, kept=owners, wanted=wanted, working=working)
            for pieces in _passes(pending, self._pass_tokens):
                self._forward.compute(pieces, self.cache.pool)
            for node in pending:
                computed[owners[node]] += len(node)
            for index, read in zip(part, self._values([queries[index] for index in part], [paths[index] for index in part]), strict=True):
                values[index] = read
                for node in paths[index]:
                    wanted[node] -= 1
                    if not wanted[node]:
                        del wanted[node]
                self.cache.touch(paths[index])
        return [Reading(read, n_computed=n_computed, n_cached=length - n_computed) for read, n_computed, length in zip(values, computed, lengths, strict=True)]

    def _values(self, queries: Sequence[Query], paths: Sequence[Sequence[Node]]) -> list[NDArray[np.float64]]:
        """[T, K] of every query, all of whose tokens are computed; each unknown output is computed once and remembered in its slot."""
        pool, shift = self.cache.pool, self._head.shift
        slots = [np.concatenate([np.zeros(0, dtype=np.int64), *(node.settled for node in path)]) for path in paths]
        asked: dict[Node, list[NDArray[np.int64]]] = {}
        sources, targets, tokens = [], [], []
        for query, path, own in zip(queries, paths, slots, strict=True):
            at = query.at[~pool.known[own[query.at]]]
            if not len(at):
                continue
            sources.append(own[at - shift])
            targets.append(own[at])
            tokens.append(query.ids[at])
            at = at - shift
            for node in reversed(path):
                if not len(at):
                    break
                first = int(np.searchsorted(at, node.start))
                if first < len(at):
                    asked.setdefault(node, []).append(at[first:] - node.start)
                    at = at[:first]
        if asked:
            unknown, firsts = np.unique(np.concatenate(targets), return_index=True)
            pieces = [Piece(node, np.unique(np.concatenate(offsets))) for node, offsets in asked.items()]
            pool.outputs[unknown] = self._outputs(pieces, np.concatenate(sources)[firsts], np.concatenate(tokens)[firsts])
            pool.known[unknown] = True
        return [pool.outputs[own[query.at]] for query, own in zip(queries, slots, strict=True)]

    def _outputs(self, pieces: Sequence[Piece], sources: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """The head on the states in slots `sources`, which are those of `pieces`."""
        rows = [self._forward.hidden(group, self.cache.pool) for group in _chunks(pieces, self._pass_tokens)]
        hidden = torch.cat(rows)
        of_rows = np.concatenate([piece.slots for piece in pieces])
        order = np.argsort(of_rows)
        where = torch.from_numpy(order[np.searchsorted(of_rows, sources, sorter=order)]).to(self._device)
        ids = torch.from_numpy(tokens).to(self._device)
        outputs: list[Tensor] = []
        for index, target in zip(torch.split(where, _HEAD_ROWS), torch.split(ids, _HEAD_ROWS), strict=True):
            outputs.append(self._head(hidden[index], target).double())
        result: NDArray[np.float64] = torch.cat(outputs).cpu().numpy()
        return result


def _parts(order: Sequence[int], paths: Sequence[Sequence[Node]], room: int) -> Iterator[list[int]]:
    """Queries in order, as many at a time as have room together."""
    part: list[int] = []
    nodes: set[Node] = set()
    n_tokens = 0
    for index in order:
        added = [node for node in paths[index] if node not in nodes]
        if part and n_tokens + sum(map(len, added)) > room:
            yield part
            part, nodes, n_tokens, added = [], set(), 0, list(paths[index])
        part.append(index)
        nodes.update(added)
        n_tokens += sum(map(len, added))
    if part:
        yield part


def _passes(nodes: Sequence[Node], n_tokens: int) -> Iterator[list[Piece]]:
    """All tokens of the nodes in their order, `n_tokens` at a time."""
    yield from _chunks([Piece(node, np.arange(len(node))) for node in nodes], n_tokens)


def _chunks(pieces: Sequence[Piece], n_tokens: int) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    left = n_tokens
    for piece in pieces:
        at = 0
        while at < len(piece):
            part = piece.offsets[at : at + left]
            chunk.append(Piece(piece.node, part))
            at += len(part)
            left -= len(part)
            if not left:
                yield chunk
                chunk, left = [], n_tokens
    if chunk:
        yield chunk
