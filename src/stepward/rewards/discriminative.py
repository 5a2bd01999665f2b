"""DiscriminativeModel: step scores from one pass of a transformer, for every family whose convention says how. Encoding, heads and loading have their own
files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stepward.core import CountMismatch, Granularity, InputError, Scale, StepScores, Trajectory, Usage, charge, content_hash
from stepward.engine.batching import Batcher
from stepward.engine.reader.query import Query, Reading
from stepward.engine.reader.reader import Reader
from stepward.policies.sampler.weights import Flops, context_length, weights_fingerprint
from stepward.rewards.checkpoint import frame_fingerprint
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded, Encoder
from stepward.rewards.families import reading_of
from stepward.rewards.families.family import ReadBy
from stepward.rewards.head_weights import make_head
from stepward.rewards.heads import StepHead, head_hash
from stepward.rewards.loading import CheckpointFolder, LoadIn, Placement
from stepward.rewards.step_values import silence_after_error, step_values

_MAX_REQUESTS = 4096  # a batch of the engine; the forward passes inside are limited by tokens


class DiscriminativeModel:
    """score_t = activation(head(h[read_t])), all of it as the `convention` says: see there.

    Requests that wait at the same time are scored together, and every distinct token is computed once, also across calls while `cache_bytes` of memory for
    states lasts; `max_batch_tokens` bounds the tokens of a forward pass. Scores do not depend on any of that beyond rounding (1e-5 in fp32). The model is in
    evaluation mode, its head in fp32. Steps beyond the context (the convention's, or the model's own where that is shorter) are unscored with the reason;
    none is dropped. A trajectory's `usage` is what it costs alone; what was paid is counted in the ledger.
    """

    granularity: Granularity = "step"
    read_by: ClassVar[ReadBy] = "one-pass"

    def __init__(
        self,
        body: Any,
        head: StepHead,
        tokenizer: Any,
        convention: Convention,
        *,
        fingerprint: str,
        max_batch_tokens: int = 8192,
        cache_bytes: int = 1 << 28,
    ) -> None:
        if head.n_outputs != convention.n_outputs:
            raise InputError(f"convention {convention.name!r} reads {convention.n_outputs} numbers and the head gives {head.n_outputs}")
        self.body, self.head, self.tokenizer, self.convention = body, head, tokenizer, convention
        self.fingerprint = fingerprint
        self.reader = Reader(body, head, cache_bytes=cache_bytes, max_batch_tokens=max_batch_tokens)
        self.encoder = Encoder(tokenizer, convention, max_tokens=min(convention.max_tokens, context_length(body) or convention.max_tokens))
        self._flops = Flops(body)  # of tokens start..end-1 of a sequence
        self._batcher: Batcher[list[Encoded], tuple[Reading, ...]] = Batcher(
            self._run, max_batch=_MAX_REQUESTS, weight=lambda request: sum(map(len, request)), max_weight=16.0 * max_batch_tokens
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        max_batch_tokens: int = 8192,
        cache_bytes: int = 1 << 28,
        convention: Convention | None = None,
        load_in: LoadIn | None = None,
        compile: bool = False,
    ) -> Self:
        """The model in a folder or on the hub; a folder with a LoRA adapter is merged into its base.

        `convention` says how it is read; without it, the model's own config does (one that stepward trained), else the registry, which recognises published
        families by config, tokenizer and weights. `dtype`: float32, bfloat16 or float16. `load_in`: "8bit" or "4bit" weights. `compile`: the forward pass goes
        through torch.compile, in padded batches that share no prefixes.

        Raises: InputError when the head's weights are missing or left over, the convention is not known or is read by another of stepward's models;
        MissingExtra for quantised weights or adapters without their packages.
        """
        placement = Placement(dtype=dtype, device=device, load_in=load_in, compile=compile)
        checkpoint = CheckpointFolder(source)
        known, read_by = reading_of(checkpoint, convention)
        if read_by != cls.read_by:
            raise InputError(f"{known.name} is read by the {read_by} model, and {cls.__name__} is the {cls.read_by} one; load_reward_model takes the right one")
        body, weights = checkpoint.load(placement)
        embedding = body.get_input_embeddings().weight
        head = make_head(known, weights, checkpoint.tokenizer, checkpoint.config, embedding=embedding, source=checkpoint.source)
        hashed = weights_fingerprint(body, checkpoint.folder if checkpoint.adapter is None else None)
        name = content_hash(cls.read_by, hashed, head_hash(head), str(load_in), frame_fingerprint(checkpoint.tokenizer, known))
        return cls(body, head, checkpoint.tokenizer, known, fingerprint=f"prm:{name}", max_batch_tokens=max_batch_tokens, cache_bytes=cache_bytes)

    @property
    def scale(self) -> Scale:
        """What the scores are."""
        return self.convention.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One score a step, shape [S]; NaN with a reason where the step does not fit the context.

        Raises: RequestFailed when the forward pass failed.
        """
        sequences = self.encoder.sequences(trajectory)
        if not any(encoded.n_kept for encoded in sequences):
            return self._scores(trajectory, sequences, (), Usage())
        readings = await self._batcher(sequences)
        usage = self._cost(sequences)
        charge(usage, paid=Usage.total(self._paid(reading) for reading in readings) + Usage(calls=1))
        return self._scores(trajectory, sequences, readings, usage)

    def price(self, trajectory: Trajectory) -> Usage:
        """What `score` charges, to the token. Raises what it raises for a trajectory that cannot be encoded."""
        return self._cost(self.encoder.sequences(trajectory))

    def _cost(self, sequences: Sequence[Encoded]) -> Usage:
        """Alone; nothing where no step fits the context."""
        if not any(encoded.n_kept for encoded in sequences):
            return Usage()
        n_tokens = _distinct(sequences)
        return Usage(reward_tokens=n_tokens, calls=1, flops=self._flops(0, n_tokens))

    def _paid(self, reading: Reading) -> Usage:
        flops = self._flops(reading.n_cached, reading.n_cached + reading.n_computed)
        return Usage(reward_tokens=reading.n_computed, reward_cached=reading.n_cached, flops=flops)

    def _scores(self, trajectory: Trajectory, sequences: Sequence[Encoded], readings: Sequence[Reading], usage: Usage) -> StepScores:
        n_steps = len(trajectory)
        outputs = np.full((n_steps, self.head.n_outputs), np.nan)
        for encoded, reading in zip(sequences, readings, strict=False):
            at = encoded.positions
            if len(reading.values) != len(at):
                raise CountMismatch(f"the model returned {len(reading.values)} scores for {len(at)} positions")
            outputs[encoded.kept] = reading.values[np.searchsorted(at, encoded.read[encoded.kept])]
        kept = np.zeros(n_steps, dtype=np.bool_)
        for encoded in sequences:
            kept |= encoded.kept
        values, aspects = step_values(self.convention, outputs)
        values[~np.isfinite(values)] = np.nan
        reasons = [None if known else self._reason(index, kept) for index, known in enumerate((~np.isnan(values)).tolist())]
        silence_after_error(self.convention, values, reasons)
        source = {"model": self.fingerprint, "convention": self.convention.name}
        return StepScores(values, tuple(reasons), self.scale, self.convention.threshold, source=source, usage=usage, aspects=aspects)

    def _reason(self, index: int, kept: NDArray[np.bool_]) -> str:
        if kept[index]:
            return "the model's output is not a number"
        if kept[index:].any():
            return "there is no token before the end of this step to read it at"
        return f"does not fit the context of {self.encoder.max_tokens} tokens"

    def _run(self, batch: Sequence[list[Encoded]]) -> list[tuple[Reading, ...] | Exception]:
        queries = [Query(encoded.ids, encoded.positions) for request in batch for encoded in request]
        readings = iter(self.reader(queries))
        return [tuple(next(readings) for _ in request) for request in batch]


def _distinct(sequences: Sequence[Encoded]) -> int:
    """Tokens that a request costs alone: each sequence's, without those of the beginning that it shares with the one before."""
    total = 0
    before = np.zeros(0, dtype=np.int64)
    for encoded in sequences:
        shorter = min(len(before), len(encoded))
        differ = np.flatnonzero(before[:shorter] != encoded.ids[:shorter])
        total += len(encoded) - (int(differ[0]) if len(differ) else shorter)
        before = encoded.ids
    return total
