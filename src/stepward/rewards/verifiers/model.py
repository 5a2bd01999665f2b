"""ToolVerifier: verifiers as a reward model. A veto and a label cleaner: a step in which every checkable claim holds can still be the wrong step."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np

from stepward.core.protocols import Granularity
from stepward.core.scores import ABSTAINED, Scale, StepScores
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge
from stepward.rewards.verifiers.router import Adviser, Router
from stepward.rewards.verifiers.verdict import State, StepVerdict, combine
from stepward.rewards.verifiers.verifier import StepContext, Verifier

_VALUES = {State.SUPPORTED: 1.0, State.REFUTED: 0.0, State.ABSTAIN: math.nan}


class ToolVerifier:
    """Scores a step 1.0 when a claim in it is supported and none refuted, 0.0 when one is refuted, NaN ("abstained: ...") otherwise.

    Differs from a learned model: 1.0 says that the claims hold, not that the step is relevant or complete. Never raises on any text. The aspect
    "doubts" counts inexact refutations, which change no value. A step's verdict never depends on later steps.
    """

    granularity: Granularity = "step"
    scale: Scale = "probability"

    def __init__(self, verifiers: Sequence[Verifier], *, adviser: Adviser | None = None) -> None:
        self.router = Router(verifiers, adviser)

    @property
    def fingerprint(self) -> str:
        """tools:name/version+name/version."""
        return "tools:" + "+".join(verifier.fingerprint for verifier in self.router.verifiers)

    async def judge(self, trajectory: Trajectory) -> tuple[StepVerdict, ...]:
        """The verdicts on every step."""
        return tuple(await asyncio.gather(*(self.judge_step(StepContext(trajectory, index)) for index in range(len(trajectory)))))

    async def judge_step(self, context: StepContext) -> StepVerdict:
        """The verdicts of all verifiers that read the step, combined."""
        found = await asyncio.gather(*(verifier.verify(context) for verifier in await self.router.route(context)))
        return combine(verdict for verdicts in found for verdict in verdicts)

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step; rationales quote the deciding claims with their evidence."""
        usage = Usage(calls=1)
        charge(usage)
        verdicts = await self.judge(trajectory)
        return StepScores(
            np.array([_VALUES[verdict.state] for verdict in verdicts], dtype=np.float64),
            tuple(f"{ABSTAINED}: {verdict.reason}" if verdict.state is State.ABSTAIN else None for verdict in verdicts),
            scale=self.scale,
            rationales=tuple(verdict.rationale for verdict in verdicts),
            source={"model": self.fingerprint, "method": "claims of each step checked by tools"},
            usage=usage,
            aspects={"doubts": np.array([len(verdict.doubts) for verdict in verdicts], dtype=np.float64)},
        )

    def price(self, trajectory: Trajectory) -> Usage | None:
        """One call, no tokens; None with an adviser, who may ask a model."""
        del trajectory
        return Usage(calls=1) if self.router.free else None
