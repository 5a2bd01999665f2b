"""Scoring servers on loopback, built from the documented exchange of vLLM and SGLang around a plain transformers model. They share no code with the clients.

What they compute: one forward pass a request over exactly the ids that came, without cache, batch or convention.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tests.policies.servers import Behaviour, Reply, Server
from transformers import AutoModel, AutoModelForCausalLM

from stepward.policies.checkpoint import load_tokenizer, quiet_transformers

Rows = list[list[float]]


class Peer:
    """A checkpoint as a server has it: rows of logits for ids. `head`: names of the weights of linear layers, with ReLU between them."""

    def __init__(self, folder: Path, *head: str) -> None:
        self.folder, self.head = folder, head

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.folder)

    @cached_property
    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        tensors = load_file(self.folder / "model.safetensors")
        return [(tensors[f"{name}.weight"], tensors.get(f"{name}.bias", torch.zeros(1))) for name in self.head]

    @cached_property
    def model(self) -> Any:
        with quiet_transformers():
            return (AutoModel if self.head else AutoModelForCausalLM).from_pretrained(self.folder).eval()

    @torch.no_grad()
    def rows(self, ids: list[int]) -> Rows:
        """Logits at every token."""
        output = self.model(input_ids=torch.tensor([ids]))
        if not self.head:
            return output.logits[0].double().tolist()
        states = output.last_hidden_state[0]
        for index, (weight, bias) in enumerate(self.layers):
            states = (torch.relu(states) if index else states) @ weight.T + bias
        return states.double().tolist()

    def ids(self, given: Any) -> list[int]:
        return given if isinstance(given, list) else self.tokenizer(given, add_special_tokens=False)["input_ids"]


def listed(path: str, *, max_model_len: int | None = 1024, name: str = "served") -> Reply | None:
    """What /v1/models answers; None for another path."""
    if path != "/v1/models":
        return None
    return 200, {}, json.dumps({"object": "list", "data": [{"id": name, "object": "model", "max_model_len": max_model_len}]})


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    shares = [math.exp(value - top) for value in row]
    return [share / sum(shares) for share in shares]


def activated(row: list[float]) -> list[float]:
    return softmax(row) if len(row) > 1 else [1.0 / (1.0 + math.exp(-row[0]))]


def usage(prompts: list[list[int]], *, written: int = 0, cached: int = 0) -> dict[str, Any]:
    total = sum(map(len, prompts))
    return {"prompt_tokens": total, "completion_tokens": written, "total_tokens": total + written, "prompt_tokens_details": {"cached_tokens": cached}}


def pooling(peer: Peer, *, tag: int | None = None, always_activates: bool = False, max_model_len: int | None = 1024) -> Behaviour:
    """vLLM --runner pooling: rows of the step tag, or of every token."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if (models := listed(path, max_model_len=max_model_len)) is not None:
            return models
        if path != "/pooling":
            return 404, {}, '{"detail": "Not Found"}'
        assert body["add_special_tokens"] is False
        assert body["task"] == "token_classify"
        prompts = [peer.ids(given) for given in body["input"]]
        data = []
        for index, ids in enumerate(prompts):
            rows = [row for place, row in zip(ids, peer.rows(ids), strict=True) if tag is None or place == tag]
            rows = [activated(row) for row in rows] if body["use_activation"] or always_activates else rows
            flat = [value for row in rows for value in row]
            shown = base64.b64encode(struct.pack(f"<{len(flat)}f", *flat)).decode() if body["encoding_format"] == "base64" else rows
            data.append({"index": index, "object": "pooling", "data": shown})
        return 200, {}, json.dumps({"object": "list", "model": "served", "data": data[::-1], "usage": usage(prompts)})

    return behave


