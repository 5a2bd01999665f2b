"""ImplicitModel: step scores from the log-ratio of two language models (EurusPRM, ImplicitPRM). Log-probabilities are in `language_model`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepward.core import CountMismatch, Granularity, InputError, Scale, StepScores, Trajectory, Usage, charge, content_hash
from stepward.core.aggregation import Floats
from stepward.engine.batching import Batcher
from stepward.engine.reader.query import Query, Reading
from stepward.engine.reader.reader import Reader
from stepward.policies.sampler.weights import active_parameters, attention_flops, context_length
from stepward.rewards.checkpoint import frame_fingerprint, read_convention
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded, Encoder
from stepward.rewards.families import FAMILIES
from stepward.rewards.language_model import LanguageModel
from stepward.rewards.loading import CheckpointFolder, LoadIn, Placement
from stepward.rewards.step_values import silence_after_error, step_values

_MAX_REQUESTS = 4096  # a batch of the engine; the forward passes inside are limited by tokens


class ImplicitModel:
    """Q_t = beta * sum over the solution's tokens i up to the end of step t of log(policy(y_i | y_<i) / reference(y_i | y_<i)).

    In the convention's mode "accumulated" step t scores Q_t, in "difference" r_t = Q_t - Q_(t-1), the sum over its own tokens. For a policy that was trained
    so that r(y) = beta log(policy(y) / reference(y)) is the reward of a whole solution, Q_t is its soft value, beta log E[exp(r(y) / beta) | y_<=t] over the
    reference's ways to go on ("Free Process Rewards without Process Labels", 2024). Scores are log-ratios: zero says nothing, and thresholds are searched on
    labelled data. With the activation "sigmoid" they are sigmoid(Q_t) or sigmoid(r_t), as in the authors' script for ProcessBench, and one half says nothing.
    Without a reference, log(policy) alone is summed, at half the cost: the paper reports a small loss, and the scale is another.

    A step's tokens include the separator behind it; those of a finished solution's last step include the end of the turn. The authors' script for Qwen
    models reads a token or two further, inside the next step; here no step's score depends on what follows. An observation is context: its tokens do not
    count. The policy's tokenizer and chat template serve both models.

    Requests that wait at the same time are scored together, and each model computes every distinct token once, also across calls (see `engine.reader`);
    `cache_bytes` is for each model.
    """

    granularity: Granularity = "step"

    def __init__(
        self,
        policy: LanguageModel,
        reference: LanguageModel | None,
        tokenizer: Any,
        convention: Convention,
        *,
        max_batch_tokens: int = 8192,
        cache_bytes: int = 1 << 28,
    ) -> None:
        if convention.head != "log-ratio":
            raise InputError(f"convention {convention.name!r} reads a head of kind {convention.head!r}; an implicit model needs one with head='log-ratio'")
        self.policy, self.reference, self.tokenizer, self.convention = policy, reference, tokenizer, convention
        self._models = [policy] if reference is None else [policy, reference]
        self.readers = [Reader(model.body, model.head, cache_bytes=cache_bytes, max_batch_tokens=max_batch_tokens) for model in self._models]
        limits = [convention.max_tokens, *(context_length(model.body) or convention.max_tokens for model in self._models)]
        self.encoder = Encoder(tokenizer, convention, max_tokens=min(limits))
        self._parameters = [active_parameters(model.body) for model in self._models]
        self._batcher: Batcher[Query, tuple[Reading, ...]] = Batcher(
            self._run, max_batch=_MAX_REQUESTS, weight=lambda query: len(query.ids), max_weight=16.0 * max_batch_tokens
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        reference: str | Path | None,
        dtype: str = "float32",
        device: str = "cpu",
        max_batch_tokens: int = 8192,
        cache_bytes: int = 1 << 28,
        convention: Convention | None = None,
        load_in: LoadIn | None = None,
        compile: bool = False,
    ) -> ImplicitModel:
        """The language models `source` and `reference` from folders or the hub: Qwen2.5-Math-7B-Instruct is EurusPRM's reference, Llama-3.1-8B-Instruct that
        of ImplicitPRM; None for none.

        `convention` says how they are read; without it the model's own config does, else its family's record for its architecture.

        Raises: InputError when weights are missing, the two have different vocabularies, or no convention is known.
        """
        placement = Placement(dtype=dtype, device=device, load_in=load_in, compile=compile)
        checkpoint = CheckpointFolder(source)
        known = convention or read_convention(checkpoint.config) or _family_convention(checkpoint)
        other = None if reference is None else CheckpointFolder(reference)
        if other is not None:
            _check_vocabularies(checkpoint, other)
        models = [None if folder is None else LanguageModel.load(folder, placement) for folder in (checkpoint, other)]
        assert models[0] is not None
        return cls(models[0], models[1], checkpoint.tokenizer, known, max_batch_tokens=max_batch_tokens, cache_bytes=cache_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """Names both models, the tokenizer and the convention."""
        models = [model.fingerprint for model in self._models]
        return f"prm:{content_hash('implicit', *models, frame_fingerprint(self.tokenizer, self.convention))}"

    @property
    def scale(self) -> Scale:
        """What the scores are."""
        return self.convention.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One score a step, shape [S]; NaN with a reason where the step does not fit the context.

        Raises: RequestFailed when a forward pass failed.
        """
        query, spans = self._query(trajectory)
        if not len(query.at):
            return self._scores(trajectory, np.zeros(0), Usage())
        readings = await self._batcher(query)
        usage = self._alone(query)
        paid = Usage.total(self._cost(index, query, reading.n_cached, len(query.ids)) for index, reading in enumerate(readings)) + Usage(calls=1)
        charge(usage, paid=paid)
        if any(reading.values.shape != (len(query.at), 1) for reading in readings):
            raise CountMismatch(f"the model returned {[len(reading.values) for reading in readings]} log-probabilities for {len(query.at)} tokens")
        ratios = readings[0].values[:, 0] - (readings[1].values[:, 0] if len(readings) > 1 else 0.0)
        return self._scores(trajectory, span_sums(ratios, spans - spans[0, 0]), usage)

    def price(self, trajectory: Trajectory) -> Usage:
        """What `score` charges, to the token. Raises what it raises for a trajectory that cannot be encoded."""
        query, _ = self._query(trajectory)
        return self._alone(query) if len(query.at) else Usage()

    def _query(self, trajectory: Trajectory) -> tuple[Query, NDArray[np.int64]]:
        """What is read, and the spans [K, 2] of the kept steps' tokens in it."""
        encoded = self.encoder(trajectory)
        spans = _spans(encoded, trajectory)
        return Query(encoded.ids, np.arange(spans[0, 0], spans[-1, 1]) if len(spans) else np.zeros(0, dtype=np.int64)), spans

    def _alone(self, query: Query) -> Usage:
        """What a request costs by itself: every model reads all tokens."""
        return Usage.total(self._cost(index, query, 0, len(query.ids)) for index in range(len(self._models))) + Usage(calls=1)

    def _cost(self, index: int, query: Query, start: int, end: int) -> Usage:
        """Of the tokens start..end-1 of a sequence in one model: 2 x parameters each, attention, and the output layer where a token is judged."""
        flops = 2 * self._parameters[index] * (end - start) + attention_flops(self._models[index].body, start, end)
        flops += self._models[index].head.flops * int((query.at >= start).sum())
        return Usage(reward_tokens=end - start, reward_cached=start, flops=flops)

    def _scores(self, trajectory: Trajectory, sums: Floats, usage: Usage) -> StepScores:
        """Scores from the sum of log-ratios over each step's own tokens, [number of kept steps]."""
        raw = self.convention.beta * (sums if self.convention.mode == "difference" else np.cumsum(sums))
        outputs = np.full((len(trajectory), 1), np.nan)
        outputs[: len(sums), 0] = raw
        values, aspects = step_values(self.convention, outputs)
        values[~np.isfinite(values)] = np.nan
        not_finite, overflow = "the model's output is not a number", f"does not fit the context of {self.encoder.max_tokens} tokens"
        reasons = [None if np.isfinite(value) else not_finite if index < len(sums) else overflow for index, value in enumerate(values)]
        silence_after_error(self.convention, values, reasons)
        source = {"model": self.fingerprint, "convention": self.convention.name}
        return StepScores(values, tuple(reasons), self.scale, self.convention.threshold, source=source, usage=usage, aspects=aspects)

    def _run(self, batch: Sequence[Query]) -> list[tuple[Reading, ...] | Exception]:
        return list(zip(*(reader(batch) for reader in self.readers), strict=True))


