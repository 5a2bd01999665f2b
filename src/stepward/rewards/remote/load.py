"""load_remote: a remote reward model from its specification, the string that users type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stepward.core import Granularity, InputError
from stepward.engine.retry import Retry
from stepward.rewards.convention import Convention
from stepward.rewards.families import FAMILIES
from stepward.rewards.remote.activation import Sends
from stepward.rewards.remote.model import RemoteModel
from stepward.rewards.remote.server import Sending, Server

FORMS = {
    "vllm:URL": "a vLLM server: /pooling, or /v1/completions where the convention reads tokens",
    "vllm:URL/pooling": "vLLM started with --runner pooling, step tag or all tokens",
    "vllm:URL/classify": "vLLM serving a sequence classifier, one prefix a step",
    "vllm:URL/v1/completions": "a language model that answers in one token, its next-token log-probabilities",
    "vllm:URL/generative_scoring": "the same, where vLLM has this endpoint",
    "sglang:URL": "an SGLang server: /v1/classify, or /v1/score where the convention reads tokens",
    "sglang:URL/v1/classify": "SGLang serving a classifier, one prefix a step",
    "sglang:URL/v1/score": "a language model that answers in one token",
}
_SPEC = re.compile(r"(?P<kind>vllm|sglang):(?P<url>https?://.+?)(?:(?:/v1)?/(?P<endpoint>pooling|classify|completions|generative_scoring|score))?/*")
_ENDPOINTS = {"vllm": ("pooling", "classify", "completions", "generative_scoring"), "sglang": ("classify", "score")}
_FOR_TOKENS = {"vllm": "completions", "sglang": "score"}


def is_remote(spec: str) -> bool:
    """Does the specification name a server?"""
    return spec.startswith(("vllm:", "sglang:"))


def load_remote(
    spec: str,
    *,
    tokenizer: Any,
    convention: Convention,
    model_name: str = "",
    revision: str = "",
    api_key: str | None = None,
    timeout_s: float = 300.0,
    concurrency: int = 32,
    retry: Retry | None = None,
    send: Sending = "ids",
    sends: Sends = "auto",
    granularity: Granularity = "step",
) -> RemoteModel:
    """The remote model that `spec` names, one of `FORMS`; nothing is asked of the server yet.

    `tokenizer` and `convention` are those of the model that is served. `model_name`, `revision`, `api_key`, `timeout_s`, `concurrency`,
    `retry` and `send` as in `Server`, `sends` as in `Activation`; `granularity` "outcome" is for sequence classifiers that judge whole solutions.

    Raises: InputError for an unknown form, or for a convention that the endpoint cannot serve.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise InputError(f"unknown remote model {spec!r}; known forms: {'; '.join(f'{form} ({meaning})' for form, meaning in FORMS.items())}")
    kind, endpoint = found["kind"], found["endpoint"]
    if endpoint is None:
        endpoint = _FOR_TOKENS[kind] if convention.head == "tokens" else _ENDPOINTS[kind][0]
    if endpoint not in _ENDPOINTS[kind]:
        raise InputError(f"{spec!r}: {kind} is asked at {', '.join(_ENDPOINTS[kind])}, not at {endpoint}")
    if granularity != "step" and endpoint != "classify":
        raise InputError(f"granularity={granularity!r} is for sequence classifiers; {endpoint} scores steps")
    several = next((family for family in FAMILIES if family.convention == convention and family.reader != "one-pass"), None)
    if several is not None:
        raise InputError(f"{several.name} is not read in one pass over its steps ({several.code}), which no scoring server does; load it locally")
    server = Server(
        found["url"], model_name=model_name, revision=revision, api_key=api_key, timeout_s=timeout_s, concurrency=concurrency, retry=retry, send=send
    )
    token_ids: Sequence[int] = ()
    if convention.head == "tokens":
        from stepward.rewards.head_weights import token_ids as ids_of

        token_ids = ids_of(convention, tokenizer)
    if endpoint == "pooling":
        from stepward.rewards.remote.pooling import PoolingModel

        return PoolingModel(server, tokenizer, convention, token_ids=token_ids, sends=sends)
    if endpoint == "classify":
        from stepward.rewards.remote.classify import ClassifyModel

        return ClassifyModel(server, tokenizer, convention, kind="vllm" if kind == "vllm" else "sglang", granularity=granularity, sends=sends)
    if endpoint == "completions":
        from stepward.rewards.remote.completions import CompletionsModel

        return CompletionsModel(server, tokenizer, convention, token_ids=token_ids)
    from stepward.rewards.remote.token_scores import TokenScoresModel

    return TokenScoresModel(server, tokenizer, convention, token_ids=token_ids, kind="vllm" if kind == "vllm" else "sglang")
