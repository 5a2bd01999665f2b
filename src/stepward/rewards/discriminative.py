"""DiscriminativeModel: step scores from a two-class head on a transformer. Encoding, readout and loading are in their own files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stepward.core import CountMismatch, Granularity, InputError, Scale, StepScores, Trajectory, Usage, charge
from stepward.engine.batching import Batcher
from stepward.policies.sampler.weights import context_length
from stepward.rewards.checkpoint import fingerprint, load_checkpoint, read_convention
from stepward.rewards.convention import CONFIG_KEY, EXAMPLE_ENTRY, Convention
from stepward.rewards.encoding import Encoded, Encoder
from stepward.rewards.readout import StepClassifier, buckets, n_flops, padded

_MAX_REQUESTS = 4096  # a batch of the engine; the forward passes inside are limited by tokens


class DiscriminativeModel:
    """score_t = softmax(head(h[read_t]))[good]: the probability that step t is good, read at its marker.

    Requests that wait at the same time are scored together: sorted by length, at most `max_batch_tokens` tokens a forward pass, padding on the right with an
    explicit mask. Scores do not depend on that beyond rounding (1e-5 in fp32). Equal requests of a batch are computed once. The model is in
    evaluation mode, its head in fp32. Steps beyond the context (the convention's, or the model's own where that is shorter) are unscored with the reason;
    none is dropped.
    """

    granularity: Granularity = "step"
    scale: Scale = "probability"

    def __init__(self, model: Any, tokenizer: Any, convention: Convention, *, max_batch_tokens: int = 8192) -> None:
        if max_batch_tokens < 1:
            raise InputError(f"max_batch_tokens must be at least 1, got {max_batch_tokens!r}")
        self.model, self.tokenizer, self.convention = model.eval(), tokenizer, convention
        self.max_batch_tokens = max_batch_tokens
        self._classifier = StepClassifier(model).eval()
        self._encoder = Encoder(tokenizer, convention, max_tokens=min(convention.max_tokens, context_length(model) or convention.max_tokens))
        self._batcher: Batcher[Encoded, tuple[tuple[float, ...], bool]] = Batcher(
            self._run, max_batch=_MAX_REQUESTS, weight=len, max_weight=16.0 * max_batch_tokens
        )

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, dtype: str = "float32", device: str = "cpu", max_batch_tokens: int = 8192, convention: Convention | None = None
    ) -> DiscriminativeModel:
        """The model in a folder or on the hub. Its config carries the convention; `convention` overrides it.

        Raises: InputError when the model has no trained two-class head, or no convention is known.
        """
        checkpoint = load_checkpoint(source, dtype=dtype)
        if checkpoint.missing:
            raise InputError(f"{str(source)!r} lacks trained weights for {', '.join(checkpoint.missing[:4])}; train a step classifier from it first")
        known = convention or read_convention(checkpoint.model.config)
        if known is None:
            raise InputError(
                f"{str(source)!r} does not say how it is read: its config.json has no '{CONFIG_KEY}' entry. Add one with what it was trained with, for "
                f"example {EXAMPLE_ENTRY} (see stepward.rewards.convention), or pass convention=Convention(...)"
            )
        return cls(checkpoint.model.to(device), checkpoint.tokenizer, known, max_batch_tokens=max_batch_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """Names weights, config, tokenizer and convention."""
        return f"prm:{fingerprint(self.model, self.tokenizer, self.convention)}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One probability a step, shape [S]; NaN with a reason where the step does not fit the context.

        Raises: RequestFailed when the forward pass failed.
        """
        encoded = self._encoder(trajectory)
        if not encoded.n_kept:
            return self._scores(encoded, (), Usage())
        values, repeated = await self._batcher(encoded)
        usage = Usage(reward_tokens=len(encoded), calls=1, flops=n_flops(self.model, len(encoded)))
        charge(usage, replayed=repeated)
        return self._scores(encoded, values, usage)

    def _scores(self, encoded: Encoded, values: tuple[float, ...], usage: Usage) -> StepScores:
        if len(values) != encoded.n_kept:
            raise CountMismatch(f"the model returned {len(values)} scores for {encoded.n_kept} steps")
        scored = np.array([*values, *[math.nan] * (len(encoded.kept) - len(values))], dtype=np.float64)  # the steps that do not fit are the last ones
        reasons = [
            None if not math.isnan(value) else "the model's output is not a number" if kept else f"does not fit the context of {encoded.max_tokens} tokens"
            for value, kept in zip(scored, encoded.kept, strict=True)
        ]
        source = {"model": self.fingerprint, "convention": self.convention.name}
        return StepScores(scored, tuple(reasons), self.scale, self.convention.threshold, source=source, usage=usage)

    def _run(self, batch: Sequence[Encoded]) -> list[tuple[tuple[float, ...], bool] | Exception]:
        """Scores of each request, and whether an equal one before it in the batch was computed in its place."""
        keys = [(encoded.ids.tobytes(), encoded.read.tobytes()) for encoded in batch]
        first: dict[tuple[bytes, bytes], int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        distinct = [batch[index] for index in first.values()]
        found: dict[tuple[bytes, bytes], tuple[float, ...]] = {}
        names = list(first)
        for rows in buckets([len(encoded) for encoded in distinct], max_tokens=self.max_batch_tokens):
            for row, values in zip(rows, self._forward([distinct[row] for row in rows]), strict=True):
                found[names[row]] = values
        return [(found[key], first[key] != index) for index, key in enumerate(keys)]

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Encoded]) -> list[tuple[float, ...]]:
        device = self.model.device
        inputs = padded([encoded.ids for encoded in batch], [encoded.read[encoded.kept] for encoded in batch])
        logits = self._classifier(*(tensor.to(device) for tensor in inputs))
        probs = logits.double().softmax(-1)[:, self.convention.good].cpu()
        return [tuple(part.tolist()) for part in probs.split([encoded.n_kept for encoded in batch])]
