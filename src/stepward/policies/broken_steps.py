"""BrokenSteps: the tokens of steps that a sampler broke off, so that a step can be taken up where it was left. How it goes on is the policy's business."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from stepward.core import Sampling

_REMEMBERED = 1 << 14


class BrokenStep(NamedTuple):
    """What was written of a step: its text, token ids, and the natural-log probability of each."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


class BrokenSteps:
    """The last steps that were broken off, by prefix, draw and law. Limits on length do not count: they are why a step was broken off."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], BrokenStep] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, prefix_key: str, sampling: Sampling, draw: int, step: BrokenStep) -> None:
        """Remember a step that draw `draw` of a prefix began."""
        with self._lock:
            self._kept[_name(prefix_key, sampling, draw)] = step
            while len(self._kept) > _REMEMBERED:
                self._kept.popitem(last=False)

    def find(self, prefix_key: str, sampling: Sampling, draw: int, text: str) -> BrokenStep | None:
        """The step that was begun with this text; None where it is not remembered, or another limit broke it off elsewhere."""
        with self._lock:
            found = self._kept.get(_name(prefix_key, sampling, draw))
        return found if found is not None and found.text == text else None


def _name(prefix_key: str, sampling: Sampling, draw: int) -> tuple[object, ...]:
    return prefix_key, draw, sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k
