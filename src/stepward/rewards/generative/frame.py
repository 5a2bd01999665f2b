r"""Frame: text of others inside a judge's prompt. Escapes what could close the prompt's frame or pass for a verdict; persuasion in plain words is not its
business."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Literal

from stepward.core import Step
from stepward.rewards.generative.parsing import DRESS_NAMES

VERSION = 1  # of the rules below; part of every judge's fingerprint

_VERDICT_WORDS = "correct|incorrect|yes|no|positive|negative|true|false|right|wrong"
_BREAKS = r"\n\r\x0b\x0c\x85\u2028\u2029"
_AT_LINE = rf"(?<![^{_BREAKS}])"
_LINE_START = rf"{_AT_LINE}(?:[^\w{_BREAKS}]|_)*+"  # with what may stand before the first word: blanks, ">", "-", "**"
_HEADINGS = (
    "math problem|problem|solution|written before|to be judged|rubric|code output|not executed|next paragraph|critique|client question|user question|"
    r"the (?:start|begin|end) of [^\[\]\\]{1,60}"
)
_DRESS = rf"(?:[^\w{{}}\\]|_|\\(?:{DRESS_NAMES})\s{{0,80}}\{{){{0,80}}"  # what `parsing.undressed` takes off, and more
_BOX_END = r"[^\w{}\\]{0,80}(?:\}[^\w{}\\]{0,80})?\}"
_COMMON = (
    r"<\s*+[|｜]\s*+[^<>\\\s|｜]*+\s*+[|｜]\s*+>",  # special tokens: <|im_end|>, <｜Assistant｜>
    r"<\s*+(?:\\?/\s*+)?[A-Za-z_][\w:.\-]*+\s*+(?:/\s*+)?>",  # tags: </paragraph_3>, <extra_0>, </s>, <start_of_turn>
    r"<\s*+\\?/\s*+[A-Za-z_][^<>\\]{0,200}>",  # closing tags with more in them
    r"""<\s*+[A-Za-z_][\w:.\-]*+\s++[\w:.\-]++\s*+=\s*+["'\w][^<>\\]{0,200}>""",  # tags with attributes
    r"\[\s*+/?\s*+(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|gMASK|sMASK)\s*+\]",
    rf"\\f?boxed\s{{0,80}}\{{{_DRESS}(?:{_VERDICT_WORDS}){_BOX_END}",
    r"\[\[\s*+[A-C]\s*+\]\]",
    r"\[\s*+(?:" + _HEADINGS.replace(" ", r"\s+") + r")\s*\]",  # headings of the judges' prompts
    r"is\s+the\s+(?:solution|step|answer)\s+correct\s*+(?:\(\s*+yes\s*+/\s*+no\s*+\)\s*+)?\?",
    rf"{_LINE_START}(?:system|user|assistant|human|developer|tool)[ \t*_]*+:",
    rf"{_AT_LINE}(?=[^\w{_BREAKS}]*#){_LINE_START}(?:instruction|response|input)[ \t*_]*+:",
)
_NUMBER_BOX = rf"\\f?boxed\s{{0,80}}\{{{_DRESS}(?:paragraph[\s_]{{0,80}})?[+-]?\d{{1,9}}(?:\.\d{{1,9}})?{_BOX_END}"
_OBSERVED = re.compile(r"\(\s*+observation\s*+:", re.IGNORECASE)
_LOOK_ALIKES = dict(zip("‹›〈〉⟨⟩❮❯", "<><><><>", strict=True))
_UNSEEN = frozenset("\u034f\u115f\u1160\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))  # beside the category Cf
Answers = Literal["kept", "escaped"]


class Frame:
    r"""Escapes by a backslash before the last character of whatever belongs to a frame: `</paragraph_3\>`, `[Solution\]`, `\boxed{correct\}`, `System\:`.

    The escape is visible, leaves mathematics as it is and is undone by taking the backslash away. What is escaped everywhere: special tokens of chat
    templates, tags, role markers at the start of a line, headings in brackets that judges' prompts have, boxes and brackets that hold a verdict ("correct",
    "Yes", "[[A]]") and the questions that ask for one. `labels` are what one judge's prompt adds, such as "Now Step:"; one that ends with a colon counts at
    the start of a line only, and a "#" that is a word of it stands for any number (and "Step #:" for "Step 2." and a line "Step 2" too). All of them also
    count when written with full-width characters, other angle brackets or invisible characters; letters of other alphabets that look alike do not. A number
    in a box, `\boxed{14}`, is what solutions end with and is kept; `answers` "escaped" escapes it too, for judges whose verdict is a number in a box.
    """

    def __init__(self, labels: Iterable[str] = (), *, answers: Answers = "kept") -> None:
        self.labels, self.answers = tuple(labels), answers
        self._pattern = _compiled(self.labels, answers)

    def escape(self, text: str) -> str:
        """The text with nothing left in it that belongs to the frame. Text without such parts is returned as it is."""
        while True:
            seen, places = _as_seen(text)
            lasts = [places[match.end() - 1] for match in self._pattern.finditer(seen)]
            if not lasts:
                return text
            # a part that overlapped an escaped one may be left; every round breaks at least one
            text = "\\".join(text[begin:end] for begin, end in pairwise([0, *lasts, len(text)]))

    def step(self, step: Step) -> str:
        """A step as a judge reads it: its text, and what the environment answered to it, escaped."""
        return self.escape(plain(step))


def plain(step: Step) -> str:
    """A step's text, and what the environment answered to it, as they are, but that neither can pass for another answer of the environment."""
    text = _OBSERVED.sub(_with_backslash, step.text)
    return text if step.observation is None else f"{text}\n(Observation: {_OBSERVED.sub(_with_backslash, step.observation)})"


def _with_backslash(match: re.Match[str]) -> str:
    found = match.group()
    return found[:-1] + "\\" + found[-1]


def _as_seen(text: str) -> tuple[str, Sequence[int]]:
    """The text with plain characters for their look-alikes (full-width forms, other angle brackets) and without invisible ones, and each one's place."""
    if text.isascii():
        return text, range(len(text))
    seen: list[tuple[str, int]] = []
    for place, character in enumerate(text):
        if character.isascii():
            seen.append((character, place))
        elif character not in _UNSEEN and unicodedata.category(character) != "Cf":
            usual = unicodedata.normalize("NFKC", character)
            seen.append((_LOOK_ALIKES.get(character, usual if len(usual) == 1 else character), place))
    return "".join(character for character, _ in seen), [place for _, place in seen]


@cache
def _compiled(labels: tuple[str, ...], answers: Answers) -> re.Pattern[str]:
    numbers = [_NUMBER_BOX] if answers == "escaped" else []
    return re.compile("|".join([*_COMMON, *numbers, *map(_label_pattern, labels)]), re.IGNORECASE)


def _label_pattern(label: str) -> str:
    body = r"\s+".join(r"\d{1,9}" if word == "#" else re.escape(word) for word in label.removesuffix(":").split())
    if not label.endswith(":"):
        return body
    numbered = rf"(?:[ \t*_]*+[:.)\-—–]|(?=[ \t*_]*+(?:[{_BREAKS}]|\Z)))"  # as `parsing.step_marks` reads headings
    return _LINE_START + body + (numbered if label.endswith("#:") else r"[ \t*_]*+:")