def classify(peer: Peer, *, sglang: bool = False) -> Behaviour:
    """Sequence classification: the last token's row. SGLang takes one sequence of ids and always sends a softmax."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if (models := listed(path)) is not None:
            return models
        if path != ("/v1/classify" if sglang else "/classify"):
            return 404, {}, '{"detail": "Not Found"}'
        prompts = [body["input"]] if sglang else [peer.ids(given) for given in body["input"]]
        rows = [peer.rows(ids)[-1] for ids in prompts]
        probs = [softmax(row) for row in rows] if sglang else [activated(row) if body["use_activation"] else row for row in rows]
        data = [{"index": index, "label": "LABEL_0", "probs": row, "num_classes": len(row)} for index, row in enumerate(probs)]
        return 200, {}, json.dumps({"object": "list", "model": "served", "data": data, "usage": usage(prompts)})

    return behave


def completions(peer: Peer, *, top: int = 20, knows_ids: bool = True, bias_shows: bool = True, names_ids: bool = True) -> Behaviour:
    """A completions server. `knows_ids`: it has logprob_token_ids. `bias_shows`: its log-probabilities are those after logit_bias."""

    def log_softmax(logits: list[float]) -> np.ndarray[Any, Any]:
        values = np.array(logits)
        return values - values.max() - np.log(np.exp(values - values.max()).sum())

    def told(logits: list[float], body: dict[str, Any]) -> dict[str, Any]:
        moved = np.array(logits)
        for index, bias in body.get("logit_bias", {}).items():
            moved[int(index)] += bias
        logprobs = log_softmax(moved if bias_shows else logits)
        sampled = int(moved.argmax())
        chosen = body["logprob_token_ids"] if knows_ids and "logprob_token_ids" in body else np.argsort(-logprobs)[: min(top, body["logprobs"])].tolist()
        by_id = names_ids and body.get("return_tokens_as_token_ids")
        names = {index: f"token_id:{index}" if by_id else peer.tokenizer.decode([index]) for index in (sampled, *chosen)}
        shown = {name: float(logprobs[index]) for index, name in names.items()}
        return {"tokens": [names[sampled]], "token_logprobs": [shown[names[sampled]]], "top_logprobs": [shown], "text_offset": [0]}

    def likeliest(logits: list[float], own: int, k: int) -> dict[str, Any]:
        logprobs = log_softmax(logits)
        return {str(index): {"logprob": float(logprobs[index]), "rank": 1} for index in (own, *np.argsort(-logprobs)[:k].tolist())}

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if (models := listed(path, max_model_len=1025)) is not None:
            return models
        if path != "/v1/completions":
            return 404, {}, '{"detail": "Not Found"}'
        assert body["add_special_tokens"] is False
        prompts = [peer.ids(given) for given in body["prompt"]]
        choices = []
        for index, ids in enumerate(prompts):
            rows = peer.rows(ids)
            choice = {"index": index, "text": "x", "finish_reason": "length", "logprobs": told(rows[-1], body), "prompt_logprobs": None}
            if "prompt_logprobs" in body:
                choice["prompt_logprobs"] = [None, *(likeliest(row, own, body["prompt_logprobs"]) for row, own in zip(rows, ids[1:], strict=False))]
            choices.append(choice)
        return 200, {}, json.dumps({"choices": choices[::-1], "usage": usage(prompts, written=len(prompts), cached=3)})

    return behave


def token_scores(peer: Peer, *, sglang: bool) -> Behaviour:
    """SGLang's /v1/score and vLLM's /generative_scoring."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if (models := listed(path, max_model_len=1025)) is not None:
            return models
        if path != ("/v1/score" if sglang else "/generative_scoring"):
            return 404, {}, '{"detail": "Not Found"}'
        assert body["apply_softmax"] is True
        assert body["item_first"] is False
        assert all(body["items"]), "an item must have a token"
        prompts = [body["query"] + item for item in body["items"]]
        probs = [softmax([peer.rows(ids)[-1][index] for index in body["label_token_ids"]]) for ids in prompts]
        if sglang:
            return 200, {}, json.dumps({"scores": probs, "model": "served", "usage": None, "object": "scoring"})
        data = [{"index": index, "object": "score", "score": row[0]} for index, row in enumerate(probs)]
        return 200, {}, json.dumps({"object": "list", "model": "served", "data": data, "usage": usage(prompts, written=len(prompts))})

    return behave


def after(n: int, bad: Callable[[Server], Reply], good: Behaviour) -> Behaviour:
    """The first n requests get `bad`, the others `good`; /v1/models is always good."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return bad(server) if path != "/v1/models" and len(server.requests) <= n else good(server, path, body)

    return behave
