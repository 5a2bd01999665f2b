"""Training checkpoints: folders that appear whole or not at all, with a checksum of every file. What is in them is the trainer's business."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

_MANIFEST, _MODEL, _EXTRAS, _STATE = "manifest.json", "model.safetensors", "extras.pt", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums are right. `state` is JSON; `extras` holds tensors (optimiser, random generators)."""

    folder: Path
    state: dict[str, Any]

    def restore(self, module: nn.Module) -> dict[str, Any]:
        """Load the weights into the module; returns the extras."""
        load_model(module, self.folder / _MODEL)
        extras: dict[str, Any] = torch.load(self.folder / _EXTRAS, map_location="cpu", weights_only=True)
        return extras


def save(root: Path, step: int, module: nn.Module, extras: dict[str, Any], state: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of a step beside the earlier ones, of which the last `keep` (this one included) stay."""
    final = root / f"step-{step:08d}"
    work = root / f".{final.name}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    save_model(module, str(work / _MODEL))
    torch.save(extras, work / _EXTRAS)
    (work / _STATE).write_text(json.dumps(state), encoding="utf-8")
    sums = {path.name: _digest(path) for path in sorted(work.iterdir())}
    (work / _MANIFEST).write_text(json.dumps(sums), encoding="utf-8")
    for path in (*work.iterdir(), work):
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(work, final)
    _sync(root)
    for old in _folders(root)[:-keep]:
        shutil.rmtree(old)
    return final


def latest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and a line about each damaged one, which is set aside under another name."""
    problems: list[str] = []
    for folder in reversed(_folders(root)):
        problem = _check(folder)
        if problem is None:
            return Checkpoint(folder, json.loads((folder / _STATE).read_text(encoding="utf-8"))), problems
        aside = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        problems.append(f"checkpoint {folder.name} is damaged ({problem}); set aside as {aside.name}")
    return None, problems


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob("step-????????")) if root.is_dir() else []


def _check(folder: Path) -> str | None:
    try:
        sums = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name in (_MODEL, _EXTRAS, _STATE):
            if _digest(folder / name) != sums[name]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
