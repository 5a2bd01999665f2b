"""Entry: one paid-for result as the journal keeps it, and the row of bytes that it is stored as."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from stepward.core.errors import FormatError, InputError
from stepward.core.record import canonical_json, content_hash
from stepward.core.usage import NO_USAGE, Usage

Row = tuple[bytes, str, int, bytes, str, str, bytes]  # key, kind, codec, payload, usage, run, checksum

_PLAIN, _ZLIB = 0, 1
_COMPRESS_FROM = 1024  # bytes; shorter payloads are not worth the time


def entry_key(kind: str, fingerprint: str, request: Any) -> str:
    """The content key of a result: 32 hex digits that name what was asked (`request`, JSON-like), of whom, and for what kind of answer."""
    return content_hash("journal", kind, fingerprint, canonical_json(request))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`payload` is JSON-like; `usage` is what the result cost when it was made; `run` names the run that paid."""

    key: str
    kind: str
    payload: Any
    usage: Usage = NO_USAGE
    run: str = ""

    def to_row(self) -> Row:
        """The bytes to store. Raises: InputError for a payload that JSON cannot carry (NaN, infinity, objects)."""
        try:
            payload = canonical_json(self.payload).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError) as error:
            raise InputError(f"a {self.kind!r} result cannot be written as JSON: {error}; write null and a reason for an unknown number") from error
        codec = _PLAIN
        if len(payload) >= _COMPRESS_FROM:
            codec, payload = _ZLIB, zlib.compress(payload, 1)
        cost = {} if self.usage is NO_USAGE else {name: value for name, value in vars(self.usage).items() if value}
        usage = canonical_json(cost)
        key = bytes.fromhex(self.key)
        return key, self.kind, codec, payload, usage, self.run, _checksum(key, self.kind, codec, payload, usage, self.run)

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Entry:
        """The entry behind stored bytes. Raises: FormatError saying what is wrong with them."""
        if len(row) != len(_TYPES) or not all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=True)):
            raise FormatError(f"columns of types {[type(value).__name__ for value in row]}")
        key, kind, codec, payload, usage, run, checksum = row
        if checksum != _checksum(key, kind, codec, payload, usage, run):
            raise FormatError("checksum mismatch")
        try:
            text = (zlib.decompress(payload) if codec == _ZLIB else payload).decode("utf-8", "surrogatepass")
            cost = json.loads(usage)
            return cls(key=key.hex(), kind=kind, payload=json.loads(text), usage=Usage.from_record(cost) if cost else NO_USAGE, run=run)
        except (ValueError, TypeError, RecursionError, zlib.error) as error:
            raise FormatError(f"undecodable payload: {error}") from error


_TYPES = (bytes, str, int, bytes, str, str, bytes)


def _checksum(key: bytes, kind: str, codec: int, payload: bytes, usage: str, run: str) -> bytes:
    words = [part.encode("utf-8", "surrogatepass") for part in (kind, usage, run)]
    lengths = b"".join(len(part).to_bytes(8, "little") for part in (key, payload, *words))
    return blake2b(b"".join((lengths, codec.to_bytes(8, "little", signed=True), key, payload, *words)), digest_size=16).digest()
