"""Logic: checks what a step of a deduction states against the problem and the earlier steps. Reading is in `english` and `notation`, deciding in `run`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from stepward.core.errors import InputError, MissingExtra
from stepward.engine.workers import FAILED, Limits, WorkerPool
from stepward.rewards.logic.claims import Claim, read_claims
from stepward.rewards.logic.formula import to_json
from stepward.rewards.logic.notation import looks_formal
from stepward.rewards.logic.table import check_tables
from stepward.rewards.logic.theory import Theory, lexicon_of, read_theory
from stepward.rewards.verifiers import State, StepContext, Verdict

LOGIC_LIMITS = Limits(time_limit_s=10.0, memory_limit_mb=2048)
MAX_STEPS = 200
MAX_CLAIMS = 100
_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Logic:
    """Decides statements of a deduction by z3 over the individuals that are named.

    The premises of a step are the problem's sentences and what earlier steps state and was not refuted (*local* semantics). Controlled English
    (`english`) and formulas (`notation`) are read; what they do not cover is abstained from, by name. For each statement:

    - it follows: SUPPORTED, with the premises used, none of which can be left out;
    - it cannot hold together with the problem: REFUTED, *contradiction*, with the premises it clashes with;
    - neither, in a closed deduction problem (it asks whether a statement is true or follows, and every sentence of it was read): REFUTED, *not entailed*,
      with a counterexample. A deduction may state only what is given or follows: knowledge of the world does not count. `closed=False` turns this off;
    - otherwise, and where the problem contradicts itself, z3 gives up, or something is supposed for the sake of argument: ABSTAIN.

    Of "Since A and B, C" the reasons A and B must hold too; C that follows from the problem but not from A and B is doubted, not refuted. A verdict ("the
    statement is false", "the answer is B") is the claim that the question's statement, or its opposite, follows. "Either A or B" is read both ways: SUPPORTED
    and REFUTED hold under both.

    Truth tables in a step are checked row by row, whatever the problem is.

    Premises as in FoVer (Generalizable Process Reward Models via Formally Verified Training Data, 2025), which checks cited premises of a formal proof
    only and labels what is not entailed as wrong in every case. Raises: MissingExtra without z3.
    """

    closed: bool = True
    timeout_ms: int = 2000
    workers: int = 1
    limits: Limits = LOGIC_LIMITS
    name: str = field(default="logic", init=False)

    def __post_init__(self) -> None:
        if self.timeout_ms < 1:
            raise InputError(f"Logic.timeout_ms must be at least 1, got {self.timeout_ms}")
        if find_spec("z3") is None:
            raise MissingExtra("z3-solver", "tools")

    @property
    def fingerprint(self) -> str:
        return f"logic/{_VERSION}" + ("" if self.closed else "/open") + (f"/timeout={self.timeout_ms}" if self.timeout_ms != 2000 else "")

    @cached_property
    def _pool(self) -> WorkerPool:
        return WorkerPool("stepward.rewards.logic.run:check", workers=self.workers, limits=self.limits, work="proving")

    @cached_property
    def _theories(self) -> OrderedDict[str, Theory]:
        return OrderedDict()

    def reads(self, context: StepContext) -> bool:
        """The problem is one of deduction, or the step may hold a truth table."""
        return self._theory(context.problem).deductive or ("|" in context.text and looks_formal(context.text))

    async def verify(self, context: StepContext) -> list[Verdict]:
        """Verdicts on every claim of the step."""
        verdicts = check_tables(context.text, self.name)
        if context.index >= MAX_STEPS or not self._theory(context.problem).deductive:
            return verdicts
        texts = [*(step.text for step in context.before), context.text]
        lexicon = lexicon_of([context.problem, *texts])
        theory = read_theory(context.problem, lexicon)
        steps = [read_claims(text, theory, lexicon) for text in texts]
        if not steps[-1] or max(map(len, steps)) > MAX_CLAIMS:
            return verdicts
        reply = await self._pool.call(
            {
                "premises": [[premise.text, to_json(premise.formula)] for premise in theory.premises],
                "symbols": sorted(theory.symbols),
                "closed": self.closed and theory.closed,
                "steps": [[_plain(claim, index + 1) for claim in claims] for index, claims in enumerate(steps)],
                "timeout_ms": self.timeout_ms,
            }
        )
        if FAILED in reply:
            return verdicts + [self._verdict(claim, {"state": "abstain", "kind": claim.kind, "reason": str(reply[FAILED])}, theory) for claim in steps[-1]]
        return verdicts + [self._verdict(claim, result, theory) for claim, result in zip(steps[-1], reply["results"], strict=True)]

    def _theory(self, problem: str) -> Theory:
        """The problem alone, for routing; the last ones are kept."""
        if problem not in self._theories:
            self._theories[problem] = read_theory(problem, lexicon_of([problem]))
            while len(self._theories) > 256:
                self._theories.popitem(last=False)
        return self._theories[problem]

    def _verdict(self, claim: Claim, result: dict[str, Any], theory: Theory) -> Verdict:
        evidence = dict(result.get("evidence", {}))
        if result["state"] == "abstain" and theory.unread:
            evidence["unread"] = list(theory.unread[:5])
        return Verdict(
            state=State(result["state"]),
            verifier=self.name,
            kind=result["kind"],
            text=claim.text[:200],
            span=claim.span,
            reason=result["reason"],
            exact=result.get("exact", True),
            evidence=evidence,
        )


def _plain(claim: Claim, step: int) -> dict[str, Any]:
    formula = None if claim.formula is None else to_json(claim.formula)
    return {"kind": claim.kind, "formula": formula, "text": f"step {step}: {claim.text[:200]}", "cited": [to_json(one) for one in claim.cited]}
