"""Claims about code in a step's text: its Python blocks, and what the step says that they print or come to. No code is run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")
_OUTPUT_NAMES = ("output", "out", "stdout", "console", "text", "plaintext", "txt", "")
_SAYS_OUTPUT = re.compile(r"\b(?:outputs?|prints?|printed|stdout)\b[^\n]*:[*_ \t]*$", re.IGNORECASE)
_INLINE_OUTPUT = re.compile(
    r"^[ \t*_>-]*(?:the )?(?:program |code |expected |actual )?(?:outputs?|prints?)[*_ \t]*:[*_ \t]*`?([^`\n]+?)`?[ \t]*$", re.IGNORECASE
)
_COMMENT = re.compile(r"#\s*(?:-+>|=+>|→|⇒|outputs?\s*:|prints?\s*:|returns?\s*:)\s*(\S.*?)\s*$", re.IGNORECASE)
_NAMED = re.compile(r"#\s*([A-Za-z_]\w*)\s*(?:==?|is now|is)\s*([^=\s].*?)\s*$")
_VAGUE = re.compile(r"\.\.\.|…|≈|~|approx|about|e\.g\.|for example|random|depends|error|or\b", re.IGNORECASE)
_MAX_CHARS = 20_000


@dataclass(frozen=True)
class Stated:
    """What the step says: that line `line` (from 1) of a block, or the block as a whole (0), prints or comes to `value`."""

    value: str
    span: tuple[int, int]
    line: int = 0
    name: str | None = None

    @property
    def vague(self) -> bool:
        """It does not say exactly what."""
        return bool(_VAGUE.search(self.value))


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block; `labelled`: it says that it is Python; `span`: of its code in the step's text."""

    code: str
    span: tuple[int, int]
    labelled: bool
    stated: tuple[Stated, ...] = ()


def read_blocks(text: str) -> list[CodeBlock]:
    """The Python blocks of a step in order, with what is stated about each. Sessions (`>>>`) become code with stated values."""
    if len(text) > _MAX_CHARS:
        return []
    fences = list(_FENCE.finditer(text))
    blocks: list[CodeBlock] = []
    for index, match in enumerate(fences):
        language = match[2].lower()
        if language not in _PYTHON and not (language == "" and _looks_like_python(match[3])):
            continue
        if _is_output(text, match, fences[index - 1] if index else None):
            continue
        following = fences[index + 1] if index + 1 < len(fences) else None
        blocks.append(_block(text, match, following, labelled=language in _PYTHON))
    return blocks


def _block(text: str, match: re.Match[str], following: re.Match[str] | None, *, labelled: bool) -> CodeBlock:
    code, start = match[3], match.start(3)
    if re.search(r"^\s*>>> ", code, re.MULTILINE):
        code, stated = _session(code, start)
    else:
        stated = list(_comments(code, start))
    end = following.start() if following else len(text)
    if following is not None and _is_output(text, following, match):
        stated.append(Stated(following[3], following.span(3)))
    else:
        between = text[match.end() : end].lstrip("\n").split("\n", 1)[0]
        if inline := _INLINE_OUTPUT.match(between):
            at = text.index(between, match.end()) + inline.start(1)
            stated.append(Stated(inline[1], (at, at + len(inline[1]))))
    return CodeBlock(code, (start, match.end(3)), labelled, tuple(stated))


def _is_output(text: str, match: re.Match[str], before: re.Match[str] | None) -> bool:
    """Whether a fence holds the output of the block before it."""
    language = match[2].lower()
    if before is None or language not in _OUTPUT_NAMES:
        return False
    between = text[before.end() : match.start()].strip()
    return (language in ("output", "stdout") and not between) or (bool(_SAYS_OUTPUT.search(between)) and "\n\n" not in between)


def _comments(code: str, start: int) -> Iterator[Stated]:
    at = start
    for number, line in enumerate(code.split("\n"), 1):
        before = line.split("#", 1)[0].strip()
        if before and (match := _COMMENT.search(line)):
            yield Stated(match[1], (at + match.start(1), at + match.end(1)), number)
        elif before and (match := _NAMED.search(line)):
            yield Stated(match[2], (at + match.start(2), at + match.end(2)), number, match[1])
        at += len(line) + 1


def _session(code: str, start: int) -> tuple[str, list[Stated]]:
    """An interactive session as plain code: prompts go, and what stands below a statement is what it is said to show."""
    lines: list[str] = []
    stated: list[Stated] = []
    shown: list[str] = []
    at = begin = start
    for line in [*code.split("\n"), ">>> "]:
        stripped = line.lstrip()
        if stripped.startswith((">>> ", "... ")) or stripped in (">>>", "..."):
            if shown and lines and "".join(shown).strip():
                stated.append(Stated("\n".join(shown).strip("\n"), (begin, at - 1), len(lines)))
            shown = []
            lines.append(stripped[4:])
        elif stripped or shown:
            begin = begin if shown else at
            shown.append(line)
        at += len(line) + 1
    return "\n".join(lines[:-1]) + "\n", stated


def _looks_like_python(code: str) -> bool:
    return bool(re.search(r"^\s*(?:def \w+\(|import \w|from \w+ import |print\(|assert |for \w+ in |>>> |return )", code, re.MULTILINE))
