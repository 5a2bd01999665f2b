"""Program: the Python that a solution's text comes to."""

from __future__ import annotations

import ast
import re
import warnings

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_MAX_CHARS = 100_000
PYTHON_NAMES = ("", "python", "python3", "py")


def fenced_python(text: str) -> list[tuple[str, tuple[int, int]]]:
    """(code, its character span) of every fenced block that claims to be Python or nothing."""
    return [(match[3], match.span(3)) for match in _FENCE.finditer(text) if match[2].lower() in PYTHON_NAMES]


def read_python(code: str) -> ast.Module:
    """The tree of a program; it is not run. Raises: SyntaxError for what is no Python, or too long or too deep to be read."""
    if len(code) > _MAX_CHARS:
        raise SyntaxError(f"{len(code)} characters are too many")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in a program are not our business
        try:
            return ast.parse(code)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(f"cannot be read: {type(error).__name__}: {error}") from None


def parses(code: str) -> bool:
    """Whether the code is Python."""
    try:
        read_python(code)
    except SyntaxError:
        return False
    return True


def program_of(prompt: str, text: str) -> str:
    """The program that a solution states: its fenced blocks where it has some, else its text; behind the prompt where that is code to be continued.

    What cannot be read as Python comes back as it is, and fails its tests as such.
    """
    blocks = fenced_python(text)
    body = "\n".join(code for code, _ in blocks) if blocks else text
    if not parses(prompt):
        return body
    joined = prompt + ("" if prompt.endswith("\n") else "\n") + body
    return joined if parses(joined) or not parses(body) else body
