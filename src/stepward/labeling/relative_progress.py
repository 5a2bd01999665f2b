"""Relative progress: a step is good when it keeps the chance of success that the steps before it left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import ABSTAINED, Count, InputError, Semantics
from stepward.labeling.binomial import interval
from stepward.labeling.chain import Chain, RootedLabeler, root_drawn
from stepward.labeling.completer import RolloutBank
from stepward.labeling.decoders import Hard
from stepward.labeling.estimators import unbiased
from stepward.labeling.maps import advantages, at_least, ratios
from stepward.labeling.probing import Drawn, draw, forward, successes
from stepward.labeling.sheet import Sheet

Sizes = tuple[tuple[float, int], ...]


@dataclass(frozen=True, kw_only=True)
class RelativeProgress(RootedLabeler):
    """Relative progress estimation (GenPRM: Scaling Test-Time Compute of Process Reward Models via Generative Reasoning, 2025).

    1. pass@1 p = share of right ones among `n_root` solutions; problems with none right or all right are left out ("abstained").
    2. `sizes` says how many rollouts a step gets: of each (bound, n), the first with p < bound. Steps in order; after the first step without a right
       rollout all values are 0 and nothing more is drawn.
    3. `form` "ratio": good iff V_t / V_{t-1} >= `bar` (0.8), with V before the first step = p. "difference": good iff V_t - V_{t-1} >= `bar` (e.g. -0.3).

    A ratio of shares is noisy, relative standard deviation about sqrt((1 - V_t) / (n V_t) + (1 - V_{t-1}) / (n V_{t-1})); `stop_after` draws until so
    many successes (at most n) instead, which makes it about sqrt(2 / stop_after) whatever V, with unbiased values.
    Values are *value* labels, the last step's its outcome; hard labels and the first error are those of the rule. Differences: nothing is drawn after a zero; a
    right last step keeps its value 1 after a zero, though it is labelled bad like all after it. Agreement with a judge that runs code, their second
    half, is a combination of labelers and not here.
    """

    bar: float = 0.8
    form: Literal["ratio", "difference"] = "ratio"
    n_root: int = 64
    sizes: Sizes = ((0.1, 128), (0.9, 64), (1.0, 32))
    stop_after: int | None = None

    method: ClassVar[str] = "relative-progress"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple((float(bound), int(n)) for bound, n in self.sizes))
        bounds = [bound for bound, _ in self.sizes]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] < 1.0 or any(n < 1 for _, n in self.sizes) or self.n_root < 1:
            raise InputError(f"RelativeProgress.sizes are pairs (pass@1 below, rollouts) with rising bounds up to 1, and n_root >= 1; got {self.sizes}")
        if self.form not in ("ratio", "difference"):
            raise InputError(f"RelativeProgress.form must be 'ratio' or 'difference', got {self.form!r}")
        if self.stop_after is not None and self.stop_after < 2:
            raise InputError(f"RelativeProgress.stop_after must be at least 2, got {self.stop_after}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None:
        whole = await root_drawn(chain, bank, self.n_root, root)
        pass_at_1 = whole.count.value
        if whole.reason is not None:
            return sheet.miss_all(whole.reason)
        if pass_at_1 in (0.0, 1.0):
            return sheet.miss_all(f"{ABSTAINED}: {'all' if pass_at_1 else 'none'} of {whole.count.rollouts} solutions of this problem are right")
        n = next(n for bound, n in self.sizes if pass_at_1 < bound)
        drawn: dict[int, Drawn] = {}

        async def probe(step: int) -> bool | None:
            stop = None if self.stop_after is None else successes(self.stop_after)
            drawn[step] = await draw(bank, chain.after(step), n, stop=stop, batch=None if stop is None else 1)
            return drawn[step].any

        found = await forward(probe, chain.n_open, end_fails=False)
        failed = next((step for step, good in found.verdicts.items() if good is False), len(chain))
        return self.write(sheet, chain, drawn, failed, pass_at_1)

    def write(self, sheet: Sheet, chain: Chain, drawn: dict[int, Drawn], failed: int, root: float) -> None:
        """Values, and hard labels by the rule; `failed` is the first step without a right rollout."""
        values = [0.0 if step >= failed else self.estimate(drawn.get(step)) for step in range(len(chain))]
        if chain.outcome is not None and chain.outcome.value is not None:
            values[-1] = chain.outcome.value
        hard = tuple(False if step >= failed else good for step, good in enumerate(self.judge(values, root)))
        unscored = None if chain.outcome is None else chain.outcome.reason
        for step, (value, good) in enumerate(zip(values, hard, strict=True)):
            found, last = drawn.get(step), step == len(chain) - 1
            count = None if found is None else found.count
            if math.isnan(value):
                reason = found.reason if found is not None else unscored if last else None
                sheet.miss(step, reason or "a step before it could not be rolled out", count=count)
            elif found is not None:
                sheet.value(step, value, good, count=count, bounds=self.bounds(found, value))
            elif last and chain.outcome is not None and chain.outcome.scored:
                sheet.value(step, value, good, bounds=(value, value))
            else:
                sheet.value(step, value, good, because="after a step without a right rollout")
            sheet.note(step, before=values[step - 1] if step else root, root=root)

    def judge(self, values: list[float], root: float) -> Hard:
        """Hard labels of the rule, None where a value is unknown."""
        return at_least(ratios(values, root) if self.form == "ratio" else advantages(values, root), self.bar)

    def estimate(self, drawn: Drawn | None) -> float:
        if drawn is None or drawn.reason is not None:
            return math.nan
        return drawn.count.value if self.stop_after is None else unbiased(drawn.count, stop=self.stop_after, last=drawn.last)

    def bounds(self, drawn: Drawn, value: float) -> tuple[float, float]:
        low, high = interval(drawn.count, stop=self.stop_after, last=drawn.last or 1)
        return min(low, value), max(high, value)
