"""Monte-Carlo step labels: what a policy makes of every prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import InputError, Semantics
from stepward.labeling.binomial import interval
from stepward.labeling.chain import Chain, ChainLabeler
from stepward.labeling.completer import RolloutBank
from stepward.labeling.estimators import unbiased
from stepward.labeling.probing import Drawn, draw_each, settled, successes
from stepward.labeling.sheet import Sheet

Estimate = Literal["soft", "hard"]


@dataclass(frozen=True, kw_only=True)
class MonteCarlo(ChainLabeler):
    """A step's value is the share of `n` completions from it that end right (Math-Shepherd, 2023).

    estimate="soft": value_t = successes_t / n; the hard label beside it is good if value_t > `threshold` (0: one success is enough).
    estimate="hard": value_t is that hard label, 1 or 0. With V_t the completing policy's true chance, E[soft_t] = V_t and, at threshold 0,
    P(hard_t good) = 1 - (1 - V_t)^n. The last step of a finished trajectory is graded, not rolled out, and costs nothing.

    `batch`: ask for so many completions at a time and stop when the hard label is settled. The labels are the same as without, path by path, for
    (1 - (1 - V)^n) / V completions on average at batch 1 and threshold 0. The share is then biased, so this is for estimate="hard" only.
    `stop_after`: for estimate="soft", stop at so many successes; the value is then the unbiased one for such stopping, whose relative error is about
    1 / sqrt(stop_after) whatever V. At least 2; with 1 the value would be the first completion alone.

    A completion that a limit cut off or that cannot be graded is neither a success nor a failure: it is counted as unscored. Soft labels have exact
    95 % intervals. Semantics: *value* under `policy`. Difference from the paper: counts are kept beside the labels; both kinds of early stopping.
    """

    n: int = 8
    threshold: float = 0.0
    estimate: Estimate = "soft"
    batch: int | None = None
    stop_after: int | None = None

    method: ClassVar[str] = "monte-carlo"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"MonteCarlo.n must be at least 1, got {self.n}")
        if not 0.0 <= self.threshold < 1.0:
            raise InputError(f"MonteCarlo.threshold must lie in [0, 1), got {self.threshold}; a step is good when its value is above it")
        if self.estimate not in ("soft", "hard"):
            raise InputError(f"MonteCarlo.estimate must be 'soft' or 'hard', got {self.estimate!r}")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"MonteCarlo.batch must be at least 1, got {self.batch}; leave it out to ask for all completions at once")
        if self.batch is not None and self.estimate == "soft" and self.stop_after is None:
            raise InputError("MonteCarlo.batch stops early, which biases soft values; use estimate='hard', or stop_after for unbiased soft values")
        if self.stop_after is not None and (self.stop_after < 2 or self.estimate == "hard"):
            raise InputError(f"MonteCarlo.stop_after is for estimate='soft' and at least 2, got {self.stop_after} with estimate={self.estimate!r}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        if self.stop_after is not None:
            found = await draw_each(bank, chain.open_prefixes, self.n, stop=successes(self.stop_after), batch=self.batch or 1)
        elif self.batch is not None:
            found = await draw_each(bank, chain.open_prefixes, self.n, stop=settled(self.threshold, self.n), batch=self.batch)
        else:
            found = await draw_each(bank, chain.open_prefixes, self.n)
        for step, drawn in enumerate(found):
            self.write(sheet, step, drawn)
        if chain.outcome is not None:
            sheet.graded(len(chain) - 1, chain.outcome)

    def write(self, sheet: Sheet, step: int, drawn: Drawn) -> None:
        """The label of a step from what was drawn after it."""
        count = drawn.count
        good = count.value > self.threshold
        if drawn.reason is not None:
            sheet.miss(step, drawn.reason, count=count)
        elif self.estimate == "hard":
            sheet.good_or_bad(step, good, count=count)
        elif self.stop_after is not None:
            value = unbiased(count, stop=self.stop_after, last=drawn.last)
            sheet.value(step, value, good, count=count, bounds=_around(interval(count, stop=self.stop_after, last=drawn.last), value))
        else:
            sheet.value(step, count.value, good, count=count, bounds=interval(count))


def _around(bounds: tuple[float, float], value: float) -> tuple[float, float]:
    """Rounding must not leave the value outside."""
    return min(bounds[0], value), max(bounds[1], value)
