"""LocalPolicy: any transformers causal language model as a policy, sampled by our own batched sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from stepward.core import ContextOverflow, InputError, Problem, Sampling, Step, TokenLogprobs, Trajectory, Until, Usage, charge, content_hash
from stepward.core.price import room
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.engine.reader.query import Query, Reading
from stepward.policies.broken_steps import BrokenStep, BrokenSteps
from stepward.policies.checkpoint import first_line, load_tokenizer, quiet_transformers
from stepward.policies.sampler.choose import choose_decoder
from stepward.policies.sampler.likelihood import ENTROPY, LOGPROB, Likelihood, likelihood_of
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.rendering import Continuation, Rendered, Rendering, Template
from stepward.policies.sampler.request import Draw, Request
from stepward.policies.sampler.weights import Flops, context_length, weights_fingerprint
from stepward.policies.sampler.worker import Worker

_DEFAULT_SEPARATOR = "\n\n"
_READ_TOKENS = 4096


class LocalPolicy:
    """Writes steps with a causal language model; `from_pretrained` loads one.

    What the model reads: the prompt (chat template: the user's turn, the solution being the open assistant turn; raw: prompt + "\\n"), then the
    steps, joined as token ids. `template` and `separator` default to the checkpoint's own, config.json's `{"stepward": {"template": "raw",
    "separator": "\\n"}}`, else to the chat template where the tokenizer has one, and to a blank line.

    A step ends when its text holds the separator; `Step.separator` is everything from there to the end of the white space in that token. What a
    token holds beyond that belongs to the next step (Until.END) or is dropped and written anew (Until.STEP). End of text finishes the trajectory;
    `max_step_tokens`, `max_tokens`, `max_steps` and the model's context truncate it. When end of text comes first thing after a separator, no
    empty step is added: the prefix is returned finished. `Step.n_tokens` and `Step.logprob` include separator and end of text; the log-probability
    is that of the distribution drawn from, after temperature, top-k and top-p (0 for greedy). `logprobs`, `choice_logprobs` and `entropies` read the
    model's own; they go through `engine.reader`, which computes prefixes that requests share once, also across requests, and makes no table of logits.

    Prefixes are tokenised step by step from their text (continuation "text"), so that a sample is a function of the text alone: a journalled run that
    is resumed in another process draws what it would have drawn. With "ids" a prefix that was sampled here is continued from the very ids that were
    sampled while those are remembered, which can be another spelling of the same text: nearer to the model, and not reproducible elsewhere.

    Samples do not depend on what else is running, floating-point ties aside: draw d of a prefix uses noise of (seed, prefix key, d, position). Draws that have
    written the same tokens so far go through the model once, and what was sampled is remembered for the steps that follow it (`prefix_bytes`).

    Usage: a request with draw 0 pays for its prefix as prefill, every other draw of that prefix counts it as cached, whichever came first; so that
    costs are the same in every run. What is read pays for all of its tokens. In `Ledger.paid` both pay for those tokens only that nothing had computed
    before. FLOPs = 2 x parameters (input embedding excluded) x tokens, plus attention.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template: Template | None = None,
        separator: str | None = None,
        continuation: Continuation = "text",
        system: str = "",
        max_rows: int = 128,
        prefix_bytes: int = 1 << 28,
        prefill_tokens: int | None = None,
        folder: Path | None = None,
    ) -> None:
        for name, value in (("max_rows", max_rows), ("prefill_tokens", prefill_tokens)):
            if value is not None and value < 1:
                raise InputError(f"LocalPolicy {name} must be at least 1, got {value!r}")
        own = getattr(model.config, "stepward", None) or {}
        self.model, self.tokenizer = model.eval(), tokenizer
        self.rendering = Rendering(
            tokenizer,
            template=template or own.get("template") or ("chat" if getattr(tokenizer, "chat_template", None) else "raw"),
            separator=separator if separator is not None else own.get("separator", _DEFAULT_SEPARATOR),
            eos_ids=_eos_ids(model, tokenizer),
            continuation=continuation,
            system=system,
        )
        self.context = context_length(model)
        self._folder = folder
        self._max_rows, self._prefix_bytes, self._prefill_tokens = max_rows, prefix_bytes, prefill_tokens
        self._flops_of = Flops(model)
        self._likelihood: Likelihood | None = None  # made and used in the worker's thread
        self._worker = Worker(self._make_pool, self._read)
        self._broken_steps = BrokenSteps()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device = "cpu",
        template: Template | None = None,
        separator: str | None = None,
        continuation: Continuation = "text",
        system: str = "",
        max_rows: int = 128,
        prefix_bytes: int = 1 << 28,
        prefill_tokens: int | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load a folder or hub id. `dtype` None: float32 on the CPU, the checkpoint's own elsewhere. `prefix_bytes` bounds what is kept of computed prefixes,
        in sampling and in reading each; `prefill_tokens` how many tokens of prefixes are computed at once (None: 4,096; in sampling on a processor 512,
        which is faster there).

        Raises: InputError where there is no such model, or its files lack some of the weights that write text.
        """
        from transformers import AutoModelForCausalLM
        from transformers.utils import cached_file

        place = torch.device(device)
        chosen = dtype if dtype is not None else (torch.float32 if place.type == "cpu" else "auto")
        try:
            with quiet_transformers():
                tokenizer = load_tokenizer(source, revision=revision)
                model, info = AutoModelForCausalLM.from_pretrained(str(source), dtype=chosen, revision=revision, output_loading_info=True)
                config_file = cached_file(str(source), "config.json", revision=revision)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot load a causal language model from {str(source)!r}: {first_line(error)}; give a folder with config.json or a hub id"
            ) from error
        if missing := sorted(info["missing_keys"]):
            raise InputError(f"{str(source)!r} lacks trained weights for {', '.join(missing[:4])}; it is not a causal language model")
        return cls(
            model.to(place),
            tokenizer,
            template=template,
            separator=separator,
            continuation=continuation,
            system=system,
            max_rows=max_rows,
            prefix_bytes=prefix_bytes,
            prefill_tokens=prefill_tokens,
            folder=None if config_file is None else Path(config_file).parent,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, weights, number format, tokenizer and rendering; not of where they lie."""
        return "local:" + content_hash(weights_fingerprint(self.model, self._folder), self.rendering.fingerprint)

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n continuations of an open prefix, one step or to the end.

        Raises: InputError for an ended prefix or n < 1; ContextOverflow for a prefix that leaves no room in the model's context; RequestFailed
        when the model fails.
        """
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        if n < 1:
            raise InputError(f"sample needs n >= 1, got {n!r}")
        rendered = self.rendering.render(prefix)
        self._check_room(len(rendered.ids), prefix)
        if len(prefix) >= sampling.max_steps or rendered.n_written >= sampling.max_tokens:
            return [Trajectory(prefix.problem, prefix.steps, truncated=True)] * n
        request = self._request(prefix, rendered, n, until=until, sampling=sampling, draw=draw)
        draws = await self._worker.sample(request)
        charge(self._usage(request, draws), paid=self._paid(request, draws))
        for index, written in enumerate(draws):
            if until is Until.STEP and written.truncated and written.steps and not written.steps[-1].separator:
                self._broken_steps.keep(prefix.key, sampling, draw + index, BrokenStep(written.steps[-1].text, written.tokens, written.logprobs))
        return [self._trajectory(prefix, written) for written in draws]

    async def resume(self, prefix: Trajectory, broken: Step, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Trajectory:
        """The step that draw `draw` of `prefix` began with `broken` under a smaller `max_step_tokens`, whole: exactly what that draw writes without the limit.

        It goes on behind the very token ids that were sampled, and pays for the rest. Where they are no longer remembered (another process) the step is
        written once more from its start; `Usage` says what the rest costs all the same, and `Ledger.paid` the whole.

        Raises: as `sample`.
        """
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        rendered = self.rendering.render(prefix)
        begun = self._broken_steps.find(prefix.key, sampling, draw, broken.text)
        n_begun = broken.n_tokens or 0 if begun is None else len(begun.tokens)
        n_known = len(rendered.ids) + n_begun
        if n_begun >= room(prefix, rendered.n_written, until=Until.STEP, sampling=sampling) or (self.context is not None and n_known >= self.context):
            return prefix.extend(broken, truncated=True)
        request = self._request(prefix, rendered, 1, until=Until.STEP, sampling=sampling, draw=draw, begun=begun)
        [written] = await self._worker.sample(request)
        n_new = max(0, written.n_tokens - n_begun)
        rest = Usage(policy_tokens=n_new, policy_cached=n_known, calls=1, flops=self._flops(n_known, n_known + n_new))
        charge(rest, paid=self._paid(request, [written], n_begun=0 if begun is None else n_begun))
        return self._trajectory(prefix, written)

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most that `sample` charges: what it does when every draw is cut off by its limit. Raises what `sample` raises for such a prefix."""
        rendered = self.rendering.render(prefix)
        n_prefix = len(rendered.ids)
        self._check_room(n_prefix, prefix)
        longest = room(prefix, rendered.n_written, until=until, sampling=sampling)
        longest = longest if self.context is None else min(longest, self.context - n_prefix)
        paid = n_prefix if draw == 0 and longest else 0
        flops = self._flops(0, paid) + n * self._flops(n_prefix, n_prefix + longest)
        return Usage(policy_tokens=n * longest, policy_prefill=paid, policy_cached=n * n_prefix - paid, calls=1, flops=flops)

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs:
        """The model's own log-probability (temperature 1, nothing cut) of every token written, one tuple a step.

        A finished trajectory's last step includes its end of text. Observations are read and not counted.

        Raises: ContextOverflow for a trajectory longer than the model's context; RequestFailed when the model fails.
        """
        rendered = self.rendering.render(trajectory)
        ids = rendered.ids
        closing = self._closing(trajectory)
        self._check_room(len(ids) + len(closing) - 1, trajectory)
        if not trajectory.steps:
            return TokenLogprobs(())
        [reading] = await self._worker.read(_query(ids + closing, len(rendered.prompt)))
        self._charge([reading], len(ids) + len(closing), [0])
        flat = reading.values[:, LOGPROB].tolist()
        steps = _by_step(rendered, flat)
        return TokenLogprobs((*steps[:-1], steps[-1] + tuple(flat[len(ids) - len(rendered.prompt) :])))

    async def choice_logprobs(self, prefix: Trajectory, choices: Sequence[str]) -> tuple[float, ...]:
        """Natural-log probability of every choice right after an open prefix: the sum over its tokens, as `logprobs` has it. The prefix is read once.

        Raises: InputError for an ended prefix; ContextOverflow where the prefix and a choice do not fit; RequestFailed when the model fails.
        """
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        ids = self.rendering.render(prefix).ids
        texts = [self.rendering.encode(choice) for choice in choices]
        self._check_room(len(ids) + max(map(len, texts), default=0) - 1, prefix)
        if not texts:
            return ()
        readings = await self._worker.read(*(_query(ids + text, len(ids)) for text in texts))
        self._charge(readings, len(ids), [len(text) for text in texts])
        return tuple(math.fsum(reading.values[:, LOGPROB]) for reading in readings)

    async def entropies(self, trajectory: Trajectory) -> tuple[tuple[float, ...], ...]:
        """H = -sum_v p(v) log p(v) (nats) of the model's own distribution (temperature 1) before every token of the steps, one tuple a step.

        Observations are read and not counted; nor is the end of text.

        Raises: ContextOverflow for a trajectory longer than the model's context; RequestFailed when the model fails.
        """
        rendered = self.rendering.render(trajectory)
        self._check_room(len(rendered.ids) - 1, trajectory)
        if len(rendered.ids) == len(rendered.prompt):
            return ((),) * len(trajectory)
        [reading] = await self._worker.read(_query(rendered.ids, len(rendered.prompt)))
        self._charge([reading], len(rendered.ids), [0])
        return _by_step(rendered, reading.values[:, ENTROPY].tolist())

    def prompt_tokens(self, problem: Problem) -> tuple[int, ...]:
        """The ids that the model reads before the first step."""
        return self.rendering.prompt(problem)

    def close(self) -> None:
        """Finish what is running and end the sampler's thread."""
        self._worker.close()

    def _make_pool(self) -> Pool:
        decoder = choose_decoder(self.model, prefix_bytes=self._prefix_bytes, prefill_tokens=self._prefill_tokens)
        return Pool(decoder, self.rendering, max_rows=self._max_rows)

    def _read(self, queries: Sequence[Query]) -> list[Reading]:
        if self._likelihood is None:
            self._likelihood = likelihood_of(self.model, cache_bytes=self._prefix_bytes, max_batch_tokens=self._prefill_tokens or _READ_TOKENS)
        return self._likelihood(queries)

    def _closing(self, trajectory: Trajectory) -> tuple[int, ...]:
        """The end of text that a finished trajectory's policy wrote last."""
        if not (trajectory.finished and trajectory.steps and self.rendering.eos_ids) or trajectory.steps[-1].observation:
            return ()
        own = self.tokenizer.eos_token_id
        return (int(own) if own in self.rendering.eos_ids else min(self.rendering.eos_ids),)

    def _check_room(self, n_tokens: int, trajectory: Trajectory) -> None:
        if self.context is not None and n_tokens >= self.context:
            raise ContextOverflow(
                f"the prompt and {len(trajectory)} steps of problem {trajectory.problem.id!r} take {n_tokens} tokens, but the model's context is "
                f"{self.context}; shorten the prompt or use a model with a longer context"
            )

    def _trajectory(self, prefix: Trajectory, draw: Draw) -> Trajectory:
        steps = [Step(written.text, written.separator, n_tokens=written.n_tokens, logprob=written.logprob) for written in draw.steps]
        grown = prefix.extend(*steps, finished=draw.finished, truncated=draw.truncated)
        for key, step, written in zip(grown.keys[len(prefix) + 1 :], steps, draw.steps, strict=True):
            if written.ids is not None and step.written:
                self.rendering.remember(key, written.ids)
        return grown

    def _request(
        self, prefix: Trajectory, rendered: Rendered, n: int, *, until: Until, sampling: Sampling, draw: int, begun: BrokenStep | None = None
    ) -> Request:
        return Request(
            prompt=rendered.prompt,
            ids=rendered.ids,
            key=prefix.key,
            n_steps=len(prefix),
            n_tokens=rendered.n_written,
            n=n,
            draw=draw,
            until=until,
            sampling=sampling,
            max_length=self.context if self.context is not None else len(rendered.ids) + sampling.max_tokens,
            begun=() if begun is None else begun.tokens,
            begun_logprobs=() if begun is None else begun.logprobs,
        )

    def _flops(self, start: int, end: int) -> int:
        return self._flops_of(start, end)

    def _charge(self, readings: Sequence[Reading], n_shared: int, n_more: Sequence[int]) -> None:
        """For one request that reads `n_shared` tokens once and, after them, `n_more` tokens in each reading."""
        flops = self._flops(0, n_shared) + sum(self._flops(n_shared, n_shared + n) for n in n_more)
        usage = Usage(policy_prefill=n_shared + sum(n_more), calls=1, flops=flops)
        n_computed = sum(reading.n_computed for reading in readings)
        spent = sum(self._flops(reading.n_cached, reading.n_cached + reading.n_computed) for reading in readings)
        charge(usage, paid=Usage(policy_prefill=n_computed, policy_cached=max(0, usage.policy_prefill - n_computed), calls=1, flops=spent))

    def _usage(self, request: Request, draws: list[Draw]) -> Usage:
        n_prefix = len(request.ids)
        paid = n_prefix if request.draw == 0 else 0
        flops = self._flops(0, paid) + sum(self._flops(n_prefix, n_prefix + draw.n_tokens) for draw in draws)
        written = sum(draw.n_tokens for draw in draws)
        return Usage(policy_tokens=written, policy_prefill=paid, policy_cached=request.n * n_prefix - paid, calls=1, flops=flops)

    def _paid(self, request: Request, draws: list[Draw], *, n_begun: int = 0) -> Usage:
        """What a request cost now: of its prefix (and what was begun of its one draw) only what no other draw had computed before."""
        n_prefix = len(request.ids) + n_begun
        computed = sum(draw.n_prefilled for draw in draws)
        flops = sum(self._flops(n_prefix - draw.n_prefilled, n_prefix) + self._flops(n_prefix, n_prefix + draw.n_tokens - n_begun) for draw in draws)
        written = sum(draw.n_tokens - n_begun for draw in draws)
        return Usage(policy_tokens=written, policy_prefill=computed, policy_cached=max(0, request.n * n_prefix - computed), calls=1, flops=flops)


def _query(ids: tuple[int, ...], start: int) -> Query:
    """To be read from `start` on."""
    return Query(np.array(ids, dtype=np.int64), np.arange(start, len(ids)))


def _by_step(rendered: Rendered, numbers: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Numbers of the tokens behind the prompt as one tuple a step, without those of observations."""
    steps, at = [], 0
    for step, observed in zip(rendered.steps, rendered.observed, strict=True):
        steps.append(tuple(numbers[at : at + len(step) - observed]))
        at += len(step)
    return tuple(steps)


def _eos_ids(model: Any, tokenizer: Any) -> set[int]:
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config.get_text_config(), tokenizer):
        value = getattr(source, "eos_token_id", None)
        found.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    return found
