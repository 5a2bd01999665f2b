"""Sentences of a problem or step, with their places. What they say is read elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stepward.rewards.logic.notation import without_dots

MAX_TEXT = 20_000
_END = re.compile(r"[;!?\n]|\.(?=[\s\"”)*]|$)")
_MARKER = re.compile(r"\s*(?:#+\s*|[-*•–]\s+|\(?\d{1,3}[.):]\s+|\(?[ivx]{1,4}[.)]\s+|(?:step|premise|rule|fact|line)\s+\d{1,3}\s*[:.)]\s*)*", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:facts?|rules?|premises?|context|given|theory|knowledge base|question|statement|hypothesis|query|conclusion|conclude|claim)\s*:\s*", re.IGNORECASE
)
_STRIPPED = " \t\r\"“”'*`$,:"


@dataclass(frozen=True)
class Sentence:
    """`text` without list markers, labels ("Facts:") and quotes; `span` in the whole text; `asks`: it ends with a question mark."""

    text: str
    span: tuple[int, int]
    asks: bool = False
    label: str = ""


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text, in order; at most `MAX_TEXT` characters are read."""
    offset = 0
    for line in without_dots(text[:MAX_TEXT]).split("\n"):
        marker = _MARKER.match(line)
        at = marker.end() if marker else 0
        while at < len(line):
            found = _END.search(line, at)
            end = found.start() if found else len(line)
            yield from _sentence(line, at, end, offset, asks=found is not None and found[0] == "?")
            at = found.end() if found else len(line)
        offset += len(line) + 1


def _sentence(line: str, start: int, end: int, offset: int, *, asks: bool) -> Iterator[Sentence]:
    piece = line[start:end]
    label = _LABEL.match(piece.lstrip(_STRIPPED))
    body = piece.lstrip(_STRIPPED)[label.end() :] if label else piece
    text = body.strip(_STRIPPED)
    if text:
        begin = line.index(text, start, end + 1)
        yield Sentence(text, (offset + begin, offset + begin + len(text)), asks, label[0].rstrip(": ").lower() if label else "")
