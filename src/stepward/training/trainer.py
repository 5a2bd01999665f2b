"""The trainer: labelled trajectories and a backbone in, a folder with a step classifier out. Losses, data, metrics and files have their own modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepward.core import Example, InputError, StepwardError
from stepward.policies.sampler.weights import context_length
from stepward.rewards.checkpoint import fingerprint
from stepward.rewards.encoding import Encoder
from stepward.rewards.readout import StepClassifier, head_of
from stepward.training import checkpoint as checkpoints
from stepward.training.collation import collate, epoch_batches
from stepward.training.config import TrainConfig, lr_factor
from stepward.training.dataset import StepDataset, describe
from stepward.training.evaluate import TERMS, dev_metrics, step_logits
from stepward.training.objectives import class_weights, coefficients, step_weights
from stepward.training.records import MetricsLog, TrainResult, read_finished, write_model_folder
from stepward.training.setup import load_backbone, new_accelerator, new_optimiser, padded_targets

Group = list[list[int]]  # the micro-batches of one optimiser step, over all processes


@dataclass(frozen=True)
class StepReport:
    """What a progress display needs after an optimiser step."""

    step: int
    n_steps: int
    loss: float
    tokens_per_s: float


@dataclass
class Progress:
    """Where a run is; all of it is in every checkpoint, so that a resumed run continues exactly."""

    step: int = 0  # optimiser steps done
    epoch: int = 0
    group: int = 0  # groups of the epoch done
    n_tokens: int = 0
    window_loss: float = 0.0
    window_steps: int = 0
    best_step: int = -1
    best_loss: float = float("inf")
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    n_worse: int = 0  # measurements since the best


def train(
    examples: Iterable[Example],
    dev_examples: Iterable[Example],
    config: TrainConfig,
    out: str | Path,
    *,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrainResult:
    """Train a step classifier and leave it in the folder `out`, which transformers loads and `prm:OUT` names.

    The folder gets the model, its tokenizer, `training.json`, `metrics.jsonl` (one object a line), TensorBoard files when asked for, and
    `checkpoints/`. Run again after a kill, it continues from the newest whole checkpoint and ends in the same weights and metrics, bit for bit
    (clock readings aside); run again after the end, it returns the stored result. Works in one process and under `accelerate launch`.

    Raises: InputError when `out` belongs to a run with other data or another configuration, or the data cannot be used (see `StepDataset.build`);
    MissingExtra without accelerate; StepwardError when the loss is no longer a number.
    """
    folder = Path(out)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        run = _Run(list(examples), list(dev_examples), config, folder)
        finished = read_finished(folder, run.key)
        return finished if finished is not None else run.train(on_step)


class _Run:
    """One training run in one process of possibly several."""

    def __init__(self, examples: Sequence[Example], dev_examples: Sequence[Example], config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.accelerator = new_accelerator(config)
        self.model, self.tokenizer = load_backbone(config)
        self.max_tokens = min(config.convention.max_tokens, context_length(self.model) or config.convention.max_tokens)
        encoder = Encoder(self.tokenizer, config.convention, max_tokens=self.max_tokens)
        build = {"target": config.target, "keep": config.keep, "on_overflow": config.on_overflow}
        self.data = StepDataset.build(examples, encoder, **build)  # type: ignore[arg-type]
        self.dev = StepDataset.build(dev_examples, encoder, **build) if dev_examples else None  # type: ignore[arg-type]
        if self.dev is not None and self.dev.semantics != self.data.semantics:
            raise InputError(f"training labels mean {self.data.semantics!r} but development labels {self.dev.semantics!r}; give both the same semantics")
        self.key = {
            "config": config.key,
            "backbone": fingerprint(self.model, self.tokenizer, config.convention),
            "data": self.data.fingerprint,
            "dev": "" if self.dev is None else self.dev.fingerprint,
        }
        self.classes = class_weights(*padded_targets([row.target for row in self.data.rows]), config.balance)
        self.group_size = config.accumulate * self.accelerator.num_processes
        self.n_steps = config.max_steps or sum(len(self._groups(epoch)) for epoch in range(config.epochs))
        self.progress = Progress()
        self.log = MetricsLog(out, tensorboard=config.tensorboard, enabled=self.accelerator.is_main_process)

    def train(self, on_step: Callable[[StepReport], None] | None) -> TrainResult:
        self.classifier, self.optimiser = self.accelerator.prepare(StepClassifier(self.model), new_optimiser(self.model, self.config))
        try:
            return self._loop(self._resume(), on_step)
        finally:
            self.log.close()

    def _loop(self, resumed_from: int | None, on_step: Callable[[StepReport], None] | None) -> TrainResult:
        config, progress = self.config, self.progress
        started, start_tokens = time.perf_counter(), progress.n_tokens
        stop = self._out_of_patience()
        while progress.step < self.n_steps and not stop:
            groups = self._groups(progress.epoch)
            for group in groups[progress.group :]:
                loss = self._step(group)
                progress.group += 1
                speed = (progress.n_tokens - start_tokens) / max(1e-9, time.perf_counter() - started)
                at_end = progress.step == self.n_steps
                if at_end or progress.step % config.log_every == 0:
                    self._log_loss(speed)
                if self.dev is not None and (at_end or (config.eval_every and progress.step % config.eval_every == 0)):
                    self._measure()
                    stop = self._out_of_patience()
                if config.save_every and progress.step % config.save_every == 0:
                    self._save()
                if on_step is not None:
                    on_step(StepReport(progress.step, self.n_steps, loss, speed))
                if at_end or stop:
                    break
            else:
                progress.epoch, progress.group = progress.epoch + 1, 0
        return self._finish(time.perf_counter() - started, start_tokens, resumed_from)

    def _groups(self, epoch: int) -> list[Group]:
        batches = epoch_batches(self.data.lengths, batch_tokens=self.config.batch_tokens, seed=self.config.seed, epoch=epoch)
        return [batches[start : start + self.group_size] for start in range(0, len(batches), self.group_size)]

    def _step(self, group: Group) -> float:
        """One optimiser step on a group; returns its loss over all processes."""
        config, accelerator, progress = self.config, self.accelerator, self.progress
        shares = self._shares(group)
        factor = lr_factor(progress.step, self.n_steps, config)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = parameters["peak_lr"] * factor
        frozen = progress.step < config.freeze_backbone_steps
        self._freeze(frozen)
        self.classifier.train(config.dropout == "model")  # evaluation mode has no dropout, and gradients all the same
        total = torch.zeros((), device=accelerator.device)
        for place in range(config.accumulate):
            index = place * accelerator.num_processes + accelerator.process_index
            idle = index >= len(group)  # the last group may be smaller: a repeated batch with shares of 0 keeps the processes in step
            batch = collate([self.data.rows[row] for row in group[0 if idle else index]]).to(accelerator.device)
            share = torch.zeros_like(batch.target) if idle else shares[index].to(accelerator.device)
            with nullcontext() if place == config.accumulate - 1 else accelerator.no_sync(self.classifier), accelerator.autocast():
                logits = self.classifier(*batch.inputs)
                loss = self._loss(logits, batch.target, share)
                accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes; the loss is a sum
            total += loss.detach()
        loss_value = float(accelerator.reduce(total, "sum"))
        if not loss_value < float("inf"):
            raise StepwardError(f"the loss of step {progress.step} is {loss_value}; lower lr ({config.lr:g}) or train with precision='no'")
        if frozen:
            for parameter in self._backbone_parameters():
                parameter.grad = None
        if config.clip_norm is not None:
            accelerator.clip_grad_norm_(self.classifier.parameters(), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        progress.step += 1
        progress.n_tokens += sum(len(self.data.rows[row]) for batch_rows in group for row in batch_rows)
        progress.window_loss += loss_value
        progress.window_steps += 1
        return loss_value

    def _loss(self, logits: Tensor, target: Tensor, share: Tensor) -> Tensor:
        ordered = logits if self.config.convention.good == 1 else logits.flip(-1)
        return (TERMS[self.config.objective](ordered, target, torch.ones_like(target, dtype=torch.bool)) * share).sum()

    def _shares(self, group: Group) -> list[Tensor]:
        """The loss coefficients of each micro-batch [N], normalised over the whole group, so that the loss does not depend on how it is split."""
        targets, mask = padded_targets([self.data.rows[row].target for batch in group for row in batch])
        weight = None if self.config.balance == "none" else step_weights(targets, self.classes)
        flat = coefficients(mask, weight, self.config.reduce)[mask]
        return list(torch.split(flat, [sum(len(self.data.rows[row].read) for row in batch) for batch in group]))

    def _freeze(self, frozen: bool) -> None:
        if self.accelerator.num_processes == 1:  # spares the backward pass; several processes must keep the graph that they agreed on
            for parameter in self._backbone_parameters():
                parameter.requires_grad_(not frozen)

    def _backbone_parameters(self) -> list[Tensor]:
        head = {id(parameter) for parameter in head_of(self.model).parameters()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in head]

    def _log_loss(self, speed: float) -> None:
        progress = self.progress
        lr = self.config.lr * lr_factor(progress.step - 1, self.n_steps, self.config)
        mean = progress.window_loss / max(1, progress.window_steps)
        progress.window_loss, progress.window_steps = 0.0, 0
        self.log.write(progress.step, {"loss": mean, "lr": lr, "epoch": progress.epoch, "n_tokens": progress.n_tokens}, clock={"tokens_per_s": speed})

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.progress.n_worse >= self.config.patience

    def _measure(self) -> None:
        """Measure the development set, log it, and keep the weights if they are the best."""
        assert self.dev is not None
        accelerator, progress = self.accelerator, self.progress
        logits = step_logits(
            self.classifier, self.dev, batch_tokens=self.config.batch_tokens, device=accelerator.device,
            rank=accelerator.process_index, n_ranks=accelerator.num_processes,
        )  # fmt: skip
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            logits = {index: value for found in gather_object([logits]) for index, value in found.items()}
        measured = dev_metrics(self.dev, logits, self.config)
        self.log.write(progress.step, measured)
        if measured["dev_loss"] < progress.best_loss:
            progress.best_loss, progress.best_step, progress.best_metrics, progress.n_worse = measured["dev_loss"], progress.step, measured, 0
            if self.config.select == "best" and progress.step < self.n_steps and accelerator.is_main_process:
                checkpoints.save(self.out / "checkpoints" / "best", progress.step, self._unwrapped(), {}, {"step": progress.step}, keep=1)
        else:
            progress.n_worse += 1
        progress.last_metrics = measured

    def _save(self) -> None:
        accelerator = self.accelerator
        generators = [{"cpu": torch.get_rng_state(), **({"cuda": torch.cuda.get_rng_state()} if accelerator.device.type == "cuda" else {})}]
        if accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            generators = gather_object(generators)
        if accelerator.is_main_process:
            extras = {"optimiser": self.optimiser.state_dict(), "generators": generators}
            if accelerator.scaler is not None:
                extras["scaler"] = accelerator.scaler.state_dict()
            state = {"key": self.key, "progress": asdict(self.progress), "n_processes": accelerator.num_processes, "metrics_bytes": self.log.n_bytes}
            checkpoints.save(self.out / "checkpoints", self.progress.step, self._unwrapped(), extras, state, keep=self.config.keep_checkpoints)
        accelerator.wait_for_everyone()

    def _resume(self) -> int | None:
        """Continue from the newest whole checkpoint; returns its step."""
        accelerator = self.accelerator
        with accelerator.main_process_first():  # it sets damaged checkpoints aside, and the others then see the same newest one
            found, problems = checkpoints.latest(self.out / "checkpoints")
        if found is None:
            self.log.open(0, self.key)
        else:
            if found.state["key"] != self.key:
                raise InputError(f"{str(self.out)!r} holds checkpoints of another configuration or data; choose another folder, or delete them")
            if found.state["n_processes"] != accelerator.num_processes:
                raise InputError(
                    f"{str(self.out)!r} was trained with {found.state['n_processes']} processes; resume with as many, not {accelerator.num_processes}"
                )
            extras = found.restore(self._unwrapped())
            self.optimiser.load_state_dict(extras["optimiser"])
            generators = extras["generators"][accelerator.process_index]
            torch.set_rng_state(generators["cpu"])
            if "cuda" in generators and accelerator.device.type == "cuda":
                torch.cuda.set_rng_state(generators["cuda"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(extras["scaler"])
            self.progress = Progress(**found.state["progress"])
            self.log.open(found.state["metrics_bytes"], self.key, step=self.progress.step)
        for problem in problems:
            self.log.note(problem)
        return None if found is None else self.progress.step

    def _finish(self, wall_s: float, start_tokens: int, resumed_from: int | None) -> TrainResult:
        accelerator, progress = self.accelerator, self.progress
        kept_step, measured = progress.step, progress.last_metrics
        if self.config.select == "best" and progress.best_step not in (-1, progress.step):
            best, problems = checkpoints.latest(self.out / "checkpoints" / "best")
            for problem in problems:
                self.log.note(problem)
            if best is None or best.state["step"] != progress.best_step:
                raise StepwardError(f"the weights of the best step {progress.best_step} are lost; train again with select='last', or from an empty folder")
            best.restore(self._unwrapped())
            kept_step, measured = progress.best_step, progress.best_metrics
        n_tokens = progress.n_tokens - start_tokens
        result = TrainResult(
            folder=str(self.out), n_steps=progress.step, kept_step=kept_step, metrics=measured, n_tokens=progress.n_tokens, wall_s=wall_s,
            tokens_per_s=n_tokens / max(1e-9, wall_s), resumed_from=resumed_from,
        )  # fmt: skip
        if accelerator.is_main_process:
            data = {"train": describe(self.data), "dev": None if self.dev is None else describe(self.dev)}
            convention = {**self.config.convention.to_json(), "max_tokens": self.max_tokens}
            write_model_folder(self.out, self.model, self.tokenizer, convention, self.config.to_record(), data, self.key, result)
        accelerator.wait_for_everyone()
        return result

    def _unwrapped(self) -> Any:
        return self.accelerator.unwrap_model(self.classifier)
