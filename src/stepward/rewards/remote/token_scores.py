"""TokenScoresModel: endpoints that give the probabilities of chosen next tokens, SGLang's /v1/score and vLLM's /generative_scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import InputError, RequestFailed
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded
from stepward.rewards.remote.activation import logits_of
from stepward.rewards.remote.model import Answers, Floats, RemoteModel, prefixes
from stepward.rewards.remote.rows import ordered, rows_of
from stepward.rewards.remote.server import Server, spent_by

Kind = Literal["sglang", "vllm"]


class TokenScoresModel(RemoteModel):
    """Step scores of a language model that says its verdict in one token, all steps of a solution in one request.

    The request is a query and items, scored as query + item: the query is what comes before the first place that is read, item t the rest up to
    where step t is read. SGLang answers with the softmax over the convention's tokens. vLLM answers with the share of the first token only, so it can serve
    conventions with two tokens.
    """

    rereads = True
    reserved = 1  # for the token that is written

    def __init__(self, server: Server, tokenizer: Any, convention: Convention, *, token_ids: Sequence[int], kind: Kind = "sglang") -> None:
        super().__init__(server, tokenizer, convention)
        if kind not in get_args(Kind):
            raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        if convention.head != "tokens" or len(token_ids) != convention.n_outputs:
            raise InputError(
                f"a score endpoint gives probabilities of tokens, and convention {convention.name!r} reads {convention.head!r}; use another protocol"
            )
        if kind == "vllm" and len(token_ids) != 2:
            raise InputError(f"vLLM's /generative_scoring tells the first token's share only, and convention {convention.name!r} reads {len(token_ids)} tokens")
        if server.send != "ids":
            raise InputError(f"{kind} takes token ids here; leave send='ids'")
        self.token_ids, self.kind = tuple(token_ids), kind
        self.protocol = f"{kind}/token-scores"

    async def ask(self, parts: Sequence[Encoded], *, key: str) -> Answers:
        prompts = prefixes(parts)
        n_shared = _shared(prompts)

        def body(given: list[Any]) -> dict[str, Any]:
            items = [prompt[n_shared:] for prompt in given]
            asked = {"query": given[0][:n_shared], "items": items, "label_token_ids": list(self.token_ids), "apply_softmax": True, "item_first": False}
            return asked | ({"add_special_tokens": False} if self.kind == "vllm" else {})

        answer = await self.server.ask("v1/score" if self.kind == "sglang" else "generative_scoring", prompts, body, self.tokenizer, key=key)
        probs = self._probs(answer, len(prompts))
        return Answers(logits_of(probs), spent_by([answer]))

    def _probs(self, answer: dict[str, Any], n: int) -> Floats:
        """[R, K] that sum to one in each row; NaN in a row that does not, for then the server could not tell."""
        if self.kind == "vllm":
            first = rows_of([item.get("score") for item in ordered(answer, n=n)], n_columns=1)
            probs = np.concatenate([first, 1.0 - first], axis=1)
        else:
            probs = rows_of(answer.get("scores"), n_columns=len(self.token_ids))
            if probs.shape[1] != len(self.token_ids):
                raise RequestFailed(f"the server scored {probs.shape[1]} tokens, it was asked for {len(self.token_ids)}")
        with np.errstate(invalid="ignore"):
            told = (probs >= 0.0).all(axis=1) & (np.abs(probs.sum(axis=1) - 1.0) < 1e-2)
        return np.where(told[:, None], probs, np.nan)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, so that at least one is left of each for its item."""
    shortest = min(map(len, prompts))
    count = 0
    while count < shortest - 1 and all(prompt[count] == prompts[0][count] for prompt in prompts):
        count += 1
    return count
