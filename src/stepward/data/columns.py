"""Columns: the Parquet schema of every kind of record. Imported only when Parquet is read or written.

Top-level scalars are typed columns, nested nouns are structs, values per step are lists (an unscored value is null), and free-form maps
(metadata, source, action) are JSON text. So `SELECT id, labels.first_error, labels."values" FROM 'file.parquet'` works with any reader.
What typed columns cannot hold exactly (lone surrogates, integers beyond 64 bits, an integer where a fraction is usual) is kept
whole in the column `record_json`, escaped JSON text, null for all other rows; the typed columns then hold the nearest thing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

EXACT = "record_json"
_JSON = b"json"  # marks a text column that holds JSON


def _json(name: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata={b"stepward": _JSON})


def _fields(*pairs: tuple[str, pa.DataType] | pa.Field) -> list[pa.Field]:
    return [pair if isinstance(pair, pa.Field) else pa.field(*pair) for pair in pairs]


def _noun(*pairs: tuple[str, pa.DataType] | pa.Field) -> list[pa.Field]:
    return _fields(("kind", _TEXT), ("version", pa.int32()), *pairs)


_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TEXTS, _REALS = pa.list_(_TEXT), pa.list_(_REAL)

_USAGE = pa.struct(
    _fields(
        *(
            (name, _WHOLE)
            for name in ("policy_tokens", "policy_prefill", "policy_cached", "reward_tokens", "reward_cached", "reward_written", "calls", "flops")
        ),
        ("wall_s", _REAL),
    )
)
_PROBLEM = _noun(
    ("id", _TEXT), ("prompt", _TEXT), ("answer", _TEXT), ("reference_steps", _TEXTS), ("environment", _TEXT), ("images", _TEXTS), _json("metadata")
)
_STEP = _noun(("text", _TEXT), ("separator", _TEXT), _json("action"), ("observation", _TEXT), ("agent", _TEXT), ("n_tokens", _WHOLE), ("logprob", _REAL))
_STEPS = pa.list_(pa.struct(_STEP))
_OUTCOME = _noun(("value", _REAL), ("answer", _TEXT), ("reason", _TEXT))
_TRAJECTORY = _noun(("problem", pa.struct(_PROBLEM)), ("steps", _STEPS), ("finished", _FLAG), ("truncated", _FLAG), ("outcome", pa.struct(_OUTCOME)))
_SCORES = _noun(
    ("values", _REALS),
    ("reasons", _TEXTS),
    ("scale", _TEXT),
    ("threshold", _REAL),
    ("rationales", _TEXTS),
    _json("source"),
    ("usage", _USAGE),
    _json("aspects"),
)
_LABELS = _noun(
    ("values", _REALS), ("semantics", _TEXT), ("hard", pa.list_(_FLAG)), ("first_error", _WHOLE), ("reasons", _TEXTS), ("error_types", _TEXTS),
    ("rationales", _TEXTS), ("counts", pa.list_(pa.list_(_WHOLE))), ("confidence", _REALS), ("bounds", pa.list_(pa.list_(_REAL))),
    _json("evidence"), _json("source"), ("usage", _USAGE),
)  # fmt: skip
_EXAMPLE = _noun(("id", _TEXT), ("source", _TEXT), ("trajectory", pa.struct(_TRAJECTORY)), ("labels", pa.struct(_LABELS)), _json("metadata"))
_NODE = _fields(
    ("parent", _WHOLE), ("steps", _STEPS), ("finished", _FLAG), ("truncated", _FLAG), ("outcome", pa.struct(_OUTCOME)), ("value", _REAL),
    ("reason", _TEXT), ("scores", pa.struct(_SCORES)), ("visits", _WHOLE), ("value_sum", _REAL), ("closed", _FLAG),
)  # fmt: skip
_TREE = _noun(("start", pa.struct(_TRAJECTORY)), ("nodes", pa.list_(pa.struct(_NODE))))
_RESULT = _noun(("chosen", pa.struct(_TRAJECTORY)), ("tree", pa.struct(_TREE)), ("usage", _USAGE), ("reason", _TEXT), _json("source"))

_KINDS: dict[str, list[pa.Field]] = {
    "problem": _PROBLEM, "step": _STEP, "outcome": _OUTCOME, "trajectory": _TRAJECTORY, "step_scores": _SCORES, "step_labels": _LABELS,
    "example": _EXAMPLE, "tree": _TREE, "search_result": _RESULT,
}  # fmt: skip


def schema_of(kind: str | None) -> pa.Schema:
    """The Parquet schema of a kind of record; a kind without typed columns here is kept in `record_json` alone."""
    fields = _KINDS.get(kind or "", _fields(("kind", _TEXT), ("version", pa.int32())))
    return pa.schema([*fields, pa.field(EXACT, _TEXT)])


def encode_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """The rows as a table."""
    return pa.Table.from_pylist([_encode_row(row, schema) for row in rows], schema=schema)


def _encode_row(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    exact = set(row) == {field.name for field in schema} - {EXACT}
    for field in schema:
        if field.name != EXACT:
            cells[field.name], fits = _encode(row.get(field.name), field)
            exact = exact and fits
    return cells | {EXACT: None if exact else json.dumps(row, allow_nan=False)}


def _encode(value: Any, field: pa.Field) -> tuple[Any, bool]:
    """The cell of a value, and whether it holds the value exactly."""
    kind = field.type
    if field.metadata and field.metadata.get(b"stepward") == _JSON:
        return (None, True) if value is None else (json.dumps(value, sort_keys=False, allow_nan=False), True)
    if value is None:
        return None, True
    if pa.types.is_struct(kind):
        if not isinstance(value, Mapping):
            return None, False
        cells = {inner.name: _encode(value.get(inner.name), inner) for inner in kind}
        return {name: cell for name, (cell, _) in cells.items()}, set(value) == set(cells) and all(fits for _, fits in cells.values())
    if pa.types.is_list(kind):
        if not isinstance(value, list | tuple):
            return None, False
        items = [_encode(item, kind.value_field) for item in value]
        return [cell for cell, _ in items], all(fits for _, fits in items)
    return _encode_scalar(value, kind)


def _encode_scalar(value: Any, kind: pa.DataType) -> tuple[Any, bool]:
    if pa.types.is_string(kind):
        if not isinstance(value, str):
            return None, False
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value.encode("utf-8", "replace").decode("utf-8"), False
        return value, True
    if pa.types.is_boolean(kind):
        return (value, True) if isinstance(value, bool) else (None, False)
    if pa.types.is_floating(kind):
        if isinstance(value, float):
            return value, True
        return (float(value), False) if isinstance(value, int) and abs(value) < 2**53 else (None, False)
    fits = isinstance(value, int) and not isinstance(value, bool) and -(2 ** (kind.bit_width - 1)) <= value < 2 ** (kind.bit_width - 1)
    return (value, True) if fits else (None, False)


def decode_row(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a row."""
    if cells.get(EXACT) is not None:
        record: dict[str, Any] = json.loads(cells[EXACT])
        return record
    fields = _KINDS.get(str(cells.get("kind")), [])
    return {field.name: _decode(cells.get(field.name), field) for field in fields} or dict(cells)


def _decode(cell: Any, field: pa.Field) -> Any:
    if cell is None:
        return None
    if field.metadata and field.metadata.get(b"stepward") == _JSON:
        return json.loads(cell)
    if pa.types.is_struct(field.type):
        return {inner.name: _decode(cell[inner.name], inner) for inner in field.type}
    if pa.types.is_list(field.type):
        return [_decode(item, field.type.value_field) for item in cell]
    return cell
