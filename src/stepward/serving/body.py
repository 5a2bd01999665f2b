"""Bodies: a request's bytes as a JSON value, read strictly and within limits. What the value means is decided elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from stepward.serving.refusal import Refusal

MAX_DEPTH = 32  # of lists and objects inside each other
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def read_body(chunks: AsyncIterator[bytes], headers: Any, max_bytes: int) -> bytes:
    """The body, never more than `max_bytes` of it in memory, whether or not its length was announced.

    Raises: Refusal 413 for a longer one, 415 for another content type or an encoded body.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal(415, f"content type {kind or 'missing'!r} is not supported; send JSON with content-type: application/json", field="content-type")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(415, f"content-encoding {coding!r} is not supported; send the body as it is", field="content-encoding")
    too_large = Refusal(413, f"the body is larger than {max_bytes} bytes; send fewer items a request", field="body")
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """The JSON value: UTF-8, finite numbers, nothing nested deeper than 32, no lone surrogates.

    Raises: Refusal 400 with the place for what is not JSON, 422 with the field for a text that is not Unicode.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8: {error.reason} at byte {error.start}", field="body") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}", field="body") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer of more digits than Python converts
        raise Refusal(400, "a number in the body has too many digits", field="body") from None
    _check_depth(value)
    if _SURROGATE.search(text):
        _check_unicode(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Refusal(400, f"the body is not JSON: {name} is not a JSON number; leave out or write null for what is not known", field="body")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Refusal(400, f"the number {digits[:40]} in the body is too large", field="body")
    return value


def _too_deep() -> Refusal:
    return Refusal(400, f"the body is nested deeper than {MAX_DEPTH}", field="body")


def _check_depth(value: Any) -> None:
    level, depth = ([value] if isinstance(value, dict | list) else []), 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node) if isinstance(item, dict | list)]


def _check_unicode(value: Any) -> None:
    """Find a lone surrogate, which JSON can carry and UTF-8 cannot."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, str):
            try:
                node.encode("utf-8")
            except UnicodeEncodeError as error:
                raise Refusal(422, f"{path or 'body'}: a lone surrogate at character {error.start}; texts must be Unicode", field=path or "body") from None
        elif isinstance(node, list):
            stack.extend((f"{path}.{index}" if path else str(index), item) for index, item in enumerate(node))
        elif isinstance(node, dict):
            for key, item in node.items():
                inner = f"{path}.{key}" if path else key
                stack.append((inner.encode("ascii", "backslashreplace").decode("ascii"), key))
                stack.append((inner, item))
