"""Rows: the numbers in a server's answer as arrays. Which row belongs to which step is the protocols' matter."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepward.core import RequestFailed

Floats = NDArray[np.float64]
_EXCERPT = 200


def ordered(answer: Mapping[str, Any], *, n: int) -> list[Mapping[str, Any]]:
    """The n entries of `data`, in the order of their `index`.

    Raises: RequestFailed for another form or another number of entries.
    """
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(item, Mapping) for item in data):
        raise RequestFailed(f"the server's answer has no list of objects in 'data': {str(answer)[:_EXCERPT]}")
    if sorted(item.get("index", -1) if isinstance(item.get("index", -1), int) else -1 for item in data) != list(range(n)):
        raise RequestFailed(f"{n} inputs were sent and the server answered for {[item.get('index') for item in data][:20]}")
    return sorted(data, key=lambda item: int(item["index"]))


def rows_of(value: Any, *, n_columns: int) -> Floats:
    """[R, K] from a list of rows, a list of numbers (one column), or base64 of little-endian fp32 in rows of `n_columns`; null is NaN.

    Raises: RequestFailed for anything else.
    """
    if isinstance(value, str):
        try:
            flat = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float64)
        except (binascii.Error, ValueError) as error:
            raise RequestFailed(f"the server's values are not base64 of fp32 numbers: {value[:_EXCERPT]!r}") from error
        if len(flat) % n_columns:
            raise RequestFailed(f"the server returned {len(flat)} numbers, which are not rows of {n_columns}")
        return flat.reshape(-1, n_columns)
    if not isinstance(value, list):
        raise RequestFailed(f"the server's values are {type(value).__name__}, not a list: {str(value)[:_EXCERPT]}")
    rows = value if all(isinstance(row, list) for row in value) else [[number] for number in value]
    width = len(rows[0]) if rows else n_columns
    if any(len(row) != width for row in rows):
        raise RequestFailed(f"the server's rows have different lengths: {sorted({len(row) for row in rows})}")
    return np.array([[_number(item) for item in row] for row in rows], dtype=np.float64).reshape(len(rows), width)


def columns_of(rows: Floats, *, n_outputs: int, ids: Sequence[int]) -> Floats:
    """[R, n_outputs]: the rows themselves, or of rows as wide as a vocabulary the columns `ids`.

    Raises: RequestFailed for rows that are neither.
    """
    width = rows.shape[1]
    if width == n_outputs or not len(rows):
        return rows[:, :n_outputs] if len(rows) else np.zeros((0, n_outputs))
    if ids and width > max(*ids, n_outputs):
        return rows[:, list(ids)]
    raise RequestFailed(f"the server gives {width} numbers a step, the convention reads {n_outputs}; is it serving another model or pooler?")


def _number(item: Any) -> float:
    if item is None:
        return float("nan")
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise RequestFailed(f"the server's values contain {item!r} where a number should be")
    try:
        return float(item)
    except OverflowError:
        raise RequestFailed(f"the server's values contain an integer of {len(str(item))} digits") from None
