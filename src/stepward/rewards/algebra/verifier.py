"""Algebra: formulas checked by sympy in killable workers. What is asked lives here, how it is decided in `worker`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepward.engine.workers import FAILED, Limits, WorkerPool
from stepward.rewards.algebra.claim import Claim, extract, functions_of, has_decimals, symbols_of
from stepward.rewards.algebra.context import MAX_GIVEN, bound, defined, definitions, given
from stepward.rewards.algebra.integers import check_integers
from stepward.rewards.arithmetic.vocabulary import DENIAL, HYPOTHESIS, OTHER_ARITHMETIC
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

NAME = "algebra"
VERSION = 2  # 2: denials, double factorials and roots of negative numbers are left alone
MAX_ALONE = 8  # questions of a step that are asked one by one
_LIMITS = Limits(time_limit_s=4.0, memory_limit_mb=1024)
_STATES = {"true": State.SUPPORTED, "false": State.REFUTED, "unknown": State.ABSTAIN}
_IDENTITY = re.compile(
    r"\b(?:simplif\w+|expand\w*|expansion|factor\w*|rewrit\w+|combin\w+|distribut\w+|FOIL|becomes|multiply(?:ing)? out|collect\w*|cancel\w*)\b", re.I
)
_EQUATION = re.compile(r"\b(?:equations?|solv\w+|both sides|set|equate|equating|satisf\w+|when|if|system|condition|constraint)\b", re.I)
_NOT_NUMBERS = re.compile(
    r"matri|vector|\\mathbf|\\vec|\\overrightarrow|pmatrix|bmatrix|\bset\b|\\cup|\\cap|modul|\\pmod|operation|digit|\bbase\b"
    r"|\boverline|\\overline",
    re.I,
)
_PUT_UP = re.compile(  # for equations: what HYPOTHESIS has, less what speaks of solving them
    r"\b(?:if|whether|suppos\w+|assum\w+|imagine|guess|verify|unless|instead of|rather than"
    r"|not|never|incorrect\w*|wrong\w*|mistake\w*|claims?|should|would have)\b|n't\b",
    re.I,
)
_TRIED = re.compile(r"\bplug|\bcheck|\bverif|\btry|\btest|\bsubstitut", re.I)
_PIECES = re.compile(r"cases|piecewise|\bif\b.*\bif\b|recursi|periodic|inverse", re.I | re.S)
_BOUND_BY_WORDS = re.compile(r"\broots?\b|\bzeros?\b|\bsolutions?\b|satisf", re.I)
_GREEK = re.compile(r"[α-ω]")
_OPEN = frozenset({"abs", "floor", "ceiling", "sqrt", "root", "log", "ln", "logb", "asin", "acos", "atan", "factorial", "binomial", "gcd", "lcm", "degree"})
_TAKEN_BACK = re.compile(
    r"contradict|impossib|incorrect|\bfalse\b|mistake|no solution|invalid"
    r"|not (?:true|equal|possible|valid|an? )|does(?: not|n't)|extraneous|≠|\\neq?(?![a-z])",
    re.I,
)


@dataclass(frozen=True)
class Question:
    """What is asked of a worker about a claim; `kind` is what a refutation means."""

    claim: Claim
    kind: str
    ask: dict[str, Any]
    caution: str = ""  # why it may not be refuted


@dataclass(frozen=True)
class Algebra:
    """`tools:algebra`: constants with roots, logarithms, powers and functions; identities; values and derivatives of defined functions; equations against
    those of the problem; remainders, divisibility, primes and factorisations.

    Refuted are: false equalities and inequalities between constants (decimals only when far off); sides that differ by a constant; chains and
    rewritings of expressions in symbols that no equation binds, with a counterexample; values of functions against their one definition; equations
    that share no solution with those of the problem. Cases, hypotheses, other arithmetics and matrices are abstained from.
    """

    workers: int = 1
    pool: WorkerPool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", WorkerPool("stepward.rewards.algebra.worker:decide", workers=self.workers, limits=_LIMITS, work="algebra"))

    @property
    def name(self) -> str:
        return NAME

    @property
    def fingerprint(self) -> str:
        return f"{NAME}/{VERSION}"

    def reads(self, context: StepContext) -> bool:
        """Whether there is a relation or a word of number theory."""
        return re.search(r"[=<>≈≡≤≥≠]|\\(?:leq?|geq?|neq?|approx|equiv|p?mod)|\bmod\b|divisible|remainder|\bprime\b|multiple|square", context.text) is not None

    async def verify(self, context: StepContext) -> list[Verdict]:
        verdicts = check_integers(context.text)
        if foreign := OTHER_ARITHMETIC.search(context.problem) or _NOT_NUMBERS.search(context.problem):
            return [*verdicts, _unread(f"the problem may mean another arithmetic ({foreign[0].strip()[:20]!r})")]
        if OTHER_ARITHMETIC.search(context.text) or _NOT_NUMBERS.search(context.text):
            return verdicts
        questions = list(ask(context))
        if not questions:
            return verdicts
        answers = await self._answers(questions)
        return sorted([*verdicts, *map(_verdict, questions, answers)], key=lambda verdict: verdict.span)

    async def _answers(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """One answer a question, in one call; where that is too much for the worker, the first few one by one."""
        reply = await self.pool.call({"questions": [question.ask for question in questions]})
        if FAILED not in reply:
            return list(reply["answers"])
        unknown = {"state": "unknown", "reason": str(reply[FAILED])}
        if len(questions) == 1:
            return [unknown]
        alone = [(await self._answers([question]))[0] for question in questions[:MAX_ALONE]]
        return alone + [unknown] * (len(questions) - len(alone))


def ask(context: StepContext) -> Iterator[Question]:
    """The questions that a step's claims raise."""
    before = [context.problem, *(step.text for step in context.before)]
    functions = definitions([*before, context.text])
    equations = given(context.problem)
    tied = bound(before) | {symbol for equation in equations for symbol in equation.symbols}
    known = {symbol for equation in equations for symbol in equation.symbols}
    for claim in extract(context.text):
        caution = _caution(context.text, claim)
        if not claim.symbols and not caution and _TRIED.search("".join(step.text for step in context.before[-1:]) + context.text[: claim.span[0]]):
            caution = "both sides may come from trying a value"
        left, right = claim.left.tree, claim.right.tree
        if not claim.symbols:
            yield from _constant(claim, caution)
            continue
        if claim.relation != "=" or claim.flags & {"percent", "name"}:
            continue
        valued = _function(context, claim, functions, caution)
        if valued is not None:
            yield valued
            continue
        if defined(claim) is not None:
            continue
        if _is_identity(claim):
            why = caution or ("bound elsewhere" if claim.symbols & (tied | bound([context.text])) else "")
            if {"i", "e", "ω", "j"} & claim.symbols or (set(functions_of(left)) | set(functions_of(right))) & _OPEN:
                why = why or "complex numbers or a function with branches"
            if any(_GREEK.match(symbol) for symbol in claim.symbols) or _BOUND_BY_WORDS.search(context.text):
                why = why or "bound elsewhere"
            yield Question(claim, "identity", {"ask": "identity", "left": left, "right": right}, why)
        if equations and claim.symbols <= known and not has_decimals(left) and not has_decimals(right) and len(equations) <= MAX_GIVEN:
            if claim.conditional or (set(functions_of(left)) | set(functions_of(right))) - {"call"} or {"i", "e"} & claim.symbols:
                continue
            pairs = [(equation.left.tree, equation.right.tree) for equation in equations]
            yield Question(claim, "contradicts the problem", {"ask": "consistent", "left": left, "right": right, "given": pairs}, caution)


