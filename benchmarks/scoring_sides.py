"""The sides of the scoring benchmark that run in this process: ours, transformers in batches and one by one, and what the machine's matrix products reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepward.core import StepScores, Trajectory, metered
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.encoding import Encoded

_PEER_TOKENS = (512, 1024, 2048, 4096, 8192, 16384, 32768)  # 512 is one sequence a batch


def load(folder: Path, dtype: str, options: Any) -> DiscriminativeModel:
    """The model of a folder, in `dtype` on `options.device`."""
    model = DiscriminativeModel.from_pretrained(folder, dtype=dtype, device=options.device)
    return fresh(model, options)


def fresh(model: DiscriminativeModel, options: Any) -> DiscriminativeModel:
    """The same weights with an empty cache and no thread of its own yet."""
    model._batcher.close()

    def make() -> DiscriminativeModel:
        return DiscriminativeModel(
            model.body, model.head, model.tokenizer, model.convention, fingerprint=model.fingerprint, max_batch_tokens=options.max_batch_tokens
        )

    return alone(make)


def alone(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a thread of its own, which takes its OpenMP team with it when it ends: idle teams would take the cores from the one that is measured."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(measure, *arguments).result()


def ours_once(model: DiscriminativeModel, levels: Sequence[Sequence[Trajectory]]) -> tuple[float, list[StepScores], int]:
    """Seconds, scores, and tokens that went through the model: level after level, one request a trajectory."""

    async def score_all() -> list[StepScores]:
        return [scores for level in levels for scores in await asyncio.gather(*map(model.score, level))]

    with metered() as ledger:
        start = time.perf_counter()
        scores = asyncio.run(score_all())
        wall_s = time.perf_counter() - start
    return wall_s, scores, ledger.paid.reward_tokens


def padded_batches(model: DiscriminativeModel, rows: Sequence[Encoded], batch_tokens: int, device: str) -> tuple[float, list[np.ndarray]]:
    """transformers on sequences sorted by length, padded to the longest of their batch."""
    found: list[np.ndarray] = [np.zeros(0)] * len(rows)
    start = time.perf_counter()
    with torch.inference_mode():
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        while order:
            size = max(1, batch_tokens // len(rows[order[0]]))
            batch, order = order[:size], order[size:]
            ids = np.zeros((len(batch), len(rows[batch[0]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, : len(rows[index])], mask[row, : len(rows[index])] = rows[index].ids, 1
            reads = [rows[index].read for index in batch]
            n_reads = [len(read) for read in reads]
            inputs = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
            hidden = model.body(**inputs, use_cache=False).last_hidden_state
            picked = hidden[torch.from_numpy(np.repeat(np.arange(len(batch)), n_reads)).to(device), torch.from_numpy(np.concatenate(reads)).to(device)]
            probs = np.split(_probs(model, picked), np.cumsum(n_reads)[:-1])
            for index, values in zip(batch, probs, strict=True):
                found[index] = values
    return time.perf_counter() - start, found


def padded_batches_with_onednn(model: DiscriminativeModel, rows: Sequence[Encoded], batch_tokens: int) -> float:
    """Seconds of transformers with the matrix products that ours uses, which tells what they alone are worth."""
    from stepward.engine.reader.linear import FastLinear

    with FastLinear():
        return padded_batches(model, rows, batch_tokens, "cpu")[0]


def fastest_batch(model: DiscriminativeModel, rows: Sequence[Encoded], device: str) -> int:
    """The tokens of a batch with which transformers is fastest, tried on some of the sequences."""
    choices = [tokens for tokens in _PEER_TOKENS if tokens <= 4096 or device != "cpu"]
    some = rows[: max(1, choices[-1] // int(np.mean([len(row) for row in rows])))]
    padded_batches(model, some[:4], choices[0], device)  # warm up
    return min(choices, key=lambda tokens: padded_batches(model, some, tokens, device)[0])


def one_by_one(model: DiscriminativeModel, levels: Sequence[Sequence[Encoded]], device: str) -> float:
    """The public loop: at every step of the search, every candidate from its start, marks found by their id."""
    marker = int(levels[0][0].ids[levels[0][0].read[0]])
    start = time.perf_counter()
    with torch.inference_mode():
        for level in levels:
            for candidate in level:
                ids = torch.from_numpy(candidate.ids).to(device)
                hidden = model.body(input_ids=ids[None]).last_hidden_state[0]
                assert len(_probs(model, hidden[ids == marker])) == len(candidate.read)
    return time.perf_counter() - start


def _probs(model: DiscriminativeModel, hidden: Tensor) -> np.ndarray:
    return model.head(hidden, torch.zeros(0)).softmax(-1)[:, 1].double().cpu().numpy()


def matmul_rates(model: DiscriminativeModel, device: str) -> dict[str, float]:
    """Floating-point operations per second of matrix products in the model's dtype: square ones, and those of its own shapes, by torch and by oneDNN."""
    from stepward.engine.reader.linear import linear as by_onednn

    weights = [module.weight for module in model.body.layers[0].modules() if isinstance(module, torch.nn.Linear)]
    n_rows = 2048 if device == "cpu" else 16384
    side = 2048 if device == "cpu" else 8192
    square = torch.rand(side, side, device=device, dtype=weights[0].dtype)
    rates = {}
    libraries = {"torch": torch.nn.functional.linear}
    if device == "cpu" and weights[0].dtype == torch.float32:
        libraries["onednn"] = by_onednn
    with torch.inference_mode():
        for name, linear in libraries.items():
            rates[f"{name}_square"] = 2.0 * side**3 / _fastest(linear, square, square, device)
            inputs = {weight.shape[1]: torch.rand(n_rows, weight.shape[1], device=device, dtype=weight.dtype) for weight in weights}
            seconds = sum(_fastest(linear, inputs[weight.shape[1]], weight, device) for weight in weights)
            rates[f"{name}_model_shapes"] = 2.0 * n_rows * sum(weight.numel() for weight in weights) / seconds
    return rates


def _fastest(linear: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, device: str) -> float:
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        linear(x, weight)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
