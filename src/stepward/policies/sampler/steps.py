"""Step ends: where a text that is being written is cut into steps. Knows text only; tokens are the caller's."""

from __future__ import annotations

from typing import NamedTuple


class Cut(NamedTuple):
    """A finished step, the separator as written, and what was written after it."""

    text: str
    separator: str
    rest: str


def cut_step(text: str, separator: str) -> Cut | None:
    """The first step of `text`, or None while it is still open.

    A step ends at the first separator after something other than white space has been written; white space that follows the separator belongs
    to it as written. So leading blank lines never make an empty step.
    """
    stripped = text.lstrip()
    at = text.find(separator, len(text) - len(stripped)) if stripped else -1
    if at < 0:
        return None
    end = at + len(separator)
    after = text[end:]
    end += len(after) - len(after.lstrip())
    return Cut(text[:at], text[at:end], text[end:])
