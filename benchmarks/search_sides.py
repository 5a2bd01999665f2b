"""The sides that the search benchmark compares with: transformers in a loop over problems, and its_hub driving the same two models. Not stepward's own side.

Both write with `Writer` (transformers' `generate`) and score with `Judge` (one padded pass of transformers' token classifier), as a local script does. Each
generate call is given what makes it fast: token ids of the separator as ends of text in place of stop strings, and one row a candidate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stepward.engine.batching import Batcher

PIP = "pip install its_hub"


@dataclass(frozen=True)
class Limits:
    """The job: 4x4 keeps `width` prefixes and writes `width` x `expansions` candidates a level; best-of-n writes as many solutions."""

    width: int = 4
    expansions: int = 4
    temperature: float = 1.0
    max_step_tokens: int = 64
    max_tokens: int = 256
    max_steps: int = 24

    @property
    def n(self) -> int:
        return self.width * self.expansions


@dataclass
class Solution:
    """What a side chose for a problem."""

    text: str
    finished: bool


class Writer:
    """transformers' `generate` on texts: to the end of text, or to the next separator. Counts what it wrote and what it read again."""

    def __init__(self, folder: Path, separator: str, limits: Limits) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.limits, self.end = limits, self.tokenizer.eos_token
        [self._separator_id] = self.tokenizer(separator, add_special_tokens=False)["input_ids"]
        self._eos_id = self.tokenizer.eos_token_id
        self.n_written = self.n_prefilled = 0

    def __call__(self, texts: Sequence[str], *, one_step: bool) -> list[str]:
        """What follows each text, with the separator or the end-of-text mark that ended it (neither where a limit did)."""
        rows = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        width = max(map(len, rows))
        ids = torch.tensor([[self._eos_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        ends = [self._eos_id, self._separator_id] if one_step else [self._eos_id]
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=self.limits.temperature, top_k=0, top_p=1.0, eos_token_id=ends,
                max_new_tokens=self.limits.max_step_tokens if one_step else self.limits.max_tokens, pad_token_id=self._eos_id,
            )[:, width:]  # fmt: skip
        is_end = torch.isin(written, torch.tensor(ends))
        lengths = ((is_end.cumsum(-1) - is_end.long()) == 0).sum(-1).tolist()  # up to and including the first end
        self.n_written += sum(lengths)
        self.n_prefilled += sum(map(len, rows))
        return list(self.tokenizer.batch_decode([row[:length] for row, length in zip(written.tolist(), lengths, strict=True)], skip_special_tokens=False))


class Judge:
    """The smallest chance of a right step in each solution, from one padded pass over their texts; `separator` ends each step."""

    def __init__(self, folder: Path, separator: str) -> None:
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        self.model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.separator = separator
        [self._marker] = self.tokenizer(separator, add_special_tokens=False)["input_ids"]
        self.n_read = 0

    def __call__(self, solutions: Sequence[tuple[str, str]]) -> list[float]:
        """`solutions` are pairs of a problem and the text of a solution."""
        heads = [prompt + self.separator for prompt, _ in solutions]
        rows = self.tokenizer([head + text.rstrip(self.separator) + self.separator for head, (_, text) in zip(heads, solutions, strict=True)])["input_ids"]
        starts = [len(ids) for ids in self.tokenizer(heads)["input_ids"]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._marker] * (width - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        place = torch.arange(width)
        self.n_read += sum(map(len, rows))
        with torch.inference_mode():
            right = self.model(input_ids=ids, attention_mask=(place < lengths).long(), use_cache=False).logits.float().softmax(-1)[..., 1]
        read = (ids == self._marker) & (place >= torch.tensor(starts)[:, None]) & (place < lengths)
        return list(right.masked_fill(~read, 1.0).amin(-1).tolist())


# The loop over problems


@dataclass
class Beam:
    text: str = ""
    score: float = 0.0
    n_steps: int = 0
    ended: bool = False
    finished: bool = False


def beam_problem(prompt: str, writer: Writer, judge: Judge, limits: Limits) -> Solution:
    """Step beam of one problem: a batch of width x expansions rows a level, one pass of the judge for what is new; ended beams keep their place."""
    kept, n_copies = [Beam()], limits.n
    ends: list[Beam] = []
    while alive := [beam for beam in kept if not beam.ended]:
        parents = [beam for beam in alive for _ in range(n_copies)]
        n_copies = limits.expansions
        steps = writer([f"{prompt}\n{beam.text}" for beam in parents], one_step=True)
        grown = [_extended(beam, step, writer, limits) for beam, step in zip(parents, steps, strict=True)]
        for beam, score in zip(grown, judge([(prompt, beam.text) for beam in grown]), strict=True):
            beam.score = score
        ends += [beam for beam in grown if beam.ended]
        kept = sorted([*(beam for beam in kept if beam.ended), *grown], key=lambda beam: -beam.score)[: limits.width]
    best = max(ends, key=lambda beam: beam.score)
    return Solution(best.text, best.finished)


def best_of_problem(prompt: str, writer: Writer, judge: Judge, limits: Limits) -> Solution:
    """Best-of-n of one problem: one generate call with n rows, one pass of the judge."""
    written = writer([f"{prompt}\n"] * limits.n, one_step=False)
    texts = [text.removesuffix(writer.end) for text in written]
    scores = judge([(prompt, text) for text in texts])
    best = max(range(limits.n), key=scores.__getitem__)
    return Solution(texts[best], written[best].endswith(writer.end))


def _extended(beam: Beam, step: str, writer: Writer, limits: Limits) -> Beam:
    finished = step.endswith(writer.end)
    n_steps = beam.n_steps + 1
    return Beam(beam.text + step.removesuffix(writer.end), 0.0, n_steps, finished or not step.endswith("\n") or n_steps >= limits.max_steps, finished)


def loop(solve: Callable[[str, Writer, Judge, Limits], Solution], prompts: Sequence[str], writer: Writer, judge: Judge, limits: Limits) -> list[Solution]:
    """One problem after the other."""
    return [solve(prompt, writer, judge, limits) for prompt in prompts]


# its_hub


def its_hub_version() -> str | None:
    """The version that is installed, or None."""
    from importlib import metadata

    try:
        return metadata.version("its_hub")
    except metadata.PackageNotFoundError:
        return None


def its_hub_side(kind: str, prompts: Sequence[str], writer: Writer, judge: Judge, limits: Limits, *, at_once: bool, rows: int) -> list[Solution]:
    """its_hub's own BeamSearch or BestOfN with the models behind its abstract classes.

    `at_once`: all problems are awaited together, and what they ask for at the same time is merged into batches of at most `rows`, beyond what a script
    that follows its README has; else `ainfer` is awaited problem by problem, each of its requests a batch.
    """
    from its_hub.core.algorithms.beam_search import BeamSearch
    from its_hub.core.algorithms.bon import BestOfN
    from its_hub.core.lms.step_generation import StepGeneration
    from its_hub.core.orchestrator import LMOrchestrator

    language_model, process_model, outcome_model, close = _its_hub_models(writer, judge, rows)
    if kind == "beam":
        # Its limit of steps is tested before the step that is being written is counted.
        steps = StepGeneration(limits.max_steps - 1, "\n", writer.end, temperature=limits.temperature, include_stop_str_in_output=True)
        search: Any = BeamSearch(steps, process_model, limits.width)
    else:
        search = BestOfN(outcome_model, LMOrchestrator(max_concurrency=-1))

    async def solve(prompt: str) -> Solution:
        found = await search.ainfer(language_model, prompt, limits.n, return_response_only=False)
        text = found.the_one["content"]
        return Solution(text.removesuffix(writer.end), True)

    async def run() -> list[Solution]:
        if at_once:
            return list(await asyncio.gather(*map(solve, prompts)))
        return [await solve(prompt) for prompt in prompts]

    try:
        return asyncio.run(run())
    finally:
        close()


def _its_hub_models(writer: Writer, judge: Judge, rows: int) -> tuple[Any, Any, Any, Callable[[], None]]:
    """The two models as its_hub wants them. One batcher each; both run in one thread, so that its processor threads are not counted twice."""
    from its_hub.api import AbstractLanguageModel, AbstractOutcomeRewardModel, AbstractProcessRewardModel

    thread = ThreadPoolExecutor(1)

    def write(requests: Sequence[tuple[str, bool]]) -> list[str | Exception]:
        results: dict[int, str] = {}
        for one_step in (True, False):
            chosen = [index for index, request in enumerate(requests) if request[1] is one_step]
            if chosen:
                texts = thread.submit(writer, [requests[index][0] for index in chosen], one_step=one_step).result()
                results.update(zip(chosen, texts, strict=True))
        return [results[index] for index in range(len(requests))]

    written = Batcher[tuple[str, bool], str](write, max_batch=rows)
    judged = Batcher[tuple[str, str], float](lambda requests: list(thread.submit(judge, requests).result()), max_batch=rows)

    class Policy(AbstractLanguageModel):  # type: ignore[misc]
        async def agenerate_single(self, messages: Any, stop: Any = None, **_: Any) -> dict[str, str]:
            text = messages[0].content + "\n" + "".join(message.content for message in messages[1:])
            return {"role": "assistant", "content": await written((text, stop is not None))}

        async def agenerate(self, messages: Any, stop: Any = None, **_: Any) -> Any:
            if messages and not isinstance(messages[0], list):
                return await self.agenerate_single(messages, stop)
            return list(await asyncio.gather(*(self.agenerate_single(one, stop) for one in messages)))

    class Process(AbstractProcessRewardModel):  # type: ignore[misc]
        async def ascore(self, prompt_or_messages: Any, steps: Any) -> list[float]:
            return list(await asyncio.gather(*(judged((prompt_or_messages, text.removesuffix(writer.end))) for text in steps)))

        def score(self, prompt_or_messages: Any, steps: Any) -> list[float]:
            return asyncio.run(self.ascore(prompt_or_messages, steps))

    class Outcome(AbstractOutcomeRewardModel):  # type: ignore[misc]
        async def ascore(self, messages: Any, orchestrator: Any = None, **_: Any) -> list[float]:  # noqa: ARG002
            return list(await asyncio.gather(*(judged((one[0].content, one[-1].content.removesuffix(writer.end))) for one in messages)))

        def score(self, messages: Any, **_: Any) -> list[float]:
            return asyncio.run(self.ascore(messages))

    def close() -> None:
        written.close()
        judged.close()
        thread.shutdown()

    return Policy(), Process(), Outcome(), close
