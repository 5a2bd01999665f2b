"""Capped: a reward model under a verifier's veto."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stepward.core import ABSTAINED, Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage
from stepward.rewards.combine.members import Missing, blocking_reason, check_missing, check_on_scale, joined, name_of, price_of, scores_of, source_of, usage_of


class Capped:
    """score_t = min(model_t, cap) where the verifier refutes step t, model_t elsewhere; with `support`, max(model_t, support) where it confirms.

    The verifier refutes what it scores below its own threshold, and confirms what it scores at or above it. Where it abstains the model's score stays as
    it is. A failure of either leaves the step unscored with the reason; with missing="skip" the other decides alone, so that a refuted step without a
    score gets the cap. The rationale says what the verifier did; the model's own score is the aspect "uncapped". `cap` and `support` are on the model's
    scale, so the two may be on different ones; for probabilities the cap is 0 unless given. A confirmation says less than a refutation (it holds for what
    was checked), hence no support by default.

    Raises: InputError for a cap or support that is not on the model's scale, a support below the cap, no cap for a model of another scale than
    probabilities, or a verifier of steps on an outcome model, where only a refutation of the last step could ever count.
    """

    def __init__(
        self, model: RewardModel, verifier: RewardModel, *, cap: float | None = None, support: float | None = None, missing: Missing = "unscored"
    ) -> None:
        check_missing(missing)
        if cap is None and model.scale != "probability":
            raise InputError(f"{model.fingerprint} is on the {model.scale} scale, where 0 need not mean wrong; say what a refuted step gets at most: cap=...")
        cap = 0.0 if cap is None else cap
        check_on_scale("cap", cap, model.scale)
        check_on_scale("support", support, model.scale)
        if model.granularity == "outcome" and verifier.granularity != "outcome":
            raise InputError(
                f"{model.fingerprint} scores outcomes and {verifier.fingerprint} verifies steps, so refuted steps would have no score to cap; "
                "lift the model to steps first: capped(lifted(MODEL), VERIFIER; missing=skip)"
            )
        if support is not None and support < cap:
            raise InputError(f"support must not be below the cap, got support={support!r} and cap={cap!r}")
        self.model, self.verifier, self.cap, self.support, self.missing = model, verifier, cap, support, missing

    @property
    def fingerprint(self) -> str:
        return name_of("capped", [self.model, self.verifier], cap=self.cap, support=self.support, missing=self.missing)

    @property
    def granularity(self) -> Granularity:
        return self.model.granularity

    @property
    def scale(self) -> Scale:
        return self.model.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S], with the aspect "uncapped" beside the model's own."""
        given, checked = await scores_of([self.model, self.verifier], trajectory)
        values, reasons, rationales = np.array(given.values), list(given.reasons), list(given.rationales)
        for step, (value, verdict) in enumerate(zip(given.values, checked.values, strict=True)):
            failed = math.isnan(verdict) and not (checked.reasons[step] or "").startswith(ABSTAINED)
            if failed and self.missing == "unscored":
                values[step], reasons[step] = math.nan, blocking_reason([given.reasons[step], checked.reasons[step]])
                continue
            if math.isnan(verdict) or (math.isnan(value) and self.missing == "unscored"):
                continue
            if verdict < checked.threshold:
                values[step], reasons[step] = np.fmin(value, self.cap), None
                said = f"refuted by {self.verifier.fingerprint}: at most {self.cap:.4g}"
            elif self.support is not None:
                values[step], reasons[step] = np.fmax(value, self.support), None
                said = f"confirmed by {self.verifier.fingerprint}: at least {self.support:.4g}"
            else:
                continue
            rationales[step] = joined((said, checked.rationales[step], given.rationales[step]))
        return replace(
            given,
            values=values,
            reasons=tuple(reasons),
            rationales=tuple(rationales),
            source=source_of(self.fingerprint, [self.model, self.verifier]),
            usage=usage_of([given, checked]),
            aspects={**given.aspects, "uncapped": given.values},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The sum of the members' prices."""
        return price_of([(self.model, trajectory), (self.verifier, trajectory)])
