"""BatchWatch: how many requests a model's batches held, for the metrics. Batches are made in `engine.batching`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepward.engine.batching import Batcher

_DEPTH = 6  # a model in an ensemble behind a calibration behind a journal, and its reader


class BatchWatch:
    """The batchers inside a model, and the sizes of the batches that they ran since the last look."""

    def __init__(self, model: object) -> None:
        self._seen = [(batcher, batcher.n_batches, batcher.n_requests) for batcher in find_batchers(model)]

    def sizes(self) -> list[float]:
        """One number a batch; where several ran since the last look, each counts as their mean."""
        found: list[float] = []
        for index, (batcher, batches, requests) in enumerate(self._seen):
            now_batches, now_requests = batcher.n_batches, batcher.n_requests
            if now_batches > batches:
                found += [(now_requests - requests) / (now_batches - batches)] * (now_batches - batches)
                self._seen[index] = (batcher, now_batches, now_requests)
        return found


def find_batchers(model: object) -> list[Batcher[Any, Any]]:
    """Every batcher that the model's attributes lead to, each once."""
    return list({id(batcher): batcher for batcher in _search(model, _DEPTH, set())}.values())


def _search(node: object, depth: int, visited: set[int]) -> Iterator[Batcher[Any, Any]]:
    if isinstance(node, Batcher):
        yield node
        return
    if depth == 0 or id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, list | tuple):
        inside: list[object] = list(node)
    elif isinstance(node, dict):
        inside = list(node.values())
    elif type(node).__module__.partition(".")[0] in ("torch", "transformers", "tokenizers", "builtins", "numpy"):
        return  # weights and vocabularies hold no batcher, and are large
    else:
        inside = list(getattr(node, "__dict__", {}).values())
    for item in inside:
        yield from _search(item, depth - 1, visited)
