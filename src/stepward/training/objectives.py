"""Objectives: losses of step classifiers as pure functions on tensors. No model, no data set.

Shapes: B sequences, T steps (padded), `...` any leading shape. `target` in [0, 1]; `mask` True where a step exists and is supervised. What is masked
is replaced before any arithmetic, so a NaN target or logit there reaches neither the loss nor a gradient.

Every loss is sum_bt c_bt l_bt: terms l (`*_terms`) times coefficients c (`coefficients`), which depend on masks and weights only. So a batch that is split
over micro-batches or processes sums to exactly the loss of the whole.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from stepward.core import InputError

Reduce = Literal["step", "sequence"]
Balance = Literal["none", "inverse", "effective"]


def cross_entropy(logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None, reduce: Reduce = "step") -> Tensor:
    """Two-class cross-entropy with hard or soft targets: l = -(1 - y) log p_0 - y log p_1, p = softmax(logits); logits [B, T, 2], the rest [B, T].

    The minimiser is p_1 = E[y | input]. Equal to `bce` of logits_1 - logits_0. `weight` [B, T] multiplies a step's share. `reduce`: see `coefficients`.
    """
    return (cross_entropy_terms(logits, target, mask) * coefficients(mask, weight, reduce)).sum()


def bce(logit: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None, reduce: Reduce = "step") -> Tensor:
    """Binary cross-entropy of a single logit: l = -y log s(z) - (1 - y) log(1 - s(z)); all [B, T]. The minimiser is s(z) = E[y | input]."""
    return (bce_terms(logit, target, mask) * coefficients(mask, weight, reduce)).sum()


def mse(logits: Tensor, target: Tensor, mask: Tensor, weight: Tensor | None = None, reduce: Reduce = "step") -> Tensor:
    """Squared error of the probability: l = (softmax(logits)_1 - y)^2; logits [B, T, 2], the rest [B, T].

    Same minimiser as `cross_entropy`, E[y | input], but the gradient carries a factor p (1 - p): slow where the model is sure and wrong.
    """
    return (mse_terms(logits, target, mask) * coefficients(mask, weight, reduce)).sum()


def cross_entropy_terms(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One cross-entropy a step [...], 0 where masked; logits [..., 2], fp32."""
    logits = torch.where(mask.unsqueeze(-1), logits.float(), 0.0)
    y = torch.where(mask, target.float(), 0.0)
    log_p = log_softmax(logits, dim=-1)
    return torch.where(mask, -(1.0 - y) * log_p[..., 0] - y * log_p[..., 1], 0.0)


def bce_terms(logit: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One binary cross-entropy a step [...], 0 where masked; fp32."""
    z = torch.where(mask, logit.float(), 0.0)
    y = torch.where(mask, target.float(), 0.0)
    return torch.where(mask, -y * logsigmoid(z) - (1.0 - y) * logsigmoid(-z), 0.0)


def mse_terms(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One squared error of the probability a step [...], 0 where masked; logits [..., 2], fp32."""
    logits = torch.where(mask.unsqueeze(-1), logits.float(), 0.0)
    y = torch.where(mask, target.float(), 0.0)
    return torch.where(mask, (logits.softmax(-1)[..., 1] - y) ** 2, 0.0)


def coefficients(mask: Tensor, weight: Tensor | None = None, reduce: Reduce = "step") -> Tensor:
    """The share of each step in the loss, [B, T]; they sum to 1, or to 0 when nothing is supervised.

    "step": w / sum w, the mean over all supervised steps, in which long solutions count more. "sequence": the mean of each sequence's weighted mean, over the
    sequences that have a supervised step.
    """
    if reduce not in ("step", "sequence"):
        raise InputError(f"reduce must be 'step' or 'sequence', got {reduce!r}")
    shares = mask.float() if weight is None else torch.where(mask, weight.float(), 0.0)
    if reduce == "step":
        return shares / _or_one(shares.sum())
    totals = shares.sum(-1, keepdim=True)
    return shares / _or_one(totals) / _or_one((totals > 0).sum())


def class_weights(targets: Tensor, mask: Tensor, how: Balance = "none", *, beta: float = 0.999) -> Tensor:
    """Weights [2] of the classes (bad, good) with soft counts n_1 = sum y, n_0 = sum 1 - y over the supervised steps.

    "none": 1, 1. "inverse": n / (2 n_c). "effective": proportional to (1 - beta) / (1 - beta^n_c), scaled so that sum_c w_c n_c = n
    (Class-Balanced Loss Based on Effective Number of Samples, 2019). A class that does not occur gets weight 0.
    With any balance but "none" the minimiser of a loss is no longer E[y], so its probabilities are not calibrated.
    """
    y = torch.where(mask, targets.double(), 0.0)
    good = y.sum()
    counts = torch.stack([mask.sum() - good, good])
    if how == "none":
        return torch.ones(2)
    if how == "inverse":
        raw = 1.0 / counts
    elif how == "effective":
        raw = (1.0 - beta) / (1.0 - beta**counts)
    else:
        raise InputError(f"balance must be 'none', 'inverse' or 'effective', got {how!r}")
    raw = torch.where(counts > 0, raw, 0.0)
    return (raw * counts.sum() / _or_one((raw * counts).sum())).float()


def step_weights(targets: Tensor, classes: Tensor) -> Tensor:
    """The weight [...] of a step with target y: (1 - y) w_0 + y w_1. NaN targets stay NaN; mask them."""
    return (1.0 - targets) * classes[0] + targets * classes[1]


def _or_one(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, torch.ones_like(total))
