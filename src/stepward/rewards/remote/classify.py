"""ClassifyModel: sequence classification, /classify of vLLM and /v1/classify of SGLang, one sequence a step or one a solution."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import Granularity, InputError, RequestFailed
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded
from stepward.rewards.remote.activation import Activation, Sends
from stepward.rewards.remote.model import Answers, RemoteModel, prefixes
from stepward.rewards.remote.rows import Floats, ordered, rows_of
from stepward.rewards.remote.server import Server, spent_by

Kind = Literal["vllm", "sglang"]


class ClassifyModel(RemoteModel):
    """Scores from a server that classifies whole sequences, read at their last token.

    granularity="step": each step's score is that of the sequence up to where the convention reads it, all in one request to vLLM (shortest first, so that
    its prefix cache computes every token once), one request a step to SGLang, which takes one sequence of ids at a time. granularity="outcome": the
    sequence up to the last step only; the other steps abstain.

    vLLM is asked for logits and found out where it sends probabilities all the same. SGLang always sends softmax probabilities, so it cannot serve a head
    with one output there, and answers [1.0] where it failed; both are refused.
    """

    rereads = True

    def __init__(
        self, server: Server, tokenizer: Any, convention: Convention, *, kind: Kind = "vllm", granularity: Granularity = "step", sends: Sends = "auto"
    ) -> None:
        super().__init__(server, tokenizer, convention)
        if kind not in get_args(Kind) or granularity not in ("step", "outcome"):
            raise InputError(f"ClassifyModel reads steps or outcomes from vllm or sglang, got kind={kind!r} and granularity={granularity!r}")
        if convention.head == "tokens":
            raise InputError(f"convention {convention.name!r} reads vocabulary pieces, which a classification server does not have; ask for completions")
        if kind == "sglang" and convention.n_outputs == 1:
            raise InputError(f"convention {convention.name!r} reads one value, and SGLang's /v1/classify takes a softmax over it, which is 1 always")
        if kind == "sglang" and server.send != "ids":
            raise InputError("SGLang puts a BOS before texts, which the convention may not have; it takes token ids: leave send='ids'")
        self.kind, self.granularity = kind, granularity
        self.protocol = f"{kind}/classify/{granularity}"
        self._activation = Activation("probabilities" if kind == "sglang" else sends)

    async def ask(self, parts: Sequence[Encoded], *, key: str) -> Answers:
        prompts = prefixes(parts)
        if self.kind == "vllm":
            outputs, answers = await self._activation.logits(lambda use_activation: self._rows(prompts, key=key, use_activation=use_activation))
            return Answers(outputs, spent_by(answers))
        singly = await asyncio.gather(*(self._singly(prompt, key=f"{key} {place}") for place, prompt in enumerate(prompts)))
        return Answers(np.concatenate([outputs for outputs, _ in singly]), spent_by([answer for _, answers in singly for answer in answers]))

    async def _singly(self, prompt: list[int], *, key: str) -> tuple[Floats, list[dict[str, Any]]]:
        return await self._activation.logits(lambda _: self._rows([prompt], key=key))

    async def _rows(self, prompts: list[list[int]], *, key: str, use_activation: bool | None = None) -> tuple[Floats, dict[str, Any]]:
        """One row a prompt, and the whole answer."""

        def body(given: list[Any]) -> dict[str, Any]:
            if self.kind == "sglang":
                return {"input": given[0]}
            return {"input": given, "use_activation": use_activation, "add_special_tokens": False}

        answer = await self.server.ask("classify" if self.kind == "vllm" else "v1/classify", prompts, body, self.tokenizer, key=key)
        width = self.convention.n_outputs
        rows = rows_of([item.get("probs") for item in ordered(answer, n=len(prompts))], n_columns=width)
        if rows.shape[1] != width:
            raise RequestFailed(f"the server has {rows.shape[1]} classes, the convention reads {width}; is it serving another model?")
        return rows, answer
