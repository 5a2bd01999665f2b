"""Proofs: formal steps checked by a proof assistant. The procedure is in `procedure`, the clients are `lean` and `isabelle`."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stepward.core.errors import MissingExtra, RequestFailed
from stepward.rewards.proofs.assistant import Assistant, FormalStep, Goal, codes
from stepward.rewards.proofs.lean import Lean
from stepward.rewards.proofs.procedure import Finding, judge_step
from stepward.rewards.proofs.transport import Process
from stepward.rewards.verifiers import State, StepContext, Verdict

_VERSION = 1
_KEPT = 4096


class NoProofAssistant(MissingExtra):
    """Neither Lean's REPL nor a client was given."""

    def __init__(self) -> None:
        super().__init__("a proof assistant", "tools")
        self.msg = (
            "no proof assistant: put the REPL of Lean 4 (leanprover-community/repl) on the PATH as `repl`, or pass Proofs(assistant=Lean(...)) or "
            "Proofs(assistant=Isabelle(...))"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (NoProofAssistant, ())


@dataclass(frozen=True)
class _Judged:
    """A block of code, its place in the step, and what was found."""

    code: str
    span: tuple[int, int]
    step: FormalStep | None
    finding: Finding


@dataclass(frozen=True)
class _Held:
    """The statements so far that stand, and those from the beginning on that were all proved."""

    stated: tuple[FormalStep, ...] = ()
    proved: tuple[FormalStep, ...] = ()

    def after(self, one: _Judged) -> _Held:
        """With one more, unless it was refuted or is not well formed."""
        if one.step is None or one.finding.state is State.REFUTED or not one.finding.well_formed:
            return self
        sure = one.finding.state is State.SUPPORTED and len(self.proved) == len(self.stated)
        return _Held((*self.stated, one.step), (*self.proved, one.step) if sure else self.proved)


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """Decides the formal statements of a step: `have NAME : STATEMENT` in a fenced block of the assistant's language.

    The problem gives the theorem: metadata {"lean": {"theorem": "theorem t (n : Nat) (h : n > 2) : n > 1 := by", "preamble": "import
    Mathlib"}}, likewise "isabelle".

    | finding | verdict |
    |---|---|
    | automation proves the step, all earlier steps taken on trust | SUPPORTED (*local*) |
    | automation proves its negation from earlier steps that were supported, and does not prove False from them | REFUTED |
    | the statement is not well formed, or automation proves neither | ABSTAIN |
    | time-out, crash, lost connection | ABSTAIN, the reason says so |

    The writer's own proof is never run, and a statement that holds anything but a statement (commands, comments, nested proofs) is not sent: code
    in a proof assistant can do what any program can. Procedure: Generalizable Process Reward Models via Formally Verified Training Data (2025).
    Raises: NoProofAssistant (a MissingExtra) where no assistant is given and `repl` is not on the PATH.
    """

    assistant: Assistant | None = None
    name: str = field(default="proofs", init=False)

    def __post_init__(self) -> None:
        if self.assistant is None and shutil.which("repl") is None:
            raise NoProofAssistant

    @property
    def fingerprint(self) -> str:
        return f"proofs/{_VERSION}/{self._client.fingerprint}"

    @cached_property
    def _client(self) -> Assistant:
        return Lean(Process(["repl"])) if self.assistant is None else self.assistant

    @cached_property
    def _findings(self) -> OrderedDict[str, list[_Judged]]:
        return OrderedDict()

    def reads(self, context: StepContext) -> bool:
        """The problem has a theorem in the assistant's language and the step a block of it."""
        return self._goal(context) is not None and bool(codes(context.text, self._client.language))

    async def verify(self, context: StepContext) -> list[Verdict]:
        """A verdict for each fenced block of the step."""
        goal = self._goal(context)
        if goal is None:
            return []
        held = _Held()
        for index in range(context.index):
            for one in await self._judged(context, index, goal, held):
                held = held.after(one)
        return [self._verdict(one) for one in await self._judged(context, context.index, goal, held)]

    async def _judged(self, context: StepContext, index: int, goal: Goal, held: _Held) -> list[_Judged]:
        """The findings on one step, remembered by the text up to it; failures of the assistant are not remembered."""
        key = context.trajectory.prefix(index + 1).key
        if key in self._findings:
            return self._findings[key]
        found: list[_Judged] = []
        failed = False
        for code, span in codes(context.trajectory.steps[index].text, self._client.language):
            step = self._client.read(code)
            if step is None:
                finding = Finding(State.ABSTAIN, "not a single statement, or more than a statement", "")
            else:
                try:
                    finding = await judge_step(self._client, goal, held.stated, step, held.proved)
                except RequestFailed as error:
                    finding, failed = Finding(State.ABSTAIN, f"the proof assistant failed: {error}", ""), True
            found.append(_Judged(code, span, step, finding))
            held = held.after(found[-1])
        if not failed:
            self._findings[key] = found
            while len(self._findings) > _KEPT:
                self._findings.popitem(last=False)
        return found

    def _goal(self, context: StepContext) -> Goal | None:
        given = context.trajectory.problem.metadata.get(self._client.language)
        if not isinstance(given, Mapping) or not isinstance(given.get("theorem"), str):
            return None
        return Goal(str(given.get("preamble", "")), given["theorem"])

    def _verdict(self, one: _Judged) -> Verdict:
        finding = one.finding
        evidence = {"theory": finding.theory, "messages": list(finding.messages)} if finding.theory else {}
        text = one.code.strip()[:200]
        return Verdict(state=finding.state, verifier=self.name, kind="formal step", text=text, span=one.span, reason=finding.reason, evidence=evidence)
