"""Shards: a data set as a folder of Parquet files, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stepward.core import Example, InputError
from stepward.data.rows import PathLike
from stepward.data.store import write_records

_NAME = "part-{:05d}.parquet"


def write_shards(examples: Sequence[Example], folder: PathLike, *, size: int = 10_000) -> list[Path]:
    """Write `size` examples a file; returns the files. Each appears whole or not at all; shards of an earlier, longer set are removed.

    Raises: InputError for a size below 1, or a path that is a file.
    """
    if size < 1:
        raise InputError(f"a shard holds at least 1 example, got size={size}")
    root = Path(folder)
    if root.is_file():
        raise InputError(f"{root} is a file; give a folder for shards")
    root.mkdir(parents=True, exist_ok=True)
    files = []
    for number, first in enumerate(range(0, len(examples), size)):
        files.append(root / _NAME.format(number))
        write_records(examples[first : first + size], files[-1])
    for stale in set(shards_in(root)) - set(files):
        stale.unlink()
    return files


def shards_in(folder: PathLike) -> list[Path]:
    """The shards of a folder, in their order."""
    return sorted(Path(folder).glob("part-*.parquet"))
