"""Atomic files: a reader sees the old file or the whole new one, never a part."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from uuid import uuid4


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary stream whose content becomes the file when the body ends, and is thrown away when the body fails.

    Gzip when the name ends in .gz; equal content gives equal bytes (the header carries no time and no name).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as raw:
            if target.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
