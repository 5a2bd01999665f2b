"""Losses: gradients, minimisers, masks, and equality with naive loops."""

from __future__ import annotations

import math

import pytest
import torch

from stepward.core import InputError
from stepward.training.objectives import bce, bce_terms, class_weights, coefficients, cross_entropy, cross_entropy_terms, mse, mse_terms, step_weights

B, T = 3, 5


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, T, 2, generator=generator)
    target = torch.rand(B, T, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 1, 1, 1, 0]], dtype=torch.bool)
    return logits, target, mask


def naive(kind: str, logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, reduce: str) -> float:
    rows: list[list[float]] = []
    for b in range(B):
        row = []
        for t in range(T):
            if mask[b, t]:
                a, c = (float(x) for x in logits[b, t])
                p, y = 1.0 / (1.0 + math.exp(a - c)), float(target[b, t])
                row.append((p - y) ** 2 if kind == "mse" else -y * math.log(p) - (1 - y) * math.log(1 - p))
        rows.append(row)
    if reduce == "sequence":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    return sum(map(sum, rows)) / sum(map(len, rows))


@pytest.mark.parametrize("reduce", ["step", "sequence"])
def test_losses_equal_naive_loops(reduce: str) -> None:
    logits, target, mask = drawn()
    expected = naive("ce", logits, target, mask, reduce)
    assert float(cross_entropy(logits, target, mask, reduce=reduce)) == pytest.approx(expected, rel=1e-5)
    assert float(bce(logits[..., 1] - logits[..., 0], target, mask, reduce=reduce)) == pytest.approx(expected, rel=1e-5)
    assert float(mse(logits, target, mask, reduce=reduce)) == pytest.approx(naive("mse", logits, target, mask, reduce), rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, mse])
def test_gradients_equal_finite_differences(loss) -> None:
    logits, target, mask = drawn(1)
    logits.requires_grad_(True)
    loss(logits, target, mask).backward()
    for place in [(0, 0, 0), (0, 3, 1), (1, 2, 0), (2, 1, 1)]:
        moved = []
        for sign in (1.0, -1.0):
            shifted = logits.detach().clone()
            shifted[place] += sign * 1e-2
            moved.append(float(loss(shifted, target, mask)))
        assert float(logits.grad[place]) == pytest.approx((moved[0] - moved[1]) / 2e-2, rel=2e-2, abs=2e-5)


@pytest.mark.parametrize("terms", [lambda z, y, m: cross_entropy_terms(torch.stack([torch.zeros_like(z), z], -1), y, m), bce_terms,
                                   lambda z, y, m: mse_terms(torch.stack([torch.zeros_like(z), z], -1), y, m)])  # fmt: skip
def test_the_minimiser_is_the_conditional_mean(terms) -> None:
    """For targets 0.9, 0.6 and 0 of one input, the best probability is their mean, 0.5."""
    target = torch.tensor([0.9, 0.6, 0.0])
    probs = torch.linspace(0.001, 0.999, 999)
    z = torch.log(probs) - torch.log1p(-probs)
    losses = torch.stack([terms(z, torch.full_like(z, float(y)), torch.ones_like(z, dtype=torch.bool)) for y in target]).sum(0)
    assert float(probs[losses.argmin()]) == pytest.approx(0.5, abs=1.1e-3)


@pytest.mark.parametrize("loss", [cross_entropy, mse])
@pytest.mark.parametrize("reduce", ["step", "sequence"])
def test_what_is_masked_reaches_neither_loss_nor_gradient(loss, reduce: str) -> None:
    logits, target, mask = drawn(2)
    clean = float(loss(logits, target, mask, reduce=reduce))
    target[~mask] = math.nan
    logits[~mask] = math.inf
    logits.requires_grad_(True)
    weight = torch.where(mask, torch.ones(B, T), torch.nan)
    value = loss(logits, target, mask, weight, reduce=reduce)
    value.backward()
    assert float(value.detach()) == clean
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad[~mask].abs().sum()) == 0.0


def test_a_soft_label_is_never_rounded() -> None:
    logits, mask = torch.tensor([[[0.0, 2.0]]]), torch.ones(1, 1, dtype=torch.bool)
    losses = [float(cross_entropy(logits, torch.tensor([[y]]), mask)) for y in (0.0, 0.9, 1.0)]
    assert losses[1] == pytest.approx(0.1 * losses[0] + 0.9 * losses[2], rel=1e-6)


def test_nothing_supervised_costs_nothing_and_is_not_nan() -> None:
    logits, target, _ = drawn()
    logits.requires_grad_(True)
    value = cross_entropy(logits, target, torch.zeros(B, T, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0.0
    assert float(logits.grad.abs().sum()) == 0.0


def test_step_and_sequence_reduction_weigh_long_solutions_differently() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)
    assert torch.allclose(coefficients(mask, None, "step").sum(-1), torch.tensor([0.8, 0.2]))
    assert torch.allclose(coefficients(mask, None, "sequence").sum(-1), torch.tensor([0.5, 0.5]))
    with pytest.raises(InputError, match="reduce"):
        coefficients(mask, None, "token")  # type: ignore[arg-type]


def test_class_weights_give_both_classes_the_same_mass() -> None:
    target = torch.tensor([[1.0, 1.0, 1.0, 0.0, math.nan]])
    mask = torch.tensor([[True, True, True, True, False]])
    inverse = class_weights(target, mask, "inverse")
    assert inverse.tolist() == pytest.approx([2.0, 2.0 / 3.0])
    assert float(step_weights(target, inverse)[0, :3].sum()) == pytest.approx(float(step_weights(target, inverse)[0, 3]))
    assert class_weights(target, mask, "none").tolist() == [1.0, 1.0]
    effective = class_weights(target, mask, "effective", beta=0.9)
    raw = [0.1 / (1 - 0.9), 0.1 / (1 - 0.9**3)]
    assert float(effective[0] / effective[1]) == pytest.approx(raw[0] / raw[1], rel=1e-5)
    assert float(effective @ torch.tensor([1.0, 3.0])) == pytest.approx(4.0)
    assert class_weights(torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool), "inverse").tolist() == [0.0, 1.0]
