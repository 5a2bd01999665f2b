"""The trainer: it learns, resumes exactly, refuses to mix runs, and leaves a folder that scores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.examples import decidable, soft

from stepward.core import InputError, Trajectory
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.testing.fixtures import ARCHITECTURES, tiny_causal_lm, tiny_tokenizer
from stepward.training.config import TrainConfig, lr_factor
from stepward.training.trainer import train

BRIEF = {"lr": 3e-3, "batch_tokens": 512, "device": "cpu", "log_every": 2}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    return str(tiny_causal_lm("llama", tmp_path_factory.mktemp("backbone"), tokenizer=tiny_tokenizer("wordlevel"), hidden=32, layers=2))


def lines(folder: Path) -> list[dict[str, object]]:
    """The metrics without clock readings."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "clock"} for row in rows]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def surroundings() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "OMP_NUM_THREADS": "1"}


def kill_after(step: int):
    def stop(report) -> None:
        if report.step == step:
            raise Killed

    return stop


def test_it_learns_what_a_token_decides(backbone: str, tmp_path: Path) -> None:
    config = TrainConfig(backbone=backbone, **BRIEF | {"batch_tokens": 1024}, max_steps=120, convention=Convention(aggregation="product"))
    result = train(decidable(500), decidable(100, seed=1), config, tmp_path)
    assert result.metrics["dev_balanced_accuracy"] > 0.95
    assert result.metrics["dev_auroc"] > 0.98
    assert result.metrics["dev_first_error_f1"] > 0.9
    model = DiscriminativeModel.from_pretrained(tmp_path)
    assert model.convention == Convention(aggregation="product", max_tokens=512), "the folder says how it is read, with the backbone's own context"
    scores = asyncio.run(model.score(Trajectory.from_texts("How many? 7", ["Tom has good apples", "bad box total fruits"])))
    assert scores.first_error() == 1


def test_soft_targets_are_approached_as_they_are(backbone: str, tmp_path: Path) -> None:
    """Never rounded: a step labelled 0.3 is predicted 0.3, one labelled 0.9 is predicted 0.9."""
    values = {"good": 0.9, "fine": 0.5, "bad": 0.3}
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=120)
    train(soft(150, value_of=values.__getitem__), soft(20, seed=1, value_of=values.__getitem__), config, tmp_path)
    model = DiscriminativeModel.from_pretrained(tmp_path)
    scores = asyncio.run(model.score(Trajectory.from_texts("3", ["good", "bad", "fine", "good"])))
    assert scores.values == pytest.approx([0.9, 0.3, 0.5, 0.9], abs=0.06)


@pytest.mark.parametrize("dropout", ["off", "model"])
@pytest.mark.parametrize("step", [3, 7])
def test_a_run_killed_at_any_step_ends_bit_identical(backbone: str, tmp_path: Path, dropout: str, step: int) -> None:
    settings = BRIEF | {"batch_tokens": 160}
    config = TrainConfig(backbone=backbone, **settings, epochs=2, save_every=3, eval_every=4, accumulate=2, dropout=dropout, freeze_backbone_steps=2, seed=5)
    data, dev = decidable(60), decidable(12, seed=1)
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    expected = train(data, dev, config, undisturbed)
    assert expected.n_steps > 8
    with pytest.raises(Killed):
        train(data, dev, config, killed, on_step=kill_after(step))
    resumed = train(data, dev, config, killed)
    assert resumed.resumed_from == step - step % 3
    assert same_weights(undisturbed, killed)
    assert lines(undisturbed) == lines(killed)
    assert resumed.metrics == expected.metrics


@pytest.mark.parametrize("patience", [None, 1])
def test_a_run_killed_after_its_last_checkpoint_is_not_measured_again(backbone: str, tmp_path: Path, patience: int | None) -> None:
    data = decidable(40)
    dev = [replace(row, labels=replace(row.labels, values=1.0 - row.labels.values, hard=())) for row in decidable(8, seed=1)]
    steps = {"eval_every": 2, "save_every": 2, "schedule": "constant", "patience": patience}
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=20 if patience else 4, **steps)
    expected = train(data, dev, config, tmp_path / "a")
    assert expected.n_steps < 20, "patience must end the run for this to mean anything"
    with pytest.raises(Killed):
        train(data, dev, config, tmp_path / "b", on_step=kill_after(expected.n_steps))
    resumed = train(data, dev, config, tmp_path / "b")
    assert (resumed.n_steps, resumed.kept_step) == (expected.n_steps, expected.kept_step)
    assert resumed.metrics == pytest.approx(expected.metrics, nan_ok=True)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_sigkill_inside_a_process_loses_nothing(backbone: str, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from tests.training.examples import decidable\n"
        "from stepward.training.config import TrainConfig\n"
        "from stepward.training.trainer import train\n"
        "config = TrainConfig(backbone=sys.argv[1], lr=3e-3, batch_tokens=512, device='cpu', log_every=2, max_steps=8, save_every=2)\n"
        "train(decidable(60), decidable(12, seed=1), config, sys.argv[2], on_step=lambda r: r.step == 5 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, backbone, str(tmp_path / "killed")], env=surroundings(), capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=8, save_every=2)
    data, dev = decidable(60), decidable(12, seed=1)
    assert train(data, dev, config, tmp_path / "killed").resumed_from == 4
    train(data, dev, config, tmp_path / "undisturbed")
    assert same_weights(tmp_path / "killed", tmp_path / "undisturbed")
    assert lines(tmp_path / "killed") == lines(tmp_path / "undisturbed")


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(backbone: str, tmp_path: Path) -> None:
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=8, save_every=2)
    data = decidable(60)
    with pytest.raises(Killed):
        train(data, [], config, tmp_path / "a", on_step=kill_after(5))
    file = tmp_path / "a" / "checkpoints" / "step-00000004" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    resumed = train(data, [], config, tmp_path / "a")
    assert resumed.resumed_from == 2
    assert any("step-00000004 is damaged" in str(row.get("note")) for row in lines(tmp_path / "a"))
    train(data, [], config, tmp_path / "b")
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_the_same_run_again_returns_its_result_and_another_run_is_refused(backbone: str, tmp_path: Path) -> None:
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=3)
    data, dev = decidable(20), decidable(5, seed=1)
    first = train(data, dev, config, tmp_path)
    assert train(data, dev, config, tmp_path, on_step=kill_after(1)) == replace(first, folder=str(tmp_path))
    for other, rows in ((replace(config, lr=1e-3), data), (config, decidable(21))):
        with pytest.raises(InputError, match="another configuration or other data"):
            train(rows, dev, other, tmp_path)


