"""Segmentation: text into steps, as character spans whose concatenation is the text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from stepward.core import InputError, Step
from stepward.data.protected import protected

Rule = Literal["auto", "blank_lines", "lines", "step_markers", "numbered", "long_cot"]
RULES: tuple[Rule, ...] = ("auto", "blank_lines", "lines", "step_markers", "numbered", "long_cot")
MIN_THOUGHT = 20  # characters; "Hmm. Wait, ..." is one thought

_SPACE = re.compile(r"\s+")
_EMPHASIS = r"(?:\*{1,3}|_{1,3})?"
_STEP_MARKER = re.compile(
    rf"^[ \t]*(?P<head>#{{1,6}}[ \t]+)?(?:[-*+>][ \t]+)?{_EMPHASIS}[\[(]?step[ \t]{{0,3}}#?(?P<number>\d{{1,3}})[\])]?"
    rf"(?:{_EMPHASIS}[ \t]*[:.)\-–—]|[*_]|[ \t]*$)"
    r"|(?<=[.!?;:])[ \t]{1,3}(?=step[ \t](?P<inline>\d{1,3}):)",
    re.MULTILINE | re.IGNORECASE,
)
_ITEM = re.compile(rf"^(?P<indent>[ \t]*){_EMPHASIS}(?P<number>\d{{1,3}})[.)]{_EMPHASIS}[ \t]+(?=\S)", re.MULTILINE)
_REFLECTION = (
    r"(?:But[ ,]|And[ ,]|So[ ,]|Oh[ ,]|No[ ,])?[ ]?"
    r"(?:[Ww]ait\b|[Hh]old on\b|[Hh]mm+\b|[Aa]lternatively\b|[Aa]nother (?:way|approach|idea|method)\b|[Aa]ctually,|[Oo]n second thought\b"
    r"|[Ll]et me (?:double[- ]?check|re-?check|check|verify|re-?verify|re-?think|re-?consider|re-?examine|try|test|see|think|start|go back|redo|confirm)\b"
    r"|[Ll]et'?s (?:double[- ]?check|check|verify|try another|reconsider|go back)\b"
    r"|(?:Okay|Ok|OK|Alright|All right)(?:, so\b|,|\.)|[Tt]o (?:verify|double-check|confirm),)"
)
_THOUGHT = re.compile(rf"(?:^[ \t]*|(?<=[.!?…)\]\"”])[ \t]+)(?=[A-Z])(?={_REFLECTION})", re.MULTILINE)
_THINK_TAG = re.compile(r"</?think(?:ing)?>")
_THINK_END = re.compile(r"</think(?:ing)?>\s*\Z")


def segment(text: str, rule: Rule | str = "auto") -> tuple[Step, ...]:
    """The steps of a text: every step's text and separator, concatenated, are the text exactly.

    A separator is the white space at the end of a step; white space before the first step belongs to its text, and a text of nothing
    but white space is one step. The empty text has no steps. Rules as in `spans`.
    """
    return tuple(_step(text[start:end]) for start, end in spans(text, rule))


def _step(written: str) -> Step:
    kept = written.rstrip() or written
    return Step(kept, written[len(kept) :])


def spans(text: str, rule: Rule | str = "auto") -> list[tuple[int, int]]:
    """Character spans [start, end) of the steps, separators included: they follow one another and cover the text.

    blank_lines: a step ends at white space that contains a blank line. lines: at every line end.
    step_markers: a step begins at "Step 3:", also as "**Step 3:**", "### Step 3", "Step 3." at the start of a line, or "Step 3:" after
    the end of a sentence. numbered: at "3. " or "3) " at the start of a line, where 3 follows 2 and the list began with 0 or 1; deeper
    indented items and a list that begins anew inside an item stay in the item.
    long_cot: at words that turn the thought ("Wait", "Alternatively", "Hmm", "Let me check", "Okay, so", ...) at the start of a line or
    sentence, and after </think>; a thought of less than 20 characters joins the next.
    auto: see `choose_rule`. No step begins inside a code block or displayed mathematics; text before the first marker is a step.

    Raises: InputError for an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"unknown segmentation rule {rule!r}; choose one of {', '.join(RULES)}")
    if not text:
        return []
    starts = [0, *_starts(text, choose_rule(text) if rule == "auto" else rule), len(text)]
    return list(pairwise(starts))