def span_sums(values: Floats, spans: NDArray[np.int64]) -> Floats:
    """The sum of values [N] over each of the spans [T, 2] (end excluded), in float64."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    sums: Floats = total[spans[:, 1]] - total[spans[:, 0]]
    return sums


def _spans(encoded: Encoded, trajectory: Trajectory) -> NDArray[np.int64]:
    """[K, 2] the tokens of each of the K kept steps, end excluded: from where the step before was read, without an observation, to where it is read itself."""
    kept = np.flatnonzero(encoded.kept)
    spans = np.stack([encoded.span[kept, 0], encoded.read[kept] + 1], axis=1)
    for place, index in enumerate(kept[1:], start=1):
        if trajectory.steps[index - 1].observation is None:
            spans[place, 0] = spans[place - 1, 1]
    return spans


def _family_convention(checkpoint: CheckpointFolder) -> Convention:
    admitted = [family for family in FAMILIES if family.reader == "implicit" and family.matches(checkpoint.config, checkpoint.tokenizer)]
    if len(admitted) != 1:
        raise InputError(
            f"{checkpoint.source!r} does not say how it is read, and its architecture is that of no family of implicit models; pass "
            "convention=Convention(...) with head='log-ratio'; on the command line, --convention NAME_OR_JSON_FILE"
        )
    return admitted[0].convention


def _check_vocabularies(policy: CheckpointFolder, reference: CheckpointFolder) -> None:
    """Both models must mean the same token by an id; a token that only one of them was given in addition, at an id of its own, does no harm.

    Raises: InputError naming a token that they disagree about.
    """
    sides = [(folder.tokenizer.get_vocab(), folder.tokenizer.get_added_vocab()) for folder in (policy, reference)]
    for (one, added), (other, _) in (sides, sides[::-1]):
        taken = set(other.values())
        for token, index in one.items():
            if other.get(token, index) != index or (token not in other and (token not in added or index in taken)):
                raise InputError(
                    f"{policy.source!r} and its reference {reference.source!r} have different vocabularies (they disagree about token {token!r}); use the "
                    "reference that the model was trained from"
                )
