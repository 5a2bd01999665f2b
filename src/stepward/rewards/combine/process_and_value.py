"""ProcessAndValue: how right the steps are so far, and how likely they are to lead to a right end."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from stepward.core import ABSTAINED, Floats, Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage, aggregate, check_aggregation
from stepward.rewards.combine.members import blocking_reason, check_on_scale, check_same_scale, name_of, price_of, rationales_of, scores_of, source_of, usage_of

BetaOn = Literal["value", "process"]


class ProcessAndValue:
    """score_t = (g_t + beta h_t) / (1 + beta): a process model's g and a value model's h, h_t being the chance of a right end from step t on.

    g_t = aggregation(g_0..g_t), the running aggregate of the process scores; "last" is the score of step t itself. beta_on="value" is the formula above;
    beta_on="process" is (h_t + beta g_t) / (1 + beta), as the paper's public code has it, with aggregation="mean". The division keeps the result on the
    members' scale and changes no order. beta = 0 leaves one term, beta = inf the other. A step is unscored where either term is unknown, with the
    reason; steps on which the process model abstains are left out of the running aggregate as long as one step before has a value.
    Both terms are aspects, "process" and "value".

    Raises: InputError for models on different scales, a negative beta, or an unknown aggregation.
    Reference: Better Process Supervision with Bi-directional Rewarding Signals (BiRM, 2025); there one model with two heads, here two reward models.
    """

    def __init__(
        self,
        process: RewardModel,
        value: RewardModel,
        *,
        beta: float = 1.0,
        beta_on: BetaOn = "value",
        aggregation: str = "last",
        threshold: float | None = None,
    ) -> None:
        if math.isnan(beta) or beta < 0.0:
            raise InputError(f"beta must be at least 0 (or inf), got {beta!r}")
        if beta_on not in get_args(BetaOn):
            raise InputError(f"beta_on must be one of {', '.join(get_args(BetaOn))}, got {beta_on!r}")
        check_aggregation(aggregation)
        self.models = (process, value)
        check_same_scale(self.models)
        check_on_scale("threshold", threshold, process.scale)
        self.beta, self.beta_on, self.aggregation, self.threshold = beta, beta_on, aggregation, threshold

    @property
    def fingerprint(self) -> str:
        beta = self.beta if math.isfinite(self.beta) else "inf"
        return name_of("process-and-value", self.models, beta=beta, beta_on=self.beta_on, aggregation=self.aggregation, threshold=self.threshold)

    @property
    def granularity(self) -> Granularity:
        return self.models[0].granularity

    @property
    def scale(self) -> Scale:
        return self.models[0].scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S], with the aspects "process" (the running aggregate) and "value"."""
        process, value = await scores_of(self.models, trajectory)
        running, why = self._running(process)
        share = 1.0 if math.isinf(self.beta) else self.beta / (1.0 + self.beta)
        on_process = share if self.beta_on == "process" else 1.0 - share
        terms = [(on_process, running, why), (1.0 - on_process, value.values, value.reasons)]
        used = [term for term in terms if term[0] > 0.0]
        reasons = tuple(blocking_reason(at_step) for at_step in zip(*(term[2] for term in used), strict=True))
        fused = sum((weight * values for weight, values, _ in used), np.zeros(len(trajectory)))
        if self.scale == "probability":
            fused = np.clip(fused, 0.0, 1.0)
        threshold = on_process * process.threshold + (1.0 - on_process) * value.threshold if self.threshold is None else self.threshold
        return StepScores(
            np.where([reason is None for reason in reasons], fused, np.nan),
            reasons,
            self.scale,
            threshold,
            rationales_of([process, value]),
            source=source_of(self.fingerprint, self.models),
            usage=usage_of([process, value]),
            aspects={"process": running, "value": value.values},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The sum of the members' prices."""
        return price_of((model, trajectory) for model in self.models)

    def _running(self, process: StepScores) -> tuple[Floats, tuple[str | None, ...]]:
        """aggregation(g_0..g_t) for every t, and why it is unknown."""
        values, reasons = process.values, process.reasons
        if self.aggregation == "last":
            return values, reasons
        running = np.full(len(values), np.nan)
        why: list[str | None] = []
        for step in range(len(values)):
            known = ~np.isnan(values[: step + 1])
            reason = blocking_reason(reasons[: step + 1])
            failed = reason is not None and not reason.startswith(ABSTAINED)
            if known.any() and not failed:
                running[step] = aggregate(values[: step + 1][known], self.aggregation)
                reason = None
            why.append(reason)
        return running, tuple(why)
