"""What a training run writes for people and for later: metric lines, TensorBoard files, the model folder and `training.json`."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stepward.core import InputError, MissingExtra
from stepward.data.atomic import replacing
from stepward.policies.checkpoint import quiet_transformers
from stepward.rewards.convention import CONFIG_KEY

_RECORD = "training.json"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model: its folder, and what training it was like. `metrics` are those of the development set at `kept_step`, the step whose weights were kept;
    `wall_s` and `tokens_per_s` (tokens without padding) are of the last uninterrupted stretch."""

    folder: str
    n_steps: int
    kept_step: int
    metrics: Mapping[str, float]
    n_tokens: int
    wall_s: float
    tokens_per_s: float
    resumed_from: int | None = None


class MetricsLog:
    """`metrics.jsonl` and, when asked, TensorBoard event files. Lines after the checkpoint that a run resumes from are cut off and written anew."""

    def __init__(self, out: Path, *, tensorboard: bool, enabled: bool) -> None:
        self._path = out / "metrics.jsonl"
        self._enabled = enabled
        self._writer_of = _tensorboard() if tensorboard and enabled else None
        self._board_folder = out / "tensorboard"
        self._board: Any = None
        self._stream: Any = None

    def open(self, n_bytes: int, key: Mapping[str, str], *, step: int = 0) -> None:
        """Start after the first `n_bytes` bytes; at 0 with a line that names the run."""
        if not self._enabled:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._path.open("ab")
        self._stream.truncate(n_bytes)
        if self._writer_of is not None:
            self._board = self._writer_of(log_dir=str(self._board_folder), purge_step=step + 1 if step else None)
        if n_bytes == 0:
            self._line({"run": dict(key)})

    @property
    def n_bytes(self) -> int:
        """Length of the file so far."""
        self._stream.flush()
        return self._path.stat().st_size

    def write(self, step: int, values: Mapping[str, float], *, clock: Mapping[str, float] | None = None) -> None:
        """One line of metrics; `clock` readings stand in a field of their own, because they differ between reruns."""
        if not self._enabled:
            return
        plain = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
        self._line({"step": step, **plain} | ({"clock": dict(clock)} if clock else {}))
        if self._board is not None:
            for name, value in {**plain, **(clock or {})}.items():
                if value is not None:
                    self._board.add_scalar(name, value, step)

    def note(self, text: str) -> None:
        """A remark in words, such as a damaged checkpoint."""
        if self._enabled:
            self._line({"note": text})

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()

    def _line(self, row: Mapping[str, Any]) -> None:
        self._stream.write((json.dumps(row, allow_nan=False) + "\n").encode())
        self._stream.flush()


def read_finished(out: Path, key: Mapping[str, str]) -> TrainResult | None:
    """The result of the same run if it has already ended here.

    Raises: InputError when another run has ended here.
    """
    path = out / _RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["key"] != dict(key):
        raise InputError(f"{str(out)!r} holds a model that was trained with another configuration or other data; choose another folder, or delete it")
    result = record["result"]
    metrics = {name: math.nan if value is None else value for name, value in result["metrics"].items()}
    return TrainResult(**{**result, "metrics": metrics, "folder": str(out)})


def write_model_folder(
    out: Path, model: Any, tokenizer: Any, convention: Mapping[str, Any], config: Mapping[str, Any], data: Mapping[str, Any],
    key: Mapping[str, str], result: TrainResult,
) -> None:  # fmt: skip
    """Model, tokenizer and `training.json` into `out`; the latter comes last and says that the rest is complete."""
    work = out / ".model.tmp"
    shutil.rmtree(work, ignore_errors=True)
    setattr(model.config, CONFIG_KEY, dict(convention))
    model.config.id2label, model.config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    if convention["good"] == 0:
        model.config.id2label, model.config.label2id = {0: "good", 1: "bad"}, {"good": 0, "bad": 1}
    with quiet_transformers():
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
    for path in sorted(work.iterdir()):
        os.replace(path, out / path.name)
    work.rmdir()
    metrics = {name: None if math.isnan(value) else value for name, value in result.metrics.items()}
    versions = {name: version(name) for name in ("torch", "transformers", "accelerate", "tokenizers", "numpy")}
    record = {
        "key": dict(key), "config": dict(config), "data": dict(data), "versions": versions,
        "result": {**asdict(result), "metrics": metrics, "folder": ""},
    }  # fmt: skip
    with replacing(out / _RECORD) as stream:
        stream.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "train") from error
    return SummaryWriter
