"""Bidirectional: a solution read from its end as well as from its start."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from stepward.core import Granularity, InputError, RewardModel, Scale, StepScores, Trajectory, Usage
from stepward.rewards.combine.fuse import fuse
from stepward.rewards.combine.members import (
    Missing,
    check_missing,
    check_same_scale,
    name_of,
    price_of,
    rationales_of,
    scored,
    source_of,
    step_reasons,
    threshold_of,
    usage_of,
)


def reverse(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its steps in reverse order; reversing twice is the identity.

    Separators stay at their places, so that texts are as far apart as before: step k of the result has the text of step S-1-k and the separator of step k.
    """
    turned = tuple(replace(step, separator=place.separator) for step, place in zip(reversed(trajectory.steps), trajectory.steps, strict=True))
    return replace(trajectory, steps=turned)


class Bidirectional:
    """score_t = gate * forward_t + (1 - gate) * backward_t, where backward scores the reversed trajectory and is mapped back to the steps' order.

    `backward` is the same model unless given. The gate is a weight here; the paper's learned gate is not. Both directions are kept as aspects. A
    step's score depends on later steps (`causal` is False): for judging whole solutions, not for searching. gate = 1 reproduces the forward model.

    Raises: InputError for a gate outside [0, 1], directions on different scales, or an outcome model, which has no score for a first step.
    Reference: The Bidirectional Process Reward Model (2025).
    """

    granularity: Granularity = "step"
    causal = False

    def __init__(self, forward: RewardModel, backward: RewardModel | None = None, *, gate: float = 0.5, missing: Missing = "unscored") -> None:
        if not 0.0 <= gate <= 1.0:
            raise InputError(f"gate must lie in [0, 1], the weight of the forward reading, got {gate!r}")
        check_missing(missing)
        self.models = (forward, forward if backward is None else backward)
        check_same_scale(self.models)
        if forward.granularity == "outcome":
            raise InputError(f"{forward.fingerprint} scores outcomes, which have no direction; lift it to steps first: lifted(MODEL)")
        self.gate, self.missing = gate, missing

    @property
    def fingerprint(self) -> str:
        return name_of("bidirectional", self.models, gate=self.gate, missing=self.missing)

    @property
    def scale(self) -> Scale:
        return self.models[0].scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S], with the aspects "forward" and "backward"."""
        forward, turned = await asyncio.gather(scored(self.models[0], trajectory), scored(self.models[1], reverse(trajectory)))
        backward = replace(turned, values=turned.values[::-1], reasons=turned.reasons[::-1], rationales=turned.rationales[::-1], aspects={})
        members = [forward, backward]
        weighed = [(member, weight) for member, weight in zip(members, (self.gate, 1.0 - self.gate), strict=True) if weight > 0.0]
        used, weights = [member for member, _ in weighed], [weight for _, weight in weighed]
        fused, _ = fuse(np.stack([member.values for member in used]), "mean", weights=weights)
        reasons = step_reasons(used, self.missing)
        return StepScores(
            np.where([reason is None for reason in reasons], fused, np.nan),
            reasons,
            self.scale,
            threshold_of(used, weights),
            rationales_of(used),
            source=source_of(self.fingerprint, self.models),
            usage=usage_of(members),
            aspects={"forward": forward.values, "backward": backward.values},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """The sum of both directions' prices."""
        return price_of([(self.models[0], trajectory), (self.models[1], reverse(trajectory))])
