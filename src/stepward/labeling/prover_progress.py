"""Progress under a prover: how much a step raises the chance that another, usually weaker or best-of-k, policy finishes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stepward.core import Count, Floats, InputError, Semantics, StepLabels
from stepward.labeling.binomial import interval
from stepward.labeling.chain import Chain, RootedLabeler, root_drawn
from stepward.labeling.completer import RolloutBank
from stepward.labeling.estimators import best_of, best_of_value
from stepward.labeling.maps import advantages
from stepward.labeling.probing import draw_each
from stepward.labeling.sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class ProverProgress(RootedLabeler):
    """Process advantage under a prover (Rewarding Progress: Scaling Automated Process Verifiers for LLM Reasoning, 2024).

    The prover mu is the best of `best_of` rollouts of `policy`, any policy but the one that is being steered: V_t = 1 - (1 - V_policy)^k, estimated without
    bias from `n` >= best_of rollouts as 1 - C(n - s, k) / C(n, k). A step's progress is A_t = V_t - V_{t-1}; along a chain it adds up to
    V_S - V_0. With the policy itself as prover progress says nothing that the outcome does not.

    `values` are V_t (semantics *value*, under the prover); progress, which lies in [-1, 1], is in `evidence` and read by `progress_of`. The paper has no hard
    labels: here a step is good when A_t >= -`margin`. Bounds are exact ones of the policy's value, mapped. The last step is graded.
    """

    n: int = 8
    best_of: int = 4
    margin: float = 0.2

    method: ClassVar[str] = "prover-progress"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if not 1 <= self.best_of <= self.n:
            raise InputError(f"ProverProgress needs 1 <= best_of <= n, got best_of={self.best_of}, n={self.n}; the estimate needs at least best_of rollouts")
        if not 0.0 <= self.margin <= 1.0:
            raise InputError(f"ProverProgress.margin must lie in [0, 1], got {self.margin!r}")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank, root: Count | None = None) -> None:
        whole = await root_drawn(chain, bank, self.n, root)
        found = await draw_each(bank, chain.open_prefixes, self.n)
        values = [best_of(drawn.count, self.best_of) if drawn.reason is None else math.nan for drawn in found]
        if chain.outcome is not None:
            values.append(math.nan if chain.outcome.value is None else chain.outcome.value)
        start = best_of(whole.count, self.best_of)
        progress = advantages(values, start)
        for step, drawn in enumerate(found):
            if math.isnan(values[step]):
                sheet.miss(step, drawn.reason or self.too_few(drawn.count), count=drawn.count)
                continue
            low, high = (best_of_value(end, self.best_of) for end in interval(drawn.count))
            sheet.value(step, values[step], self.judge(progress[step]), count=drawn.count, bounds=(min(low, values[step]), max(high, values[step])))
        if chain.outcome is not None:
            sheet.graded(len(chain) - 1, chain.outcome)
            sheet.hard[-1], sheet.confidence[-1] = self.judge(progress[-1]), math.nan  # progress is judged here, not the outcome
        if math.isnan(start):
            sheet.miss(0, f"the value of the problem is not known: {whole.reason or self.too_few(whole.count)}")
        for step, gain in enumerate(progress):
            sheet.note(step, progress=gain, root=start)

    def too_few(self, count: Count) -> str:
        return f"best of {self.best_of} needs as many graded rollouts, there are {count.rollouts}"

    def judge(self, progress: float) -> bool | None:
        return None if math.isnan(progress) else bool(progress >= -self.margin)


def progress_of(labels: StepLabels) -> Floats:
    """The progress of every step in [-1, 1], from labels of `ProverProgress`; NaN where it is not known."""
    found = [next((item["progress"] for item in items if "progress" in item), None) for items in labels.evidence]
    return np.array([math.nan if gain is None else gain for gain in found], dtype=np.float64)
