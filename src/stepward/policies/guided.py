"""GuidedPolicy: a local policy whose next tokens are chosen with a token reward, the log-ratio of two other models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from stepward.core import DEFAULT_SAMPLING, InputError, Problem, Sampling, Step, Trajectory, Until, Usage, charge, content_hash, metered
from stepward.policies.local import LocalPolicy
from stepward.policies.sampler.choose import choose_decoder
from stepward.policies.sampler.guided import GuidedDecoder
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.weights import active_parameters, attention_flops, context_length


class GuidedPolicy:
    """Writes with `base`, steered towards `personal` and away from `reference`: next-token logits base_v + weight r_v on the base's `top_k` likeliest tokens.

    r_v = log softmax_K(personal)_v - log softmax_K(reference)_v over these tokens: the token reward of an implicit reward model (a tuned model against the one
    that it was tuned from). Temperature, top-p and top-k of the sampling apply to the sum; temperature 0 takes the largest. `reference` None: the base.
    weight 0 is the base cut to its top_k; base = reference and weight 1 is the personal model on the base's top_k.

    Rendering, step ends, noise, limits and taking up broken steps are the base's (see LocalPolicy), so that it serves every strategy. It tells no
    log-probabilities of given text.

    Cost: the base's, and for every other model the same tokens again as reward tokens (read, not written), with their FLOPs.

    All models must share one vocabulary. PAD: Personalized Alignment of LLMs at Decoding-Time (2024): top_k 10, weight 0.8 (swept 0 to 1.5), greedy.
    Difference: its code maps tokens between different tokenizers by their text, which is refused here.

    Raises: InputError for models with other vocabularies, top_k < 1 or a weight that is not finite.
    """

    def __init__(self, base: LocalPolicy, personal: LocalPolicy, reference: LocalPolicy | None = None, *, top_k: int = 10, weight: float = 0.8) -> None:
        if top_k < 1:
            raise InputError(f"GuidedPolicy.top_k must be at least 1, got {top_k!r}")
        if not math.isfinite(weight):
            raise InputError(f"GuidedPolicy.weight must be finite, got {weight!r}; 0 switches the guidance off")
        guides = [personal] if reference is None else [personal, reference]
        for guide in guides:
            if guide.tokenizer.get_vocab() != base.tokenizer.get_vocab():
                raise InputError(
                    f"{guide.fingerprint} and {base.fingerprint} have different vocabularies, so that their tokens cannot be compared; "
                    "give models with one tokenizer (a tuned model and the one that it was tuned from)"
                )
        self.base, self.personal, self.reference, self.top_k, self.weight = base, personal, reference, top_k, weight
        self._sampler = _Sampler(base, guides, top_k=top_k, weight=weight)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all models, and of how they are mixed."""
        reference = "" if self.reference is None else self.reference.fingerprint
        return "guided:" + content_hash(self.base.fingerprint, self.personal.fingerprint, reference, str(self.top_k), repr(self.weight))

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n continuations of an open prefix; see `LocalPolicy.sample`."""
        with metered() as ledger:
            drawn = await self._sampler.sample(prefix, n, until=until, sampling=sampling, draw=draw)
        charge(self._read(ledger.usage), paid=self._read(ledger.paid))
        return drawn

    async def resume(self, prefix: Trajectory, broken: Step, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Trajectory:
        """The step that was broken off, whole; see `LocalPolicy.resume`."""
        with metered() as ledger:
            whole = await self._sampler.resume(prefix, broken, sampling=sampling, draw=draw)
        charge(self._read(ledger.usage), paid=self._read(ledger.paid))
        return whole

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most that `sample` charges."""
        most = self._sampler.price(prefix, n, until=until, sampling=sampling, draw=draw)
        return most + self._read(most)

    def prompt_tokens(self, problem: Problem) -> tuple[int, ...]:
        """The ids that the models read before the first step."""
        return self._sampler.prompt_tokens(problem)

    def close(self) -> None:
        """Finish what is running and end the sampler's thread; the models' own policies stay open."""
        self._sampler.close()

    def _read(self, usage: Usage) -> Usage:
        """What the other models read while the base is charged `usage`; their FLOPs are in it already."""
        n = 1 if self.reference is None else 2
        return Usage(reward_tokens=n * (usage.policy_prefill + usage.policy_tokens), reward_cached=n * usage.policy_cached)


class _Sampler(LocalPolicy):
    """The base's sampler over a decoder of all models."""

    def __init__(self, base: LocalPolicy, guides: Sequence[LocalPolicy], *, top_k: int, weight: float) -> None:
        rendering = base.rendering
        super().__init__(
            base.model,
            base.tokenizer,
            template=rendering.template,
            separator=rendering.separator,
            continuation=rendering.continuation,
            system=rendering.system,
            max_rows=base._max_rows,
            prefix_bytes=base._prefix_bytes,
            prefill_tokens=base._prefill_tokens,
            folder=base._folder,
        )
        self._guides: list[Any] = [guide.model for guide in guides]
        self._top_k, self._weight = top_k, weight
        known = [length for model in (base.model, *self._guides) if (length := context_length(model)) is not None]
        self.context = min(known, default=None)

    def _make_pool(self) -> Pool:
        decoders = [choose_decoder(model, prefix_bytes=self._prefix_bytes, prefill_tokens=self._prefill_tokens) for model in (self.model, *self._guides)]
        reference = decoders[2] if len(decoders) == 3 else None
        return Pool(GuidedDecoder(decoders[0], decoders[1], reference, top_k=self._top_k, weight=self._weight), self.rendering, max_rows=self._max_rows)

    def _flops(self, start: int, end: int) -> int:
        return super()._flops(start, end) + sum(2 * active_parameters(model) * (end - start) + attention_flops(model, start, end) for model in self._guides)
