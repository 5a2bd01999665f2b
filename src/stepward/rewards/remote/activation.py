"""Activation: does a server send logits, as it is asked to, or probabilities all the same?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stepward.core import InputError

Floats = NDArray[np.float64]
Asked = tuple[Floats, dict[str, Any]]
Sends = Literal["auto", "logits", "probabilities"]
_EVEN = 0.02  # probabilities nearer than this to their own softmax tell nothing: reduced precision moves a server's answers by about half of it


class Activation:
    """Turns rows [R, K] of a server into logits.

    A server is asked for logits. `sends` says what comes: "logits", "probabilities", or "auto": where the first rows could be probabilities (all of them sum
    to one), the same is asked for with activation. An answer that is nearer to the first one than to its softmax means that the server takes no notice of the
    question (vLLM has renamed that setting more than once); two answers are never quite equal where other requests share the server's batches. Rows so even
    that both are about the same settle nothing, and the next ones are asked for both ways again. With one column nothing can be seen that way, and "auto"
    takes the server at its word.
    """

    def __init__(self, sends: Sends = "auto") -> None:
        if sends not in get_args(Sends):
            raise InputError(f"sends must be one of {', '.join(get_args(Sends))}, got {sends!r}")
        self.applied: bool | None = None if sends == "auto" else sends == "probabilities"

    async def logits(self, ask: Callable[[bool], Awaitable[Asked]]) -> tuple[Floats, list[dict[str, Any]]]:
        """Logits [R, K] and every answer that was paid for; `ask(use_activation)` returns rows and the whole answer."""
        rows, answer = await ask(False)
        answers, applied = [answer], self.applied
        known = np.isfinite(rows).all(axis=1)
        if applied is None and known.any():
            applied, settled = False, True
            if _sum_to_one(rows[known]):
                again, answer = await ask(True)
                answers.append(answer)
                plain, activated = rows[known], _softmax(rows[known])
                applied = bool(np.abs(again[known] - plain).max() < np.abs(again[known] - activated).max())
                settled = bool(np.isfinite(again[known]).all() and np.abs(activated - plain).max() > _EVEN)
            if settled:
                self.applied = applied
        return logits_of(rows) if applied else rows, answers


def logits_of(probs: Floats) -> Floats:
    """Logits that give these probabilities back: log p of a row of classes, log p - log(1 - p) of one column, where exactly 0 is the least that is not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if probs.shape[1] > 1:
            return np.asarray(np.log(probs))
        return np.asarray(np.log(np.where(probs == 0.0, np.finfo(np.float64).tiny, probs)) - np.log1p(-probs))


def _sum_to_one(rows: Floats) -> bool:
    return rows.shape[1] > 1 and bool(rows.min() >= 0.0 and np.abs(rows.sum(axis=1) - 1.0).max() < 1e-2)


def _softmax(rows: Floats) -> Floats:
    shares = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