def _constant(claim: Claim, caution: str) -> Iterator[Question]:
    functions = set(functions_of(claim.left.tree)) | set(functions_of(claim.right.tree))
    bare = claim.left.tree[0] == "n" and claim.right.tree[0] == "n"
    if claim.relation not in "=≈<>≤≥≠" or (bare and claim.relation == "="):
        return
    why = caution or ("units or percent" if claim.flags & {"unit", "percent"} else "") or ("a single number on the left" if claim.left.tree[0] == "n" else "")
    if "degree" in functions and not functions & {"sin", "cos", "tan"}:
        why = why or "degrees"
    if functions & {"sin", "cos", "tan"} and "degree" not in functions and "π" not in claim.text and "pi" not in claim.text:
        why = why or "degrees or radians"
    if functions & {"gcd"}:
        why = why or "letters"
    ask = {"ask": "constant", "left": claim.left.tree, "right": claim.right.tree, "relation": claim.relation, "log": "log" in claim.flags}
    yield Question(claim, "equality" if claim.relation in "=≈" else "inequality", ask, why)


def _function(context: StepContext, claim: Claim, functions: dict[str, Any], caution: str) -> Question | None:
    """The question about f(a) = b or f'(x) = b, where f is defined."""
    left = claim.left.tree
    if claim.link or left[0] != "f" or left[1] != "call":
        return None
    name, at = left[2], left[3]
    definition = functions.get(name.rstrip("'"))
    if definition is None:
        return None
    if any("(" in symbol for symbol in symbols_of(at)):
        return None
    if set(symbols_of(definition.of)) - {definition.by} != claim.right.symbols - set(symbols_of(at)) or _PIECES.search(context.problem):
        return None  # constants that are found later, or a formula for a part of the values
    if order := name.count("'"):
        if at != ["s", definition.by]:
            return None
        return Question(
            claim, "derivative", {"ask": "derivative", "of": definition.of, "by": definition.by, "order": order, "right": claim.right.tree}, caution
        )
    if at == ["s", definition.by]:
        return None
    return Question(claim, "substitution", {"ask": "evaluation", "of": definition.of, "by": definition.by, "at": at, "right": claim.right.tree}, caution)


