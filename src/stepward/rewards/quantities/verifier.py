"""Quantities: is a step consistent with what the problem and the earlier steps say? Exact rational numbers; the reading of words is in the other files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stepward.rewards.arithmetic.vocabulary import HYPOTHESIS, OTHER_ARITHMETIC
from stepward.rewards.quantities.answer import check_answer
from stepward.rewards.quantities.mention import MAX_TEXT
from stepward.rewards.quantities.phrase import check_phrases
from stepward.rewards.quantities.provenance import check_provenance
from stepward.rewards.quantities.restated import check_restated
from stepward.rewards.quantities.result import check_results
from stepward.rewards.quantities.unit import check_conversions, check_durations
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

NAME = "quantities"
VERSION = 2  # 2: compound lengths, working days and changes of unit are left alone


@dataclass(frozen=True)
class Quantities:
    """`tools:quantities`: conversions of units, times between times of day, arithmetic said in words, numbers that come from nowhere, quantities of the
    problem and results of earlier steps that return changed, final answers that nothing led to or that cannot be counted.

    Conversions, durations and phrases can be supported; the other checks find inconsistencies only. Doubts (inexact refutations) never veto. A clause that puts
    something up for inspection is not judged.
    """

    @property
    def name(self) -> str:
        return NAME

    @property
    def fingerprint(self) -> str:
        return f"{NAME}/{VERSION}"

    def reads(self, context: StepContext) -> bool:
        """Whether there is a digit."""
        return re.search(r"[0-9]", context.text) is not None

    async def verify(self, context: StepContext) -> list[Verdict]:
        if len(context.text) > MAX_TEXT or len(context.problem) > MAX_TEXT or OTHER_ARITHMETIC.search(context.problem):
            return []
        found = [
            *check_conversions(context.text, context.problem),
            *check_durations(context.text),
            *check_phrases(context.text),
            *check_provenance(context),
            *check_restated(context),
            *check_results(context),
            *check_answer(context),
        ]
        return [_cautious(context.text, verdict) for verdict in sorted(found, key=lambda verdict: verdict.span)]


def _cautious(text: str, verdict: Verdict) -> Verdict:
    clause = re.split(r"[.;!?]\s|\n", text[max(0, verdict.span[0] - 80) : verdict.span[0]])[-1]
    cue = HYPOTHESIS.search(clause)
    if verdict.state is not State.REFUTED or cue is None:
        return verdict
    reason = f"put up for inspection ({cue[0]!r})"
    return Verdict(state=State.ABSTAIN, verifier=NAME, kind=verdict.kind, text=verdict.text, span=verdict.span, reason=reason, evidence=verdict.evidence)
