"""Entropy-regularised step values: between the share of right rollouts and "any is right"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import InputError, Semantics
from stepward.labeling.binomial import interval
from stepward.labeling.chain import Chain, ChainLabeler
from stepward.labeling.completer import RolloutBank
from stepward.labeling.estimators import entropic
from stepward.labeling.probing import draw_each
from stepward.labeling.sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class EntropyRegularised(ChainLabeler):
    """value_t = (1 / eta) ln mean exp(eta r) over `n` rollouts with outcomes r in {0, 1} (Entropy-Regularized Process Reward Model, 2024).

    The optimal value under a KL penalty when rollouts come from the initial policy; a negative `eta` is their formula for rollouts from the optimal one.
    It is a rising map of the share: eta 0 is soft and eta = inf hard Monte-Carlo estimation, so it changes how far apart steps are, never their order.
    The hard label is "any rollout is right"; the last step is graded. Bounds are the share's exact ones, mapped. Plugging an estimated share in
    biases the value, downwards for eta > 0. Semantics: *value*, entropy-regularised; `counts` give back the share.
    Difference from the authors' code: values are not rounded to three digits.
    """

    n: int = 8
    eta: float = 1.0

    method: ClassVar[str] = "entropy-regularised"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"EntropyRegularised.n must be at least 1, got {self.n}")
        if math.isnan(self.eta):
            raise InputError("EntropyRegularised.eta must be a number, -inf and inf included, got NaN")

    async def fill(self, sheet: Sheet, chain: Chain, bank: RolloutBank) -> None:
        for step, drawn in enumerate(await draw_each(bank, chain.open_prefixes, self.n)):
            if drawn.reason is not None:
                sheet.miss(step, drawn.reason, count=drawn.count)
                continue
            low, high = interval(drawn.count)
            value = entropic(drawn.count.value, self.eta)
            bounds = entropic(low, self.eta), entropic(high, self.eta)
            sheet.value(step, value, drawn.any, count=drawn.count, bounds=bounds, share=drawn.count.value)
        if chain.outcome is not None:
            sheet.graded(len(chain) - 1, chain.outcome)
