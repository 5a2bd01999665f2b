"""Solvability: how much the outcome of a multiple-choice problem says, given that some right answers are guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Count, InputError, Semantics
from stepward.labeling.chain import Chain, RootedLabeler, root_drawn
from stepward.labeling.completer import RolloutBank
from stepward.labeling.estimators import solvability
from stepward.labeling.sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class SolvableOutcome(RootedLabeler):
    """Outcome labels of solutions to problems with `n_options` answers to choose from, weighted by solvability (solvability estimation, 2025).

    Solvability is P(p > 1 / n_options | s of n_root solutions right) under a uniform prior: low where right answers are likely guesses, whose steps are
    then likely spurious. A solution that ended right is labelled good throughout, with solvability as the `confidence` of its labels: weight it by
    that. Of a wrong one only the last step is labelled, bad: where the error is, the outcome does not say ("abstained"). Semantics: *prefix*.
    `estimators.solvability` is the weight alone, for outcome models and advantages. Difference: the paper weights outcomes; steps are our reading.
    """

    n_options: int
    n_root: int = 16

    method: ClassVar[str] = "solvable-outcome"
    semantics: ClassVar[Semantics] = "prefix"

    def __post_init__(self) -> None:
        if self.n_options < 2 or self.n_root < 1:
            raise InputError(f"SolvableOutcome needs n_options >= 2 and n_root >= 1, got n_options={self.n_options}, n_root={self.n_root}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None:
        last = len(chain) - 1
        if chain.correct is None:
            return sheet.miss_all((chain.outcome and chain.outcome.reason) or "the trajectory has not ended, so it has no outcome")
        if not chain.correct:
            sheet.miss_all("abstained: the outcome does not say where the error is")
            sheet.good_or_bad(last, False)
            sheet.confidence[last] = 1.0
            return None
        whole = await root_drawn(chain, bank, self.n_root, root)
        if whole.reason is not None:
            return sheet.miss_all(whole.reason)
        weight = solvability(whole.count, self.n_options)
        for step in range(len(chain)):
            sheet.good_or_bad(step, True, solvability=weight, successes=whole.count.successes, solutions=whole.count.rollouts)
            sheet.confidence[step] = weight
        return None
