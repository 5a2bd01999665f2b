r"""Parsing: verdicts in a judge's own words. Total functions: any text gives marks or none, in time linear in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from stepward.core import ABSTAINED
from stepward.rewards.generative.task import AfterError, Mark, Slot

_BOX = re.compile(r"\\f?boxed\s{0,8}\{((?:[^{}]|\{[^{}]{0,80}\}){0,80})\}")
DRESS_NAMES = "text|textbf|textit|mathrm|mathbf|mathit|mathsf|texttt|emph"
_DRESS = re.compile(rf"\\(?:{DRESS_NAMES})\s*\{{(.*)\}}", re.DOTALL)
_HEADING = r"^[ \t>*#_\-]{{0,12}}(?:{noun})[ \t]{{1,4}}(\d{{1,9}})[ \t]{{0,4}}(?:[:.)\-*—–]|$)"
_INTEGER = re.compile(r"[+-]?\d{1,9}")


class Box(NamedTuple):
    """A `\\boxed{...}`: `word` is its content without markup, `word_start` where that begins in the text."""

    start: int
    end: int
    word: str
    word_start: int


def boxes(text: str) -> Iterator[Box]:
    r"""Every `\boxed{...}` with at most one level of braces inside and short content, in order. A brace that is escaped (`\}`) closes none of its kind."""
    for match in _BOX.finditer(text):
        content = match.group(1)
        word = undressed(content)
        at = content.find(word) if word else 0
        yield Box(match.start(), match.end(), word, match.start(1) + at)


def undressed(content: str) -> str:
    r"""The content without `\text{...}`, dollar signs, asterisks, quotes and the full stop around it."""
    before = None
    while before != content:
        before = content
        content = content.strip().strip("$*`'\"").strip()
        dressed = _DRESS.fullmatch(content)
        content = dressed.group(1) if dressed else content
    return content.removesuffix(".").rstrip()


def word_marks(text: str, good: str, bad: str) -> list[Mark]:
    r"""A mark for every `\boxed{good}` and `\boxed{bad}`, in order; any other content, "not correct" or "correct\" included, is no verdict."""
    marks = []
    for box in boxes(text):
        if box.word.lower() in (good.lower(), bad.lower()):
            marks.append(spelled_mark(good, bad, box.word, start=box.word_start, end=box.end))
    return marks


def answer_mark(text: str, question: re.Pattern[str], good: str, bad: str) -> Mark | None:
    """The mark of the last `question` that is answered with one of the two words right behind it, markup between them aside; None without one."""
    answer = re.compile(rf"[ \t]{{0,8}}\n?[ \t*_`$]{{0,8}}(?:\\boxed\{{)?(?:\\text\{{)?(?P<word>{re.escape(good)}|{re.escape(bad)})(?![\w/])", re.IGNORECASE)
    found = None
    for asked in question.finditer(text):
        match = answer.match(text, asked.end())
        if match is not None:
            start, word = match.start("word"), match["word"]
            if text[start - 1 : start] == " " and start - 1 >= asked.end():  # a model writes the space and the word as one token
                found = spelled_mark(good, bad, word, start=start - 1, end=match.end(), lead=" ")
            else:
                found = spelled_mark(good, bad, word, start=start, end=match.end())
    return found


def spelled_mark(good: str, bad: str, word: str, *, start: int, end: int, lead: str = "") -> Mark:
    """A mark whose two words are spelled as the one found: in lower or upper case, or with a capital; spelled otherwise it cannot be read from odds."""
    value = float(word.casefold() == good.casefold())
    spell = next((spell for spell in (str.lower, str.capitalize, str.upper) if spell(word) == word), None)
    return Mark(value, start, end) if spell is None else Mark(value, start, end, (lead + spell(good), lead + spell(bad)))


def step_marks(text: str, marks: Sequence[Mark], n_steps: int, *, noun: str = "step|paragraph") -> dict[Slot, Mark]:
    """Which step (0-based) each mark judges: the one whose heading ("Step 3:") stands last before it, by its number; the last mark of a step wins.

    Where there are headings, marks before the first of them are none (a judge that repeats its instructions). Where there are none, the i-th mark belongs to
    step i, unless there are more marks than steps. Numbers beyond the steps are dropped. `noun`: what headings begin with.
    """
    pattern = re.compile(_HEADING.format(noun=noun), re.IGNORECASE | re.MULTILINE)
    headings = [(match.end(), int(match.group(1)) - 1) for match in pattern.finditer(text)]
    if not headings:
        return dict(enumerate(marks)) if len(marks) <= n_steps else {}
    found: dict[Slot, Mark] = {}
    at, step = 0, -1
    for mark in marks:
        while at < len(headings) and headings[at][0] <= mark.start:
            step = headings[at][1]
            at += 1
        if 0 <= step < n_steps:
            found[step] = mark
    return found


def last_integer_box(text: str) -> tuple[int, Box] | None:
    r"""The integer in the last `\boxed{...}` of the text; None when there is no box or the last one holds no integer."""
    last = None
    for box in boxes(text):
        last = box
    if last is None:
        return None
    word = last.word.lower().removeprefix("paragraph").lstrip("_ ")
    return (int(word), last) if _INTEGER.fullmatch(word) else None


def after_first_error(marks: Mapping[Slot, Mark], n_steps: int, after_error: AfterError) -> tuple[dict[Slot, Mark], dict[Slot, str]]:
    """(marks, silent) where a critique may stop at the first error: the steps behind it that have no mark are silent, or bad ("incorrect")."""
    first = next((step for step in range(n_steps) if step in marks and marks[step].value < 0.5), None)
    if first is None:
        return dict(marks), {}
    missing = [step for step in range(first + 1, n_steps) if step not in marks]
    if after_error == "incorrect":
        return {**marks, **{step: Mark(0.0, marks[first].start, marks[first].end) for step in missing}}, {}
    return dict(marks), dict.fromkeys(missing, f"{ABSTAINED}: the critique stops at the error that it finds in step {first} (counted from 0)")
