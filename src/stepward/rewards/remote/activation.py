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


class Activation:
    """Turns rows [R, K] of a server into logits.

    A server is asked for logits. `sends` says what comes: "logits", "probabilities", or "auto": where the first rows could be probabilities (all of them sum
    to one), the same is asked for with activation, and equal answers mean that the server takes no notice of the question (vLLM has renamed that setting
    more than once). With one column nothing can be seen that way, and "auto" takes the server at its word.
    """

    def __init__(self, sends: Sends = "auto") -> None:
        if sends not in get_args(Sends):
            raise InputError(f"sends must be one of {', '.join(get_args(Sends))}, got {sends!r}")
        self.applied: bool | None = None if sends == "auto" else sends == "probabilities"

    async def logits(self, ask: Callable[[bool], Awaitable[Asked]]) -> tuple[Floats, list[dict[str, Any]]]:
        """Logits [R, K] and every answer that was paid for; `ask(use_activation)` returns rows and the whole answer."""
        rows, answer = await ask(False)
        answers = [answer]
        if self.applied is None and np.isfinite(rows).all() and len(rows):
            if _sum_to_one(rows):
                again, answer = await ask(True)
                answers.append(answer)
                self.applied = bool(np.array_equal(rows, again))
            else:
                self.applied = False
        return logits_of(rows) if self.applied else rows, answers


def logits_of(probs: Floats) -> Floats:
    """Logits that give these probabilities back: log p of a row of classes, log p - log(1 - p) of one column."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(probs) - np.log1p(-probs) if probs.shape[1] == 1 else np.log(probs))


def _sum_to_one(rows: Floats) -> bool:
    return rows.shape[1] > 1 and bool(rows.min() >= 0.0 and np.abs(rows.sum(axis=1) - 1.0).max() < 1e-2)
