"""ToolLabels: step labels from tool-grounded verifiers. What each tool checks is in `rewards`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stepward.core import InputError, Semantics, StepLabels, Trajectory, Usage, charge
from stepward.core.labels import first_bad
from stepward.core.scores import ABSTAINED
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier, Verifier

_HARD = {State.SUPPORTED: True, State.REFUTED: False, State.ABSTAIN: None}


@dataclass(frozen=True, kw_only=True)
class ToolLabels:
    """A step is bad when a verifier refutes a claim in it, good when its checked claims hold, unlabelled ("abstained: ...") otherwise.

    Semantics: *local*. Good means that what was checked holds, not that the step is relevant or complete, so `first_error` is known only where every
    step before it is labelled. `error_types`: the kind of the refutation. `evidence`: the record of every verdict, hints that do not veto included.
    `confidence` is 1.0 for refuted steps, which are proofs under the readings of the text, and unknown for supported ones: what was not checked in them may
    still be wrong. Uses no policy token.
    """

    verifiers: Sequence[Verifier]

    def __post_init__(self) -> None:
        if not self.verifiers:
            raise InputError("ToolLabels needs at least one verifier; ToolLabels(verifiers=stepward.rewards.verifiers.installed()) takes all")
        object.__setattr__(self, "verifiers", tuple(self.verifiers))

    @property
    def semantics(self) -> Semantics:
        return "local"

    @cached_property
    def tools(self) -> ToolVerifier:
        """The same verifiers as a reward model."""
        return ToolVerifier(self.verifiers)

    @property
    def fingerprint(self) -> str:
        return self.tools.fingerprint

    async def label(self, trajectory: Trajectory) -> StepLabels:
        usage = Usage(calls=1)
        charge(usage)
        verdicts = await self.tools.judge(trajectory)
        hard = tuple(_HARD[verdict.state] for verdict in verdicts)
        return StepLabels(
            np.array([np.nan if good is None else float(good) for good in hard], dtype=np.float64),
            self.semantics,
            hard,
            first_bad(hard),
            reasons=tuple(_reason(verdict) for verdict in verdicts),
            error_types=tuple(verdict.kind for verdict in verdicts),
            rationales=tuple(verdict.rationale for verdict in verdicts),
            confidence=np.array([1.0 if good is False else np.nan for good in hard], dtype=np.float64),
            evidence=tuple(tuple(each.to_record() for each in verdict.verdicts) for verdict in verdicts),
            source=self.describe(),
            usage=usage,
        )

    def describe(self) -> dict[str, object]:
        return {"method": "tools", "verifiers": [verifier.fingerprint for verifier in self.tools.router.verifiers]}


def _reason(verdict: StepVerdict) -> str | None:
    return f"{ABSTAINED}: {verdict.reason}" if verdict.state is State.ABSTAIN else None
