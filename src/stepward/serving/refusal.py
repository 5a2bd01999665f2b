"""Refusal: a request that the server will not answer, as a status, a reason and the field it is about; and how every error looks on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_LONGEST = 300  # characters of a field's name or a reason: both may quote what a client sent
_MOST = 8  # mistakes of one request that are listed

TYPES = {
    400: "invalid_json",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "queue_full",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}


class Refusal(Exception):
    """An answer other than 200. `field` is the dotted path of what is wrong, "" where it is not one field; `details` lists every mistake that was found."""

    def __init__(self, status: int, reason: str, *, field: str = "", details: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None) -> None:
        self.status, self.reason, self.field = status, reason, field
        self.details = tuple(details)
        self.headers = dict(headers or {})
        super().__init__(reason)

    def to_json(self) -> dict[str, Any]:
        """The body: OpenAI's and vLLM's error object, with `details`."""
        listed = self.details or (((self.field, self.reason),) if self.field else ())
        error = {
            "message": shortened(self.reason),
            "type": TYPES.get(self.status, "error"),
            "param": shortened(self.field) or None,
            "code": self.status,
            "details": [{"field": shortened(field), "reason": shortened(reason)} for field, reason in listed],
        }
        return {"error": error}


def invalid(error: ValidationError, *, root: str = "body") -> Refusal:
    """A 422 that names every wrong field with its reason, and repeats nothing that the client sent."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    details = [(_path(mistake["loc"]) or root, mistake["msg"]) for mistake in found[:_MOST]]
    field, reason = details[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Refusal(422, f"{field}: {reason}{more}", field=field, details=details)


def shortened(text: str) -> str:
    """At most 300 characters of a text."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def encoded(value: Any) -> bytes:
    """JSON in ASCII: whatever a text holds, lone surrogates included, it can be sent. NaN is refused: what is not known is null."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def _path(location: Sequence[int | str]) -> str:
    """items.3.steps.0; the names of alternatives, in angle brackets, are left out."""
    return ".".join(str(part) for part in location if not (isinstance(part, str) and part.startswith("<") and part.endswith(">")))
