"""stepward train"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from stepward.cli.inputs import examples_from
from stepward.cli.options import JsonOption, LimitOption, SeedOption, SkipBadRows
from stepward.cli.output import print_json, print_table, remarks
from stepward.engine.progress import progress


def train(
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Labelled examples in any known format. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the model, its checkpoints and its metrics go.")],
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="FOLDER_OR_ID", help="Any transformers model; `tiny` and `tiny:deduction` are shipped.")
    ] = "tiny",
    dev_data: Annotated[
        list[Path] | None, typer.Option("--dev-data", metavar="FILE", help="Examples to choose the best checkpoint on. Default: some problems of --data.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="values (soft labels, as they are) or hard.")] = "values",
    keep: Annotated[str, typer.Option("--keep", help="all labelled steps, or those to_first_error.")] = "all",
    balance: Annotated[str, typer.Option("--balance", help="Class balance: none, inverse or effective.")] = "none",
    on_overflow: Annotated[str, typer.Option("--on-overflow", help="Steps that do not fit the context: error, or unscored (left out and counted).")] = "error",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the examples.")] = 3,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 3e-4,
    batch_tokens: Annotated[int, typer.Option("--batch-tokens", min=1, help="Tokens a batch, padding included.")] = 4096,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Context limit. Default: 4,096.")] = None,
    save_every: Annotated[int, typer.Option("--save-every", min=0, help="Optimiser steps between checkpoints; a killed run goes on from the last one.")] = 100,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Train a step classifier on labelled solutions.

    The result is a folder that transformers loads (token classification, two classes), with its scoring convention in its own config:
    score with `--model prm:FOLDER`. Soft labels stay soft, and no step is dropped silently. A killed run resumes exactly.

    Example: stepward train --data labels.jsonl --backbone tiny --out prm
    """
    from stepward.core import InputError
    from stepward.data.curate.split import split_in_two
    from stepward.policies.load import TINY, tiny_folder
    from stepward.rewards.convention import Convention
    from stepward.training.config import Balance, TrainConfig
    from stepward.training.dataset import Keep, Overflow, Target
    from stepward.training.trainer import StepReport
    from stepward.training.trainer import train as run_training

    examples = [example for example in examples_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if example.labels is not None]
    if not examples:
        raise InputError("the files hold no labels; make some with `stepward label`")
    if dev_data:
        dev = [example for example in examples_from(dev_data, skip_bad_rows=skip_bad_rows) if example.labels is not None]
    else:
        examples, dev = split_in_two(examples, dev_share=0.1, seed=seed)
    config = TrainConfig(
        backbone=str(tiny_folder(backbone)) if backbone in TINY else backbone,
        convention=Convention() if max_tokens is None else Convention(max_tokens=max_tokens),
        target=cast(Target, target),
        keep=cast(Keep, keep),
        balance=cast(Balance, balance),
        on_overflow=cast(Overflow, on_overflow),
        epochs=epochs,
        lr=lr,
        batch_tokens=batch_tokens,
        eval_every=save_every,
        save_every=save_every,
        tensorboard=tensorboard,
        seed=seed,
    )
    with progress("train", quiet=json) as bar:

        def show(step: StepReport) -> None:
            bar.reach(step.step, step.n_steps)
            bar.note(f"loss {step.loss:.3f}, {step.tokens_per_s:,.0f} tokens/s")

        result = run_training(examples, dev, config, out, on_step=show)
    summary: dict[str, Any] = {"out": str(out), "n_examples": len(examples), "n_dev_examples": len(dev), **asdict(result)}
    if json:
        print_json(summary)
        return
    print_table("trained", ["", "value"], [[name, value] for name, value in summary.items() if not isinstance(value, dict | list)])
    remarks.print(f"score with it: stepward score --model prm:{out} --data FILE")
