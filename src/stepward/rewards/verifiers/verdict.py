"""Verdict: what a tool says about one claim of a step, with evidence that can be checked again; and what the claims make of the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stepward.core.record import FrozenDict, freeze, thaw


class State(StrEnum):
    """SUPPORTED: holds as written. REFUTED: false under every reading considered possible. ABSTAIN: anything else."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    ABSTAIN = "abstain"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `verifier` says about the claim that stands at characters `span` (start, end) of a step, quoted in `text`.

    `kind`: what is claimed, or for a refutation what is wrong ("equality", "misquoted quantity", ...). `exact`: REFUTED means false under every reading,
    SUPPORTED true under the literal one; an inexact verdict is a hint that never vetoes. `evidence`: JSON-like, enough to check the verdict again
    (values, a counterexample, a failing test); never the writer's opinion of the step.
    """

    state: State
    verifier: str
    kind: str
    text: str
    span: tuple[int, int]
    reason: str
    exact: bool = True
    evidence: Mapping[str, Any] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", freeze(self.evidence))

    @property
    def vetoes(self) -> bool:
        """An exact refutation."""
        return self.exact and self.state is State.REFUTED

    @property
    def sentence(self) -> str:
        """One line for people: state, quote, place, reason and evidence."""
        start, end = self.span
        found = "; ".join(f"{name}: {value}" for name, value in self.evidence.items())
        hint = "" if self.exact else "perhaps "
        return f"{hint}{self.state.value}: {self.text!r} at {start}-{end} ({self.reason}{'; ' + found if found else ''})"

    def to_record(self) -> dict[str, Any]:
        """JSON-like, for the evidence of labels."""
        return {
            "state": self.state.value,
            "verifier": self.verifier,
            "kind": self.kind,
            "text": self.text,
            "span": list(self.span),
            "reason": self.reason,
            "exact": self.exact,
            "evidence": thaw(self.evidence),
        }


@dataclass(frozen=True, kw_only=True)
class StepVerdict:
    """What all verdicts make of the step; made by `combine`."""

    state: State
    verdicts: tuple[Verdict, ...]
    reason: str

    @property
    def deciding(self) -> tuple[Verdict, ...]:
        """The exact verdicts that decided; none where the step is abstained from."""
        if self.state is State.ABSTAIN:
            return ()
        return tuple(verdict for verdict in self.verdicts if verdict.exact and verdict.state is self.state)

    @property
    def doubts(self) -> tuple[Verdict, ...]:
        """The inexact refutations: hints that do not veto."""
        return tuple(verdict for verdict in self.verdicts if verdict.state is State.REFUTED and not verdict.exact)

    @property
    def kind(self) -> str | None:
        """What is wrong with a refuted step: the kind of its first deciding verdict."""
        return self.deciding[0].kind if self.state is State.REFUTED else None

    @property
    def rationale(self) -> str | None:
        """The sentences of the deciding verdicts, one a line."""
        return "\n".join(verdict.sentence for verdict in self.deciding) or None


def combine(verdicts: Iterable[Verdict]) -> StepVerdict:
    """Refuted if any exact verdict refutes; supported if an exact verdict supports and none, exact or not, refutes; otherwise abstain."""
    every = tuple(verdicts)
    refuting = [verdict for verdict in every if verdict.state is State.REFUTED]
    supporting = [verdict for verdict in every if verdict.state is State.SUPPORTED and verdict.exact]
    vetoing = [verdict for verdict in refuting if verdict.exact]
    if vetoing:
        return StepVerdict(state=State.REFUTED, verdicts=every, reason=f"{len(vetoing)} of {len(every)} claims refuted")
    if supporting and not refuting:
        return StepVerdict(state=State.SUPPORTED, verdicts=every, reason=f"{len(supporting)} of {len(every)} claims supported")
    if refuting:
        reason = f"doubtful: {refuting[0].reason}"
    elif every:
        reason = f"no claim could be decided, the first because: {every[0].reason}"
    else:
        reason = "no claim found"
    return StepVerdict(state=State.ABSTAIN, verdicts=every, reason=reason)
