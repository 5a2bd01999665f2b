"""Specification: a combination of reward models as the text that users type, e.g. `capped(mean(prm:A, prm:B), tools:arithmetic; cap=0.1)`.

Only its grammar; what the names mean is in `load`.

    specification = name "(" argument {"," argument} [";" option {"," option}] ")" | leaf
    argument      = specification
    option        = key "=" leaf
    leaf          = a model, a file or a value, as it is; in double quotes where it holds a comma, a semicolon, a quote or an unpaired parenthesis

Inside quotes a backslash before a quote or a backslash takes its special meaning away. White space around parts does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stepward.core import FrozenDict, InputError

COMBINATIONS = (
    "mean", "min", "median", "lcb", "capped", "lifted", "calibrated", "bidirectional", "process-and-value", "confidence", "answer-confidence", "follow-up",
)  # fmt: skip
_CALL = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)\s*\(")
_KEY = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)\s*=")
_DEEPEST = 32


@dataclass(frozen=True)
class Leaf:
    """A model, a file or a value, as the user wrote it, without its quotes."""

    text: str

    def __str__(self) -> str:
        if self.text == self.text.strip() and self.text and not re.search(r'[,;"\\]', self.text) and _balanced(self.text) and not _CALL.match(self.text):
            return self.text
        return '"' + self.text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Call:
    """A combination's name, what it combines, and its options."""

    name: str
    arguments: tuple[Call | Leaf, ...]
    options: FrozenDict = field(default_factory=FrozenDict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={Leaf(value)}" for key, value in self.options.items())
        return f"{self.name}({', '.join(map(str, self.arguments))}{'; ' + options if options else ''})"


def is_combination(text: str) -> bool:
    """Whether the text names a combination, rather than one model."""
    match = _CALL.match(text)
    return match is not None and match[1] in COMBINATIONS


def parse(text: str) -> Call | Leaf:
    """The tree of a specification; `str` of it is a specification of the same tree.

    A name with a parenthesis that is not one of `COMBINATIONS` is a leaf where it stands alone (a file may be called so), and refused inside a combination.

    Raises: InputError saying what is wrong where.
    """
    if not is_combination(text):
        stripped = text.strip()
        return _Reader(stripped).whole(leaf=True) if stripped.startswith('"') else Leaf(stripped)
    return _Reader(text).whole(leaf=False)


class _Reader:
    """Reads one specification from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def whole(self, *, leaf: bool) -> Call | Leaf:
        found = self.leaf() if leaf else self.argument(0)
        self.space()
        if self.at < len(self.text):
            raise self.wrong(f"unexpected {self.text[self.at :][:20]!r} after the end")
        return found

    def argument(self, depth: int) -> Call | Leaf:
        if depth > _DEEPEST:
            raise self.wrong(f"combinations are nested deeper than {_DEEPEST}")
        match = _CALL.match(self.text, self.at)
        if match is None:
            return self.leaf()
        if match[1] not in COMBINATIONS:
            known = ", ".join(COMBINATIONS)
            raise self.wrong(f"unknown combination {match[1]!r}; known: {known}. A name with a parenthesis that is no combination goes in double quotes")
        self.at = match.end()
        arguments = [self.argument(depth + 1)]
        while self.take(","):
            arguments.append(self.argument(depth + 1))
        options: dict[str, str] = {}
        if self.take(";"):
            self.option(options)
            while self.take(","):
                self.option(options)
        if not self.take(")"):
            raise self.wrong(f"the parenthesis of {match[1]!r} is not closed")
        return Call(match[1], tuple(arguments), FrozenDict(options))

    def option(self, options: dict[str, str]) -> None:
        match = _KEY.match(self.text, self.at)
        if match is None:
            raise self.wrong("expected key=value after the semicolon")
        if match[1] in options:
            raise self.wrong(f"option {match[1]!r} is given twice")
        self.at = match.end()
        options[match[1]] = self.leaf().text

    def leaf(self) -> Leaf:
        self.space()
        if self.text.startswith('"', self.at):
            return self.quoted()
        start, depth = self.at, 0
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == '"':
                raise self.wrong("a quote inside an unquoted part; put the whole part in double quotes")
            if depth == 0 and letter in ",;)":
                break
            depth += {"(": 1, ")": -1}.get(letter, 0)
            self.at += 1
        text = self.text[start : self.at].strip()
        if depth > 0:
            raise self.wrong(f"an unclosed parenthesis in {text!r}; put the part in double quotes if it belongs there")
        if not text:
            raise self.wrong("a part is empty")
        return Leaf(text)

    def quoted(self) -> Leaf:
        match = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(self.text, self.at)
        if match is None:
            raise self.wrong("a double quote is not closed")
        self.at = match.end()
        return Leaf(re.sub(r'\\(["\\])', r"\1", match[1]))

    def take(self, letter: str) -> bool:
        self.space()
        found = self.text.startswith(letter, self.at)
        self.at += found
        return found

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def wrong(self, what: str) -> InputError:
        return InputError(f"cannot read the reward model {self.text!r} at character {self.at}: {what}")


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            return False
    return depth == 0