def choose_rule(text: str) -> Rule:
    """The rule that "auto" means for this text: the first that applies of

    step_markers: two step markers or more; long_cot: a <think> tag, or four turns of thought or more; numbered: two numbered items or more;
    blank_lines: a blank line between two pieces; lines otherwise (one line: one step).
    """
    if _count(text, "step_markers", 2):
        return "step_markers"
    if _THINK_TAG.search(text) or _count(text, "long_cot", 4):
        return "long_cot"
    if _count(text, "numbered", 2):
        return "numbered"
    return "blank_lines" if _count(text, "blank_lines", 1) else "lines"


def _count(text: str, rule: Rule, least: int) -> bool:
    """At least so many steps begin by this rule, one at the very beginning included where the rule has a marker."""
    offset = len(text) - len(text.lstrip())
    marked = rule != "blank_lines"
    found = sum(1 for start in _marks(text, rule) if marked or start > offset)
    return found >= least


def _starts(text: str, rule: Rule | str) -> list[int]:
    """Where steps begin, the first excluded: increasing, each with something other than white space before it in the text."""
    offset = len(text) - len(text.lstrip())
    starts: list[int] = []
    for start in _marks(text, rule):
        if start <= offset or (starts and start <= starts[-1]):
            continue
        if rule != "long_cot" or _THINK_END.search(text, max(0, start - 64), start) or _is_thought(text[starts[-1] if starts else 0 : start]):
            starts.append(start)
    return starts


def _is_thought(piece: str) -> bool:
    return len(_THINK_TAG.sub("", piece).strip()) >= MIN_THOUGHT


def _marks(text: str, rule: Rule | str) -> Iterator[int]:
    """Positions of the rule's step beginnings outside protected regions, each at a character that is not white space."""
    regions = protected(text)
    begins = [start for start, _ in regions]

    def free(position: int) -> bool:
        region = bisect_right(begins, position) - 1
        return region < 0 or not begins[region] < position < regions[region][1]

    candidates = {"blank_lines": _blank_lines, "lines": _lines, "step_markers": _step_markers, "numbered": _numbered, "long_cot": _long_cot}[rule]
    return (position for position in candidates(text) if free(position))


def _blank_lines(text: str, line_feeds: int = 2) -> Iterator[int]:
    for space in _SPACE.finditer(text):
        if space.end() < len(text) and space.group().count("\n") >= line_feeds:
            yield space.end()


def _lines(text: str) -> Iterator[int]:
    return _blank_lines(text, line_feeds=1)


def _step_markers(text: str) -> Iterator[int]:
    for match in _STEP_MARKER.finditer(text):
        if match["inline"] is not None:
            yield match.end()
        else:
            yield match.start() + len(match.group()) - len(match.group().lstrip())


def _numbered(text: str) -> Iterator[int]:
    """Items of the outermost list. A number that begins a list anew opens an inner list; the outer one goes on when its next number comes."""
    outer_indent, expected = 0, [0]
    n_lists_at: Counter[int] = Counter()  # open lists by the number that each expects, so that a text of many lists costs linear time
    for match in _ITEM.finditer(text):
        number, indent = int(match["number"]), len(match["indent"].expandtabs(4))
        if expected == [0]:
            if number <= 1:
                outer_indent, expected = indent, [number + 1]
                n_lists_at[number + 1] += 1
                yield match.start() + len(match["indent"])
            continue
        if indent > outer_indent:
            continue
        while number != expected[-1] and len(expected) > 1 and n_lists_at[number] > 0:
            n_lists_at[expected.pop()] -= 1
        if number == expected[-1]:
            n_lists_at[number] -= 1
            n_lists_at[number + 1] += 1
            expected[-1] += 1
            if len(expected) == 1:
                yield match.start() + len(match["indent"])
        elif number == 1:
            expected.append(2)
            n_lists_at[2] += 1


def _long_cot(text: str) -> Iterator[int]:
    positions = {match.end() for match in _THOUGHT.finditer(text)}
    for tag in _THINK_TAG.finditer(text):
        if tag.group().startswith("</") and (following := re.compile(r"\S").search(text, tag.end())):
            positions.add(following.start())
    return iter(sorted(positions))
