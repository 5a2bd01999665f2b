"""Filters: one token a row from logits, temperature, top-k and top-p per row, with the caller's uniform numbers. No state, no generator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def draw_tokens(logits: Tensor, uniform: Floats, *, temperature: Floats, top_k: NDArray[np.int64], top_p: Floats) -> tuple[NDArray[np.int64], Floats]:
    """One token a row by inverting the cumulative distribution at `uniform`, and its natural-log probability under the distribution drawn from.

    p = softmax(logits / temperature), cut to the top_k largest (0: off; ties with the k-th stay), then to the smallest set of largest tokens whose
    mass before the last of them is below top_p (1: off), and renormalised; the token is the first v with sum_{w <= v} p_w > uniform.
    Temperature 0 takes the largest logit, with log-probability 0. logits: [B, V]; everything else: [B]; uniform in (0, 1).
    A row with non-finite logits gets log-probability NaN.
    """
    greedy = temperature == 0.0
    if bool((temperature != 1.0).any()):
        divisor = torch.from_numpy(np.where(greedy, 1.0, temperature)).to(logits)
        logits = logits / divisor[:, None]
    largest = logits.amax(-1, keepdim=True)
    weights = (logits - largest).exp_()
    if bool((top_k > 0).any()):
        weights = _keep_top_k(weights, top_k)
    if bool((top_p < 1.0).any()):
        weights = _keep_top_p(weights, top_p)
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    target = torch.from_numpy(uniform).to(total.device)[:, None] * total
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))  # rounding must not step past the last possible token
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    if bool(greedy.any()):
        tokens = torch.where(torch.from_numpy(greedy).to(tokens.device)[:, None], logits.argmax(-1, keepdim=True), tokens)
    logprobs = (weights.gather(-1, tokens).double().log_() - total.log())[:, 0].cpu().numpy()
    return tokens[:, 0].cpu().numpy(), np.where(greedy & ~np.isnan(logprobs), 0.0, logprobs)


def _keep_top_k(weights: Tensor, top_k: NDArray[np.int64]) -> Tensor:
    n_vocabulary = weights.shape[-1]
    wanted = np.where(top_k > 0, np.minimum(top_k, n_vocabulary), 0)
    best = weights.topk(int(wanted.max()), dim=-1).values
    rank = torch.from_numpy(np.maximum(wanted - 1, 0)).to(weights.device)
    threshold = best.gather(-1, rank[:, None])
    threshold = torch.where(torch.from_numpy(wanted > 0).to(weights.device)[:, None], threshold, torch.zeros_like(threshold))
    return weights.masked_fill(weights < threshold, 0.0)


def _keep_top_p(weights: Tensor, top_p: Floats) -> Tensor:
    rows = torch.from_numpy(np.flatnonzero(top_p < 1.0)).to(weights.device)  # only these rows are sorted
    some = weights[rows].double()
    ordered, order = some.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    limit = torch.from_numpy(top_p[top_p < 1.0]).to(weights.device)[:, None] * ordered.sum(-1, keepdim=True)
    kept = torch.zeros_like(some).scatter_(-1, order, ordered.masked_fill(before >= limit, 0.0))
    weights = weights.clone()
    weights[rows] = kept.to(weights.dtype)
    return weights
