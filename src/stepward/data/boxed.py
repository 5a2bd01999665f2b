"""Boxes: the answer in a text's \\boxed{...}, found by counting braces. Linear in the text; nothing is evaluated."""

from __future__ import annotations

import re

BOX = re.compile(r"\\f?boxed\s*")
_MOST_TRIED = 50  # boxes from the end of a text


def last_boxed(text: str) -> str | None:
    r"""The content of the last balanced, non-empty `\boxed{...}`, also of `\boxed 5` without braces; None without one."""
    for match in reversed(list(BOX.finditer(text))[-_MOST_TRIED:]):
        start = match.end()
        if text.startswith("{", start):
            end = closing_brace(text, start)
            if end is not None and text[start + 1 : end].strip():
                return text[start + 1 : end].strip()
        elif match.group().endswith((" ", "\n")) and (token := re.match(r"[^\s$}]+", text[start:])):
            return token.group().rstrip(".,")
    return None


def closing_brace(text: str, start: int) -> int | None:
    """Where the brace that opens at `start` is closed; escaped characters do not count."""
    depth, index = 0, start
    for token in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        index = start + token.start()
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0 and token.group() == "}":
            return index
    return None
