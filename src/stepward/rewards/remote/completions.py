"""CompletionsModel: models that answer with a token, read from the log-probabilities of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import InputError, RequestFailed
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded
from stepward.rewards.remote.model import Answers, Floats, RemoteModel, prefixes
from stepward.rewards.remote.server import Server, spent_by

Reading = Literal["next-token", "prompt"]
_TOP = 20  # log-probabilities a position that servers give unless configured otherwise
_BIAS = 100.0
_LARGEST = 1e300  # what is beyond is no logarithm, and integers of any size may come


class CompletionsModel(RemoteModel):
    """Step scores of a language model that says its verdict in one token (Math-Shepherd, RLHFlow): a softmax over the verdicts' logits alone.

    reading="next-token": the tokens up to where a step is read are the prompt, one token is written, and the log-probabilities of the convention's tokens at
    its place are read: all steps in one request, shortest first, so that the server's prefix cache computes every token once. reading="prompt": one
    prompt a solution with the log-probabilities of its own tokens (`prompt_logprobs`), which computes them once even without a cache, but over the whole
    vocabulary and only the 20 likeliest.

    Tokens must be named by id in the answer (vLLM, llama.cpp), for their texts are not unique. vLLM is asked for exactly these tokens
    (`logprob_token_ids`). Where one is still missing, it is asked for again with the same bias on all of them, which leaves their ratio as it is. What the
    server does not tell even then leaves the step unscored.
    """

    rereads = True
    reserved = 1  # for the token that is written

    def __init__(self, server: Server, tokenizer: Any, convention: Convention, *, token_ids: Sequence[int], reading: Reading = "next-token") -> None:
        super().__init__(server, tokenizer, convention)
        if reading not in get_args(Reading):
            raise InputError(f"reading must be one of {', '.join(get_args(Reading))}, got {reading!r}")
        if convention.head != "tokens" or len(token_ids) != convention.n_outputs:
            raise InputError(
                f"completions give log-probabilities of tokens, and convention {convention.name!r} reads {convention.head!r}; use another protocol"
            )
        self.token_ids, self.reading = tuple(token_ids), reading
        self.rereads = reading == "next-token"
        self.protocol = f"completions/{reading}"

    async def ask(self, parts: Sequence[Encoded], *, key: str) -> Answers:
        if self.reading == "prompt":
            outputs, answers = await self._from_prompts(parts, key)
        else:
            outputs, answers = np.full((sum(part.n_kept for part in parts), len(self.token_ids)), np.nan), []
        prompts = prefixes(parts)
        for bias in (False, True):
            missing = np.flatnonzero(np.isnan(outputs).any(axis=1))
            if len(missing):
                found, answer = await self._next_tokens([prompts[place] for place in missing], f"{key} {bias}", bias=bias)
                outputs[missing] = found
                answers.append(answer)
        lacking = f"the server does not tell the log-probabilities of {', '.join(map(repr, self.convention.tokens))} at this step by token id"
        return Answers(outputs, spent_by(answers), tuple(lacking if np.isnan(row).any() else None for row in outputs))

    async def _next_tokens(self, prompts: list[list[int]], key: str, *, bias: bool) -> tuple[Floats, dict[str, Any]]:
        """Log-probabilities of the convention's tokens after each prompt [R, K], NaN where they are not told, and the whole answer."""
        named = {"logprob_token_ids": list(self.token_ids)} if not bias else {"logit_bias": {str(index): _BIAS for index in self.token_ids}}

        def body(given: list[Any]) -> dict[str, Any]:
            written = {"max_tokens": 1, "temperature": 0.0, "logprobs": _TOP, "return_tokens_as_token_ids": True}
            return {"prompt": given, "add_special_tokens": False, **written, **named}

        answer = await self.server.ask("v1/completions", prompts, body, self.tokenizer, key=key)
        choices = _choices(answer, len(prompts))
        return np.array([self._row(_next_logprobs(choice)) for choice in choices]), answer

    async def _from_prompts(self, parts: Sequence[Encoded], key: str) -> tuple[Floats, list[dict[str, Any]]]:
        def body(given: list[Any]) -> dict[str, Any]:
            written = {"max_tokens": 1, "temperature": 0.0, "logprobs": _TOP, "return_tokens_as_token_ids": True}
            named = {"prompt_logprobs": _TOP, "logprob_token_ids": list(self.token_ids)}
            return {"prompt": given, "add_special_tokens": False, **written, **named}

        answer = await self.server.ask("v1/completions", [part.ids.tolist() for part in parts], body, self.tokenizer, key=key)
        rows = []
        for part, choice in zip(parts, _choices(answer, len(parts)), strict=True):
            told = choice.get("prompt_logprobs")
            if not isinstance(told, list) or len(told) != len(part):
                raise RequestFailed(f"the server's answer has no prompt_logprobs for each of {len(part)} tokens; use reading='next-token'")
            for place in part.read[part.kept].tolist():
                rows.append(self._row(_prompt_logprobs(told[place + 1]) if place + 1 < len(part) else _next_logprobs(choice)))
        return np.array(rows), [answer]

    def _row(self, logprobs: Mapping[int, float]) -> list[float]:
        return [logprobs.get(index, float("nan")) for index in self.token_ids]


def _choices(answer: Mapping[str, Any], n: int) -> list[Mapping[str, Any]]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        raise RequestFailed(f"the server's answer has no list of choices: {str(answer)[:200]}")
    if sorted(str(choice.get("index")) for choice in choices) != sorted(map(str, range(n))):
        raise RequestFailed(f"{n} prompts were sent and the server answered for {[choice.get('index') for choice in choices][:20]}")
    return sorted(choices, key=lambda choice: int(choice["index"]))


def _next_logprobs(choice: Mapping[str, Any]) -> dict[int, float]:
    """Token id to log-probability at the first place written, from vLLM's "token_id:ID" keys or from entries with an id; empty where there are none."""
    block = choice.get("logprobs")
    if not isinstance(block, Mapping):
        return {}
    top, content = block.get("top_logprobs"), block.get("content")
    if isinstance(top, list) and top and isinstance(top[0], Mapping):
        return _by_id((name.removeprefix("token_id:"), value) for name, value in top[0].items() if str(name).startswith("token_id:"))
    if isinstance(content, list) and content and isinstance(content[0], Mapping) and isinstance(content[0].get("top_logprobs"), list):
        return _by_id((item.get("id"), item.get("logprob")) for item in content[0]["top_logprobs"] if isinstance(item, Mapping))
    return {}


def _prompt_logprobs(place: Any) -> dict[int, float]:
    if not isinstance(place, Mapping):
        return {}
    return _by_id((name, entry.get("logprob")) for name, entry in place.items() if isinstance(entry, Mapping))


def _by_id(pairs: Any) -> dict[int, float]:
    found: dict[int, float] = {}
    for index, value in pairs:
        if isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST and str(index).isdecimal():
            found[int(index)] = float(value)
    return found