def test_the_best_weights_are_kept_and_patience_ends_the_run(backbone: str, tmp_path: Path) -> None:
    """Development labels are the opposite of the training labels, so the best weights are early ones."""
    data = decidable(60)
    dev = [replace(row, labels=replace(row.labels, values=1.0 - row.labels.values, hard=())) for row in decidable(20, seed=1)]
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=40, eval_every=2, patience=4, schedule="constant")
    result = train(data, dev, config, tmp_path)
    losses = {row["step"]: row["dev_loss"] for row in lines(tmp_path) if "dev_loss" in row}
    assert result.kept_step == min(losses, key=losses.__getitem__)
    assert result.metrics["dev_loss"] == losses[result.kept_step]
    assert result.n_steps == result.kept_step + 8 < 40


def test_accumulated_batches_make_the_step_of_one_large_batch(backbone: str, tmp_path: Path) -> None:
    """Losses are normalised over the whole optimiser step, so splitting it changes rounding only."""
    data = decidable(16)
    whole = TrainConfig(backbone=backbone, **BRIEF | {"batch_tokens": 100_000}, max_steps=1, balance="inverse", reduce="sequence")
    train(data, [], whole, tmp_path / "whole")
    train(data, [], replace(whole, batch_tokens=200, accumulate=64), tmp_path / "parts")
    rows = [lines(tmp_path / name)[1]["loss"] for name in ("whole", "parts")]
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert torch.allclose(one["score.weight"], other["score.weight"], atol=1e-4)


def test_two_processes_make_the_steps_of_one_with_accumulation(backbone: str, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\n"
        "from tests.training.examples import decidable\n"
        "from stepward.training.config import TrainConfig\n"
        "from stepward.training.trainer import train\n"
        "config = TrainConfig(backbone=sys.argv[1], lr=3e-3, batch_tokens=160, device='cpu', log_every=1, max_steps=5, eval_every=2, balance='inverse')\n"
        "train(decidable(20), decidable(12, seed=1), config, sys.argv[2])\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), backbone, str(tmp_path / "two")]
    done = subprocess.run(launch, env=surroundings(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    config = TrainConfig(backbone=backbone, **BRIEF | {"batch_tokens": 160, "log_every": 1}, accumulate=2, max_steps=5, eval_every=2, balance="inverse")
    train(decidable(20), decidable(12, seed=1), config, tmp_path / "one")
    losses = [[row["loss"] for row in lines(tmp_path / name) if "loss" in row] for name in ("one", "two")]
    assert len(losses[0]) == 5
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_only_the_head_learns_in_the_first_stage(backbone: str, tmp_path: Path) -> None:
    before = load_file(Path(backbone) / "model.safetensors")
    config = TrainConfig(backbone=backbone, **BRIEF, max_steps=3, freeze_backbone_steps=3)
    train(decidable(30), [], config, tmp_path)
    after = weights(tmp_path)
    for name in after:
        if not name.startswith("score"):
            assert torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_causal_language_model_is_a_backbone(architecture: str, tmp_path: Path) -> None:
    folder = tiny_causal_lm(architecture, tmp_path / "lm", hidden=16, layers=1)
    config = TrainConfig(backbone=str(folder), **BRIEF, max_steps=2, objective="mse", balance="effective", tensorboard=architecture == "gpt2")
    result = train(decidable(10), decidable(4, seed=1), config, tmp_path / "out")
    assert result.n_steps == 2
    assert set(json.loads((tmp_path / "out" / "training.json").read_text())) == {"key", "config", "data", "versions", "result"}
    scores = asyncio.run(DiscriminativeModel.from_pretrained(tmp_path / "out").score(Trajectory.from_texts("a", ["b", ""])))
    assert scores.n_unscored == 0
    assert (tmp_path / "out" / "tensorboard").is_dir() == (architecture == "gpt2")


def test_learning_rate_schedules_warm_up_and_end_where_they_should() -> None:
    config = TrainConfig(backbone="x", warmup=0.1, min_lr=0.1, schedule="linear")
    factors = [lr_factor(step, 100, config) for step in range(100)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.1 + 0.9 / 90)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    cosine = replace(config, schedule="cosine", min_lr=0.0)
    assert lr_factor(55, 100, cosine) == pytest.approx(0.5)


def test_configurations_round_trip_and_refuse_nonsense() -> None:
    config = TrainConfig(backbone="x", clip_norm=None, max_steps=3, convention=Convention(marker=" ki"))
    assert TrainConfig.from_record(json.loads(json.dumps(config.to_record()))) == config
    for name, value in {"lr": 0.0, "warmup": 1.0, "epochs": 0, "target": "int", "schedule": "step", "betas": (1.0, 0.9), "patience": 0}.items():
        with pytest.raises(InputError, match=name):
            TrainConfig(backbone="x", **{name: value})
