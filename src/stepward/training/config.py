"""TrainConfig: everything that a training run depends on besides its data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from stepward.core import InputError, canonical_json, content_hash
from stepward.rewards.convention import Convention
from stepward.training.dataset import Keep, Overflow, Target

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["no", "bf16", "fp16"]
Objective = Literal["cross_entropy", "mse"]
Reduce = Literal["step", "sequence"]
Balance = Literal["none", "inverse", "effective"]
_CHOICES = {
    "schedule": Schedule, "precision": Precision, "objective": Objective, "reduce": Reduce, "balance": Balance, "target": Target, "keep": Keep,
    "on_overflow": Overflow, "dropout": Literal["off", "model"], "select": Literal["best", "last"], "device": Literal["auto", "cpu"],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a step classifier is trained from `backbone`, a folder or hub id of any transformers model that has a token classifier.

    Length: `epochs`, or `max_steps` optimiser steps when given. A step processes `accumulate` batches of at most `batch_tokens` tokens (padding
    included) on every process. Optimiser: AdamW with `lr` (peak), `head_lr` for the new head (default: lr), warm-up over the share `warmup` of all
    steps, then `schedule` down to `min_lr` x peak; weight decay on matrices only. For the first `freeze_backbone_steps` only the head learns.
    Targets: see `StepDataset.build`; loss: see `objectives`. `dropout` "off" switches it off everywhere; "model" keeps the backbone's own.
    Every `eval_every` steps and at the end the development set is measured; `select` "best" keeps the weights with the lowest development loss;
    `patience` ends the run after so many measurements without a new best. Every `save_every` steps a checkpoint is written; the last
    `keep_checkpoints` are kept. 0 switches `eval_every` and `save_every` off.
    """

    backbone: str
    convention: Convention = field(default_factory=Convention)
    epochs: int = 1
    max_steps: int | None = None
    batch_tokens: int = 4096
    accumulate: int = 1
    lr: float = 2e-5
    head_lr: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    min_lr: float = 0.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = 1.0
    freeze_backbone_steps: int = 0
    seed: int = 0
    precision: Precision = "no"
    device: Literal["auto", "cpu"] = "auto"
    dropout: Literal["off", "model"] = "off"
    objective: Objective = "cross_entropy"
    reduce: Reduce = "step"
    balance: Balance = "none"
    target: Target = "values"
    keep: Keep = "all"
    on_overflow: Overflow = "error"
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 0
    keep_checkpoints: int = 2
    select: Literal["best", "last"] = "best"
    patience: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"TrainConfig.{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if (self.convention.head, self.convention.activation, self.convention.temperature) != ("two-class", "softmax", 1.0):
            raise InputError(f"TrainConfig.convention must be read by a two-class head with softmax, and {self.convention.name!r} is not; use Convention(...)")
        for name in ("epochs", "batch_tokens", "accumulate", "log_every", "keep_checkpoints"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("freeze_backbone_steps", "eval_every", "save_every", "weight_decay"):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        for name in ("max_steps", "patience"):
            self._check(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1, or None")
        self._check("lr", self.lr > 0.0 and math.isfinite(self.lr), "positive and finite")
        self._check("head_lr", self.head_lr is None or self.head_lr > 0.0, "positive, or None")
        self._check("clip_norm", self.clip_norm is None or self.clip_norm > 0.0, "positive, or None")
        self._check("warmup", 0.0 <= self.warmup < 1.0, "in [0, 1), the share of all steps")
        self._check("min_lr", 0.0 <= self.min_lr <= 1.0, "in [0, 1], a share of lr")
        self._check("betas", len(self.betas) == 2 and all(0.0 <= beta < 1.0 for beta in self.betas), "two numbers in [0, 1)")

    def _check(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"TrainConfig.{name} must be {rule}, got {getattr(self, name)!r}")

    @property
    def key(self) -> str:
        """Hash of every field that the trained weights or the metrics depend on, besides the backbone, which is known by its content and not its place."""
        outside = ("backbone", "save_every", "keep_checkpoints", "tensorboard")
        record = {name: value for name, value in self.to_record().items() if name not in outside}
        return content_hash("train", canonical_json(record))

    def to_record(self) -> dict[str, Any]:
        return {**asdict(self), "convention": self.convention.to_json(), "betas": list(self.betas)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TrainConfig:
        return cls(**{**record, "convention": Convention.from_json(record["convention"]), "betas": tuple(record["betas"])})


def lr_factor(step: int, n_steps: int, config: TrainConfig) -> float:
    """The share of the peak learning rate in optimiser step 0 <= step < n_steps: linear from 1/w to 1 over w warm-up steps, then constant, linear or cosine."""
    n_warm = math.ceil(config.warmup * n_steps)
    if step < n_warm:
        return (step + 1) / n_warm
    done = (step - n_warm) / max(1, n_steps - n_warm)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[config.schedule]
    return config.min_lr + (1.0 - config.min_lr) * shape
