"""Evaluation of a step classifier on a development set while it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stepward.core.aggregation import Floats
from stepward.training import metrics
from stepward.training.collation import collate, cut
from stepward.training.config import TrainConfig
from stepward.training.dataset import StepDataset
from stepward.training.objectives import coefficients, cross_entropy_terms, mse_terms

TERMS = {"cross_entropy": cross_entropy_terms, "mse": mse_terms}


@torch.no_grad()
def step_logits(classifier: Any, dataset: StepDataset, *, batch_tokens: int, device: torch.device, rank: int = 0, n_ranks: int = 1) -> dict[int, Any]:
    """Logits [N, 2] of the supervised steps of every row that this process is responsible for, by row index."""
    classifier.eval()
    lengths = dataset.lengths
    batches = cut(lengths, np.argsort(-lengths, kind="stable"), batch_tokens)
    found: dict[int, Any] = {}
    for batch in batches[rank::n_ranks]:
        rows = [dataset.rows[index] for index in batch]
        logits = classifier(*collate(rows).to(device).inputs).float().cpu()
        found.update(zip(batch, (part.numpy() for part in logits.split([len(row.read) for row in rows])), strict=True))
    return found


def dev_metrics(dataset: StepDataset, logits: dict[int, Any], config: TrainConfig) -> dict[str, float]:
    """Loss (unweighted) and metrics of the supervised steps; a step counts as good from target 0.5 on, as predicted good from the threshold on."""
    ordered = [logits[index] for index in range(len(dataset))]
    flat = torch.from_numpy(np.concatenate(ordered))
    target = np.concatenate([row.target for row in dataset.rows])
    if config.convention.good == 0:
        flat = flat.flip(-1)
    probs: Floats = flat.double().softmax(-1)[:, 1].numpy()
    loss = TERMS[config.objective](flat, torch.from_numpy(target), torch.ones(len(target), dtype=torch.bool))
    good, predicted = target >= 0.5, probs >= config.convention.threshold
    ends = np.cumsum([len(row.read) for row in dataset.rows])
    first: list[int] = []
    truth: list[int] = []
    for row, end in zip(dataset.rows, ends, strict=True):
        if row.first_error is not None:
            bad = np.flatnonzero(~predicted[end - len(row.read) : end])
            first.append(int(row.steps[bad[0]]) if len(bad) else -1)
            truth.append(row.first_error)
    return {
        "dev_loss": float((loss * flat_coefficients(dataset, config)).sum()),
        "dev_auroc": metrics.auroc(probs, good),
        "dev_accuracy": metrics.accuracy(predicted, good),
        "dev_balanced_accuracy": metrics.balanced_accuracy(predicted, good),
        "dev_first_error_f1": metrics.first_error_f1(first, truth),
        "dev_ece": metrics.expected_calibration_error(probs, target),
    }


def flat_coefficients(dataset: StepDataset, config: TrainConfig) -> torch.Tensor:
    """`coefficients` of a data set without class weights, one a supervised step, in order."""
    counts = torch.tensor([len(row.read) for row in dataset.rows])
    mask = torch.arange(int(counts.max())) < counts[:, None]
    return coefficients(mask, None, config.reduce)[mask]
