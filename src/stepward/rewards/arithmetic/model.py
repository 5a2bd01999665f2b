"""ArithmeticVerifier: exact arithmetic as a reward model. A veto and a label cleaner; most wrong steps contain no wrong arithmetic."""

from __future__ import annotations

import math

import numpy as np

from stepward.core.protocols import Granularity
from stepward.core.scores import ABSTAINED, Scale, StepScores
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge
from stepward.rewards.arithmetic.verdict import State, StepVerdict, verify
from stepward.rewards.arithmetic.vocabulary import OTHER_ARITHMETIC

VERSION = 1
_VALUES = {State.SUPPORTED: 1.0, State.REFUTED: 0.0, State.ABSTAIN: math.nan}


class ArithmeticVerifier:
    """Scores a step 1.0 when its arithmetic holds, 0.0 when a claim in it is false under every reading, NaN ("abstained: ...") otherwise.

    Differs from a learned model: 1.0 says that the claims hold, not that the step is relevant or complete. Where the problem speaks of another
    arithmetic (remainders, bases, defined operations), every step is abstained from. Never raises on any text.
    """

    fingerprint = f"tools:arithmetic/{VERSION}"
    granularity: Granularity = "step"
    scale: Scale = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step; rationales quote the deciding claims with their exact values."""
        usage = Usage(calls=1)
        charge(usage)
        foreign = OTHER_ARITHMETIC.search(trajectory.problem.prompt)
        verdicts = [self._unread(foreign[0]) if foreign else verify(step.text) for step in trajectory.steps]
        decided = [verdict.state is not State.ABSTAIN for verdict in verdicts]
        return StepScores(
            np.array([_VALUES[verdict.state] for verdict in verdicts], dtype=np.float64),
            tuple(None if sure else f"{ABSTAINED}: {verdict.reason}" for sure, verdict in zip(decided, verdicts, strict=True)),
            scale=self.scale,
            rationales=tuple(verdict.evidence if sure else None for sure, verdict in zip(decided, verdicts, strict=True)),
            source={"model": self.fingerprint, "method": "exact rational arithmetic on the claims of each step"},
            usage=usage,
        )

    @staticmethod
    def _unread(cue: str) -> StepVerdict:
        return StepVerdict(state=State.ABSTAIN, verdicts=(), reason=f"the problem may mean another arithmetic ({cue.strip()[:20]!r})")
