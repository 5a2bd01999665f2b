"""Stepwise outcome labels: can a right answer still be reached, as far as any rollout of any later prefix shows?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal

from stepward.core import InputError, Semantics
from stepward.labeling.chain import Chain, ChainLabeler, all_good, write_cut
from stepward.labeling.completer import Rollout, RolloutBank
from stepward.labeling.decoders import propagate_positive
from stepward.labeling.probing import Drawn, Judge, Located, backward, draw, draw_each, successes
from stepward.labeling.sheet import Sheet

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True)
class StepwiseOutcome(ChainLabeler):
    """Labels of a stepwise outcome reward model (SORM; GLoRe: When, Where, and How to Improve LLM Reasoning via Global and Local Refinements, 2024).

    1. A step is good if any of `n` verifying rollouts from it is right.
    2. Positive propagation: a good step makes all steps before it good. Labels are then non-increasing, and approximate what the best policy could do
       rather than what this one does.
    3. `consistency` "restated": a right rollout whose text does not use the step's result (the last number of the step) ignored the step and started over;
       it is evidence neither for nor against it. A step without a number is not checked. "none" leaves this out.

    `search` "every" rolls out every step at the same time; "backward" starts at the end and ends with the first good step, which gives the same
    labels for fewer rollouts. `batch`: ask for so many at a time and stop at the first success, which also gives the same labels.
    A solution that ended right is good throughout and costs nothing. Semantics: *prefix*. Balancing by prefix length is left to the data set.
    """

    n: int = 8
    consistency: Literal["none", "restated"] = "restated"
    search: Literal["every", "backward"] = "every"
    batch: int | None = 1

    method: ClassVar[str] = "stepwise-outcome"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        if self.n < 1 or (self.batch is not None and self.batch < 1):
            raise InputError(f"StepwiseOutcome needs n >= 1 and batch >= 1 (None: all at once), got n={self.n}, batch={self.batch}")
        if self.consistency not in ("none", "restated") or self.search not in ("every", "backward"):
            raise InputError(
                f"StepwiseOutcome: consistency is 'none' or 'restated' and search 'every' or 'backward', got {self.consistency!r}, {self.search!r}"
            )

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        if chain.correct:
            return all_good(sheet, "the solution ended right")
        judge: Judge = consistent if self.consistency == "restated" else _plain_success
        stop = None if self.batch is None else successes(1)
        drawn: dict[int, Drawn] = {}
        if self.search == "every":
            drawn = dict(enumerate(await draw_each(bank, chain.open_prefixes, self.n, stop=stop, batch=self.batch, judge=judge)))
            verdicts = {step: found.any for step, found in drawn.items()}
        else:

            async def probe(step: int) -> bool | None:
                drawn[step] = await draw(bank, chain.after(step), self.n, stop=stop, batch=self.batch, judge=judge)
                return drawn[step].any

            verdicts = dict((await backward(probe, chain.n_open, end_fails=False)).verdicts)
        hard = propagate_positive([verdicts.get(step) for step in range(chain.n_open)])
        return write_cut(sheet, chain, Located(_first(hard, chain), dict(enumerate(hard))), drawn)


def _first(hard: tuple[bool | None, ...], chain: Chain) -> int | None:
    """The first bad step of propagated labels; the end when none is and the solution is wrong; None where an unknown one comes first."""
    cut = next((step for step, good in enumerate(hard) if not good), len(hard))
    if cut < len(hard):
        return cut if hard[cut] is False else None
    return cut if chain.correct is False else -1


def _plain_success(rollout: Rollout) -> bool | None:
    return rollout.success


def consistent(rollout: Rollout) -> bool | None:
    """Success of a rollout, None when it is right without using the result of the last step of the prefix that it continues."""
    if not rollout.success or not rollout.start:
        return rollout.success
    result = last_number(rollout.end.steps[rollout.start - 1].text)
    later = " ".join(step.text for step in rollout.end.steps[rollout.start :])
    return True if result is None or result in numbers(later) else None


def numbers(text: str) -> set[Decimal]:
    """The numbers that a text states, thousands separators read."""
    return {Decimal(match.replace(",", "")) for match in _NUMBER.findall(text)}


def last_number(text: str) -> Decimal | None:
    """The last number of a text: in "3 * 4 = 12 apples" its result."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None
