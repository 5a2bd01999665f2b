"""Trying a body out: which way of reading gives what the body itself gives. A few short sequences that share prefixes say so."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepward.engine.reader.forward import Forward, Unsupported
from stepward.engine.reader.interface import InterfaceForward
from stepward.engine.reader.lean import LeanForward
from stepward.engine.reader.packed import PackedPass
from stepward.engine.reader.padded import PaddedPass
from stepward.engine.reader.pool import Pool
from stepward.engine.reader.query import Query, Reading

logger = logging.getLogger(__name__)

Sequences = list[NDArray[np.int64]]
# Of `_error`. Sums in another order stay well below, a wrong mask or position comes near 1.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 0.04, torch.bfloat16: 0.2}


@dataclass(frozen=True)
class Packed:
    """The body can be read packed, in this way; `pool` knows the shapes of its layers."""

    forward: Forward
    pool: Pool


@dataclass(frozen=True)
class Padded:
    """The body can only be read padded, for `reason`: `causal` if later tokens leave earlier states alone, `ragged` if padding does."""

    reason: str
    causal: bool
    ragged: bool


class _Identity:
    """The head that gives the hidden state itself."""

    shift = 0

    def __init__(self, n_outputs: int) -> None:
        self.n_outputs = n_outputs

    def __call__(self, hidden: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        return hidden.float()


@torch.inference_mode()
def probe(body: Any) -> Packed | Padded:
    """The fastest way of reading that agrees with the body. What the body cannot do becomes a reason; errors of ours are raised.

    Adapters of peft are looked through: the model that they changed is what runs.
    """
    if getattr(body, "_compiled_call_impl", None) is not None:  # trying it out would compile it for every way; a mask makes padding harmless in any body
        return Padded(f"the forward pass of {type(body).__name__} is compiled", causal=False, ragged=True)
    inner = body.get_base_model() if hasattr(body, "get_base_model") else body
    embedding = body.get_input_embeddings().weight
    sequences = _sequences(int(embedding.shape[0]))
    truth = [plain_states(body, ids) for ids in sequences]
    causal = _error([truth[1][: len(truth[0])]], truth[:1], spread=truth) <= _tolerance(truth[0])
    reasons = []
    if causal:
        for make in (LeanForward, InterfaceForward):
            try:
                return _packed(make, inner, sequences, truth)
            except Unsupported as error:
                reasons.append(str(error))
                logger.debug("%s: %s", make.__name__, error)
    else:
        reasons.append(f"{type(body).__name__} is not causal")
    return Padded(reasons[-1], causal=causal, ragged=_padding_is_harmless(body, sequences, truth, causal))


def plain_states(body: Any, ids: NDArray[np.int64]) -> Tensor:
    """[L, H] final hidden states of one sequence, by the body alone."""
    accepted = inspect.signature(body.forward).parameters
    row = torch.from_numpy(ids).to(body.get_input_embeddings().weight.device)[None]
    extra = {name: value for name, value in (("use_cache", False), ("attention_mask", torch.ones_like(row))) if name in accepted}
    states: Tensor = body(input_ids=row, **extra).last_hidden_state[0]
    return states


def _packed(make: Callable[[Any], Forward], body: Any, sequences: Sequences, truth: Sequence[Tensor]) -> Packed:
    try:
        forward = make(body)
    except AttributeError as error:
        raise Unsupported(f"{type(body).__name__} is not built like the models of transformers ({error})") from error
    device, size = truth[0].device, truth[0].shape[1]
    pool = Pool(n_outputs=size, device=device)
    reading = PackedPass(forward, _Identity(size), pool, cache_bytes=1 << 30, pass_tokens=16, device=device)
    queries = [Query(ids, np.arange(len(ids))) for ids in sequences]
    n_first = len(queries) // 2  # the others find prefixes in the cache
    _compare([*reading(queries[:n_first]), *reading(queries[n_first:])], truth, body)
    return Packed(forward, pool)


def _padding_is_harmless(body: Any, sequences: Sequences, truth: Sequence[Tensor], causal: bool) -> bool:
    reading = PaddedPass(body, _Identity(truth[0].shape[1]), max_batch_tokens=1 << 20, causal=causal, ragged=True)
    try:
        _compare(reading([Query(ids, np.arange(len(ids))) for ids in sequences]), truth, body)
    except Unsupported:
        return False
    return True


def _compare(readings: Sequence[Reading], truth: Sequence[Tensor], body: Any) -> None:
    error = _error([torch.from_numpy(reading.values).to(truth[0].device) for reading in readings], truth, spread=truth)
    if not error <= _tolerance(truth[0]):
        raise Unsupported(f"{type(body).__name__} gives other states when it reads several sequences at once (off by {error:.2g} standard deviations)")


def _error(states: Sequence[Tensor], truth: Sequence[Tensor], *, spread: Sequence[Tensor]) -> float:
    """Root mean square difference, in units of how much each dimension differs between tokens: trained models have a few huge, nearly constant ones."""
    everything = torch.cat(list(spread)).float()
    deviations = everything.std(dim=0)
    difference = torch.cat(list(states)).float() - torch.cat(list(truth)).float()
    return float((difference / deviations.clamp_min(1e-3 * float(everything.std()))).square().mean().sqrt())


def _tolerance(states: Tensor) -> float:
    if states.dtype == torch.float32 and states.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        return _TOLERANCE[torch.float16]
    return _TOLERANCE.get(states.dtype, _TOLERANCE[torch.bfloat16])


def _sequences(vocabulary: int) -> Sequences:
    """A few random tokens each: a prefix of the next, a long one, one that leaves it early, and one that shares nothing."""
    draw = np.random.default_rng(7).integers
    long = draw(0, vocabulary, 17)
    return [long[:7], long, np.concatenate([long[:4], draw(0, vocabulary, 5)]), draw(0, vocabulary, 6)]
