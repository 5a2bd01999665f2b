"""Layout: a trajectory as pieces of text in the order in which a model reads them, with the places where steps begin, end and are read. No tokens here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from stepward.core import Step, Trajectory
from stepward.rewards.convention import Convention


class Piece(NamedTuple):
    """Text. `ours`: a text of the convention or the chat template, in which special tokens are themselves; otherwise data."""

    text: str
    ours: bool


@dataclass(frozen=True)
class Mark:
    """A place between pieces: step `index` begins or ends here, or is read at the last token so far. Every mark is a seam between pieces that a convention
    with separate tokenisation tokenises one by one; a "seam" is nothing else, and a "cut" is one in every tokenisation."""

    kind: Literal["start", "end", "read", "seam", "cut"]
    index: int


Item = Piece | Mark
_PLACEHOLDER = re.compile(r"\{problem\}|\{step\}|\{index\}|\{solution\}")


def filled(form: str, **values: str | Sequence[Item]) -> list[Item]:
    """A text of the convention with values in its placeholders: strings as data, lists of items as they are."""
    items: list[Item] = []
    place = 0
    for found in _PLACEHOLDER.finditer(form):
        value = values.get(found.group()[1:-1])
        if value is None:
            continue
        if found.start() > place:
            items.append(Piece(form[place : found.start()], True))
        if isinstance(value, str):
            if value:
                items.append(Piece(value, False))
        else:
            items += value
        place = found.end()
    if place < len(form):
        items.append(Piece(form[place:], True))
    return items


class StepWriter:
    """Writes steps as the convention says."""

    def __init__(self, convention: Convention) -> None:
        self.convention = convention
        before, _, after = convention.step.partition("{step}")
        self._numbered = None
        if "{index}" in before:
            number = r"\d+".join(re.escape(part) for part in before.rstrip().split("{index}"))
            self._numbered = re.compile(r"\s*" + number)
            self._after = after

    def problem(self, trajectory: Trajectory) -> str:
        """The problem's text."""
        prompt = trajectory.problem.prompt
        return prompt.strip() if self.convention.strip == "all" else prompt

    def step(self, index: int, step: Step) -> list[Item]:
        """Step `index` (from 0) between its start and end marks; numbered, unless it numbers itself."""
        text = step.text.replace("\n", " ") if self.convention.one_line else step.text
        text = text if self.convention.strip == "nothing" else text.strip()
        form = self.convention.step
        if self._numbered is not None and self._numbered.match(text):
            form = "{step}" + self._after
        return [Mark("start", index), *filled(form, step=text, index=str(index + 1)), Mark("end", index)]

    def run(self, trajectory: Trajectory, ending: str | None = None, *, strips_last: bool = False) -> Iterator[Item]:
        """All steps in one text, each read where the convention says. `ending`: what the last step is followed by in place of its marker, and with
        `strips_last` without the white space before it."""
        read, last = self.convention.read, len(trajectory) - 1
        for index, step in enumerate(trajectory.steps):
            if index:
                yield from self._ours(self.convention.between, index)
            written = self.step(index, step)
            yield from stripped(written, left=False) if strips_last and ending is not None and index == last else written
            if read in ("step-end", "before-step-end", "before-marker", "prefix-end"):
                yield Mark("read", index)
            yield from self._ours(self.convention.marker if ending is None or index < last else ending, index)
            if read in ("marker", "eos"):
                yield Mark("read", index)
            if step.observation is not None and index < last:
                yield from self._ours(self.convention.between, index)
                yield from (Piece(step.observation, False), Mark("seam", index), *self._ours(self.convention.marker, index))

    def turn(self, form: str, trajectory: Trajectory, index: int) -> list[Item]:
        """The user's message for step `index`: the form with problem and step in it; an observation of the step before comes first."""
        before = trajectory.steps[index - 1].observation if index else None
        heard = [] if before is None else [Piece(before, False), Piece("\n", True)]
        return [*heard, *filled(form, problem=self.problem(trajectory), step=self.step(index, trajectory.steps[index]))]

    @staticmethod
    def _ours(text: str, index: int) -> tuple[Item, ...]:
        return (Piece(text, True), Mark("seam", index)) if text else ()


def stripped(items: Sequence[Item], *, left: bool = True, right: bool = True) -> list[Item]:
    """The items without white space at the beginning and end of the text that they form."""
    kept = list(items)
    for order, strip, wanted in ((range(len(kept)), str.lstrip, left), (range(len(kept) - 1, -1, -1), str.rstrip, right)):
        for place in order if wanted else ():
            item = kept[place]
            if isinstance(item, Piece):
                kept[place] = Piece(strip(item.text), item.ours)
                if kept[place].text:  # type: ignore[union-attr]
                    break
    return [item for item in kept if isinstance(item, Mark) or item.text]
