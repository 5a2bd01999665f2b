"""Records: canonical JSON, content hashes and the versioned, self-describing dictionaries that nouns are written as."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NoReturn, Protocol, TypeVar

from stepward.core.errors import FormatError, InputError

SCHEMA_VERSION = 1


class Record(Protocol):
    """A noun that can be written and read back exactly."""

    def to_record(self) -> dict[str, Any]: ...


class FrozenDict(dict[str, Any]):
    """A dictionary that cannot be changed; JSON-compatible, picklable, hashable by content."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this mapping is immutable; make a changed copy with {**mapping, ...}")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        return (FrozenDict, (dict(self),))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(canonical_json(self))


def freeze(value: Any) -> Any:
    """A deep immutable copy of JSON-like data: mappings to `FrozenDict` with sorted keys, so that equal data is written alike; lists to tuples."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in sorted(((str(key), item) for key, item in value.items()), key=lambda pair: pair[0])})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """The plain dictionaries and lists behind `freeze`."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest round-trip floats; NaN is refused (write null and a reason)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(*parts: str | bytes) -> str:
    """32 hex digits (128 bits of BLAKE2b) of the parts, each length-prefixed so that their borders count.

    Lone surrogates, which JSON can carry, hash like any other text.
    """
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def nullable(values: Iterator[float] | Any) -> list[float | None]:
    """Floats for JSON: NaN becomes null."""
    return [None if math.isnan(value) else float(value) for value in values]


T = TypeVar("T")
_readers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}


def record_kind(kind: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: records whose "kind" is `kind` are read by this class's `from_record`."""

    def register(cls: type[T]) -> type[T]:
        _readers[kind] = cls.from_record  # type: ignore[attr-defined]
        return cls

    return register


def header(kind: str) -> dict[str, Any]:
    """The first fields of every record."""
    return {"kind": kind, "version": SCHEMA_VERSION}


def check_header(record: Mapping[str, Any], kind: str) -> None:
    """Refuse a record of another kind or from a newer schema.

    Raises: FormatError naming the field.
    """
    if record.get("kind") != kind:
        raise FormatError(f"expected a {kind!r} record, got {record.get('kind')!r}", field="kind")
    version = record.get("version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise FormatError(f"schema version {version!r} is not readable here (this stepward reads 1 to {SCHEMA_VERSION}); upgrade stepward", field="version")


def from_record(record: Mapping[str, Any]) -> Any:
    """Read any noun back from its record by its "kind"."""
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _readers:
        raise InputError(f"unknown record kind {kind!r}; known kinds: {', '.join(sorted(_readers))}")
    return _readers[kind](record)


def require(record: Mapping[str, Any], field: str, kinds: type | tuple[type, ...]) -> Any:
    """The field's value, checked to be of one of `kinds`.

    Raises: FormatError naming the field.
    """
    if field not in record:
        raise FormatError("missing", field=field)
    value = record[field]
    accepted = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in accepted)
        raise FormatError(f"expected {names}, got {type(value).__name__} {str(value)[:80]!r}", field=field)
    return value
