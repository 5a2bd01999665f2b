"""Line labels of programs: the first line after which no completion passes the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stepward.core import InputError, Semantics
from stepward.labeling.chain import Chain, ChainLabeler, all_good, write_cut
from stepward.labeling.completer import RolloutBank
from stepward.labeling.probing import Drawn, Located, bisect, draw, successes
from stepward.labeling.sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class CodeLines(ChainLabeler):
    """Steps are lines of a program; a prefix is correctable if any of `n` completions passes (Process Supervision-Guided Policy Optimization, 2024).

    A program that passes is good throughout. Otherwise bisection finds the first line whose prefix is not correctable: lines before it are good, from
    it on bad; at most ceil(log2 m) prefixes of m lines are tried, with up to `n` completions each, `batch` at a time, until one passes.
    The environment's grade says what passing is. Blank lines and comments are neutral: they are never tried, take the label of the line before
    them, and say so in `evidence` so that training can leave them out. Semantics: *prefix*. Bisection is exact where correctability is monotone.
    """

    n: int = 8
    batch: int | None = 1
    comments: tuple[str, ...] = ("#", "//")

    method: ClassVar[str] = "code-lines"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        if self.n < 1 or (self.batch is not None and self.batch < 1):
            raise InputError(f"CodeLines needs n >= 1 and batch >= 1 (None: all at once), got n={self.n}, batch={self.batch}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        if chain.correct:
            all_good(sheet, "the program passes")
        else:
            await self.search(sheet, chain, bank)
        for step, line in enumerate(chain.trajectory.steps):
            if self.neutral(line.text):
                sheet.note(step, neutral=True)

    async def search(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        """Bisect over the lines that are code. The grade of a wrong program is that of its last line of code."""
        fails = chain.correct is False
        code = [step for step, line in enumerate(chain.trajectory.steps) if not self.neutral(line.text)] or [len(chain) - 1]
        tried = [step for step in code if step < chain.n_open]
        if fails and len(tried) == len(code):
            tried.pop()
        drawn: dict[int, Drawn] = {}

        async def probe(at: int) -> bool | None:
            drawn[tried[at]] = await draw(bank, chain.after(tried[at]), self.n, stop=successes(1), batch=self.batch)
            return drawn[tried[at]].any

        found = await bisect(probe, len(tried), end_fails=fails)
        verdicts = {tried[at]: good for at, good in found.verdicts.items()}
        first = found.first if found.first is None or found.first < 0 else code[found.first]
        write_cut(sheet, chain, Located(first, verdicts), drawn)

    def neutral(self, line: str) -> bool:
        """A blank line or a comment."""
        text = line.strip()
        return not text or text.startswith(self.comments)
