"""What a training run is set up from: accelerator, backbone and optimiser as the configuration says, and targets as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stepward.core import InputError, MissingExtra
from stepward.rewards.checkpoint import load_checkpoint
from stepward.rewards.readout import head_of
from stepward.training.config import TrainConfig


def padded_targets(targets: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Targets [B, T] and mask [B, T] from rows of different length."""
    rows = [torch.from_numpy(target) for target in targets]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    counts = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < counts[:, None]


def new_accelerator(config: TrainConfig) -> Any:
    """The accelerator, for the precision and device of the configuration.

    Raises: MissingExtra without accelerate.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingExtra("accelerate", "train") from error
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    return Accelerator(cpu=config.device == "cpu", mixed_precision=config.precision)


def load_backbone(config: TrainConfig) -> tuple[Any, Any]:
    """The model, whose head may be new and nothing else, and its tokenizer."""
    loaded = load_checkpoint(config.backbone)
    head = {f"{name}." for name, module in loaded.model.named_children() if module is head_of(loaded.model)}
    lost = [name for name in loaded.missing if not name.startswith(tuple(head))]
    if lost:
        raise InputError(f"backbone {config.backbone!r} lacks weights for {', '.join(lost[:4])}; it is not a checkpoint of {type(loaded.model).__name__}")
    return loaded.model, loaded.tokenizer


def new_optimiser(model: Any, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW in up to four groups: backbone and head have their own peak learning rate, and only matrices decay."""
    head = {id(parameter) for parameter in head_of(model).parameters()}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "peak_lr": (config.head_lr or config.lr) if in_head else config.lr, "weight_decay": config.weight_decay if matrix else 0.0}
            for (in_head, matrix), parameters in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )
