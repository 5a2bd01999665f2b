"""Math-Shepherd: automatic process annotation (Math-Shepherd: Verify and Reinforce LLMs Step-by-step without Human Annotations, 2023).

Row: {input, label, task}. `input` is the problem, a space, and the steps "Step 1: ...", each followed by the tag " ки"; `label` is the
same text with + or - in place of every tag. Labels are hard *value* labels: + when at least one of N completions from there ended right.
A step's text excludes the tag; its separator is the white space after the tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stepward.core import Example, FormatError, InputError, Problem, Step, StepLabels, Trajectory, first_bad
from stepward.core.record import require, thaw
from stepward.data.rows import OnError, PathLike, Row, read_rows, without, write_rows
from stepward.data.set_aside import SetAside

NAME, SOURCE = "math_shepherd", "Math-Shepherd"
TAG = "ки"
_TAG = re.compile(rf"(?<=\s){TAG}(?=\s|$)")
_FIRST_STEP = re.compile(r"(?:^|\s)(?=Step 1:)")
_OWN = ("input", "label")
_GAP, _TAG_GAP = " ", " "


def read(path: PathLike, *, on_error: OnError = "raise", set_aside: SetAside | None = None) -> Iterator[Example]:
    """The examples of a Math-Shepherd file, one a row."""
    return read_rows(path, lambda row: [from_row(row)], on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write Math-Shepherd rows; how many."""
    return write_rows(map(to_row, examples), path)


def from_row(row: Row) -> Example:
    """One row. The last "Step 1:" before the first tag begins the solution. Other fields and unusual white space are kept in metadata["math_shepherd"].

    Raises: FormatError naming the field: no "Step 1:", no tag, text after the last tag, or columns that differ in more than the tags.
    """
    text = require(row, "input", str)
    tags = list(_TAG.finditer(text))
    if not tags:
        raise FormatError(f"has no step tag {TAG!r}", field="input")
    if text[tags[-1].end() :].strip():
        raise FormatError(f"has text after the last step tag: {text[tags[-1].end() :].strip()[:60]!r}", field="input")
    starts = [match.end() for match in _FIRST_STEP.finditer(text, 0, tags[0].start())]
    if not starts:
        raise FormatError("has no 'Step 1:' before the first step tag", field="input")
    hard = _signs(text, tags, require(row, "label", str))

    prompt = text[: starts[-1]].rstrip()
    steps, tag_gaps, start = [], [], starts[-1]
    for tag, following in zip(tags, [*tags[1:], None], strict=True):
        rest = text[tag.end() : following.start() if following else len(text)]
        separator = rest[: len(rest) - len(rest.lstrip())]
        written = text[start : tag.start()]
        steps.append(Step(written.rstrip(), separator))
        tag_gaps.append(written[len(written.rstrip()) :])
        start = tag.end() + len(separator)
    kept = without(row, *_OWN)
    if (gap := text[len(prompt) : starts[-1]]) != _GAP:
        kept["gap"] = gap
    if any(gap != _TAG_GAP for gap in tag_gaps):
        kept["tag_gaps"] = tag_gaps
    labels = StepLabels.from_hard(hard, semantics="value", first_error=first_bad(hard), source={"labeler": "hard estimation by completions"})
    task = require(row, "task", str) if "task" in row else ""
    source = f"{SOURCE}/{task}" if task else SOURCE
    return Example(Trajectory(Problem(prompt), tuple(steps), finished=True), labels, source=source, metadata={NAME: kept})


def _signs(text: str, tags: Sequence[re.Match[str]], label: str) -> list[bool]:
    """+ and - at the places of the tags; everything else must be equal."""
    hard, start, shift = [], 0, 0
    for number, tag in enumerate(tags, start=1):
        sign = tag.end() - len(TAG)
        kept = text[start:sign]
        if label[start - shift : sign - shift] != kept or label[sign - shift : sign - shift + 1] not in ("+", "-"):
            raise FormatError(f"step {number}: must equal input with + or - in place of {TAG!r}", field="label")
        hard.append(label[sign - shift] == "+")
        start, shift = tag.end(), shift + len(TAG) - 1
    if label[start - shift :] != text[start:]:
        raise FormatError("must end as input does after the last step tag", field="label")
    return hard


def to_row(example: Example) -> dict[str, Any]:
    """The row of an example; the inverse of `from_row`. Steps of other sources get "Step k: " in front where they have none.

    Raises: InputError for labels that are not hard value labels on every step, or a text that contains the tag.
    """
    labels, kept, own = example.labels, thaw(example.metadata.get(NAME, {})), NAME in example.metadata
    steps = example.trajectory.steps
    if labels is None or labels.semantics != "value" or None in labels.hard:
        raise InputError(f"example {example.id!r}: Math-Shepherd needs a hard value label for every step; write 'stepwise' for others")
    gap = kept.pop("gap", _GAP)
    tag_gaps = kept.pop("tag_gaps", None)
    if tag_gaps is None or len(tag_gaps) != len(steps):
        tag_gaps = [_TAG_GAP] * len(steps)
    if any(TAG in text.split() for text in (example.trajectory.problem.prompt, *(step.text for step in steps))):
        raise InputError(f"example {example.id!r} contains the step tag {TAG!r} in its own text; write another format")
    head = example.trajectory.problem.prompt + gap
    parts = []
    for number, (step, tag_gap) in enumerate(zip(steps, tag_gaps, strict=True), start=1):
        text = step.text if own or step.text.startswith(f"Step {number}:") else f"Step {number}: {step.text}"
        parts.append((text + tag_gap, step.separator if own else "\n" if number < len(steps) else ""))
    tagged = head + "".join(text + TAG + separator for text, separator in parts)
    signed = head + "".join(text + ("+" if good else "-") + separator for (text, separator), good in zip(parts, labels.hard, strict=True))
    return {"input": tagged, "label": signed} | (kept if own else {"task": ""})