def _is_identity(claim: Claim) -> bool:
    """Whether the equality rewrites an expression: a later link of a chain, or said so; not an equation that is posed."""
    if "diff" in set(functions_of(claim.left.tree)):
        return True
    if claim.left.symbols != claim.right.symbols or claim.left.tree[0] in "ns":
        return False
    if _EQUATION.search(claim.before[-60:]) or claim.conditional:
        return False
    return claim.link > 0 or _IDENTITY.search(claim.before[-60:]) is not None


def _caution(text: str, claim: Claim) -> str:
    end = claim.span[1]
    if cue := (_PUT_UP if claim.symbols else HYPOTHESIS).search(claim.before[-80:]):
        return f"put up for inspection ({cue[0]!r})"
    if cue := (DENIAL if not claim.symbols else _TAKEN_BACK).search(text, end, end + 120):
        return f"taken back or qualified ({cue[0]!r})"
    if claim.conditional:
        return "a case"
    return ""


def _verdict(question: Question, answer: dict[str, Any]) -> Verdict:
    claim = question.claim
    state = _STATES[answer["state"]]
    reason = {State.SUPPORTED: "holds", State.REFUTED: "does not hold", State.ABSTAIN: str(answer.get("reason", "not decided"))}[state]
    caution = question.caution
    if state is State.REFUTED and question.kind == "equality" and not caution:
        if claim.relation == "≈" or has_decimals(claim.left.tree) or has_decimals(claim.right.tree):
            caution = "" if answer.get("gap", 0.0) > 0.5 else "how near is near enough is not said"
        elif answer.get("whole"):
            caution = "rounded or cut off to a whole number"
    if question.kind == "identity" and answer.get("constant") and caution == "bound elsewhere":
        caution = ""  # no values of the symbols make up for a constant
    if state is State.REFUTED and question.kind == "identity" and not answer.get("constant") and not answer.get("rational"):
        caution = caution or "a counterexample outside rational functions"
    if state is State.REFUTED and caution:
        state, reason = State.ABSTAIN, caution
    evidence = {name: value for name, value in answer.items() if name in ("left", "right", "difference", "counterexample", "value", "reason")}
    return Verdict(state=state, verifier=NAME, kind=question.kind, text=claim.text, span=claim.span, reason=reason, evidence=evidence)


def _unread(reason: str) -> Verdict:
    return Verdict(state=State.ABSTAIN, verifier=NAME, kind="equality", text="", span=(0, 0), reason=reason)
