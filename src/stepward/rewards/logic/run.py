"""The worker's task: decide the claims of a deduction's steps, each from the problem and from the steps before it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stepward.core.record import canonical_json
from stepward.rewards.logic.formula import Atom, Every, Formula, Join, Some, atoms, both, constants, doubted, from_json, opposite, reading, rescoped, show
from stepward.rewards.logic.ground import NotGround, normal
from stepward.rewards.logic.prover import MADE_UP, NEW, Prover
from stepward.rewards.logic.theory import symbols

SUPPORTED, REFUTED, ABSTAIN = "supported", "refuted", "abstain"
_KEPT = 256  # prefixes that are remembered
_KEPT_PROVERS = 16
_SHOWN = 12
_NEAR = 6

_known: OrderedDict[str, tuple[State, list[dict[str, Any]]]] = OrderedDict()
_provers: OrderedDict[str, Prover] = OrderedDict()


@dataclass(frozen=True)
class Stated:
    """Something that an earlier step states; `sure`: it follows from the problem."""

    text: str
    formula: Formula
    sure: bool


@dataclass(frozen=True)
class State:
    """What the steps so far leave behind: statements that were not refuted, refuted ones, and whether anything may have been supposed or said unread."""

    stated: tuple[Stated, ...] = ()
    refuted: tuple[Formula, ...] = ()
    assumed: bool = False
    unread: bool = False


@dataclass(frozen=True)
class Given:
    """The problem. `closed`: nothing but what it says and entails may be stated."""

    texts: tuple[str, ...]
    formulas: tuple[Formula, ...]
    closed: bool
    symbols: frozenset[str]
    weak: tuple[Formula, ...] = field(init=False)
    strong: tuple[Formula, ...] = field(init=False)
    strongest: tuple[Formula, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weak", tuple(reading(formula, weak=True) for formula in self.formulas))
        composed = _composed(self.symbols)
        object.__setattr__(self, "strong", (*(reading(formula, weak=False) for formula in self.formulas), *composed))
        object.__setattr__(self, "strongest", (*(reading(doubted(formula), weak=False) for formula in self.formulas), *composed))

    def possible(self, prover: Prover) -> tuple[Formula, ...]:
        """The strongest reading under which the problem does not contradict itself, as far as is tried."""
        return self.strongest if prover.holds(*self.strongest) == "sat" else self.strong


def prepare() -> None:
    """Load z3 before any limit runs."""
    import z3

    z3.Solver().check()


def check(request: dict[str, Any]) -> dict[str, Any]:
    """{premises: [[text, formula]], symbols, closed, steps: [[claim]], timeout_ms} gives {results}: one a claim of the last step.

    A claim is {kind, formula, text, cited}; a result {state, kind, reason, exact, evidence}.
    """
    premises = [(text, from_json(data)) for text, data in request["premises"]]
    given = Given(tuple(text for text, _ in premises), tuple(formula for _, formula in premises), bool(request["closed"]), frozenset(request["symbols"]))
    head = canonical_json([request["premises"], request["symbols"], request["closed"], request["timeout_ms"]])
    prover, state = _prover(head, int(request["timeout_ms"])), State()
    results: list[dict[str, Any]] = []
    steps = request["steps"]
    begin = 0
    for done in range(len(steps), 0, -1):
        key = head + canonical_json(steps[:done])
        if key in _known:
            _known.move_to_end(key)
            (state, results), begin = _known[key], done
            break
    for place in range(begin, len(steps)):
        state, results = _step(prover, given, state, steps[place])
        _known[head + canonical_json(steps[: place + 1])] = state, results
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return {"results": results}


def _prover(problem: str, timeout_ms: int) -> Prover:
    """The solver of a problem, kept for the next call."""
    if problem not in _provers:
        _provers[problem] = Prover(timeout_ms)
        while len(_provers) > _KEPT_PROVERS:
            _provers.popitem(last=False)
    _provers.move_to_end(problem)
    return _provers[problem]


def _step(prover: Prover, given: Given, state: State, claims: Sequence[dict[str, Any]]) -> tuple[State, list[dict[str, Any]]]:
    results = []
    for claim in claims:
        try:
            state, result = _claim(prover, given, state, claim)
        except NotGround as error:
            state, result = replace(state, unread=True), _result(ABSTAIN, claim["kind"], str(error))
        results.append(result)
    return state, results


def _claim(prover: Prover, given: Given, state: State, claim: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    kind, data = claim["kind"], claim["formula"]
    if kind == "assumption":
        return replace(state, assumed=True), _result(ABSTAIN, kind, "something is supposed")
    if data is None:
        return replace(state, unread=state.unread or kind == "unread"), _result(ABSTAIN, kind, "not read")
    formula = from_json(data)
    consistent = prover.holds(*given.weak)
    if consistent != "sat":
        return state, _result(ABSTAIN, kind, "the problem contradicts itself" if consistent == "unsat" else consistent)
    if kind == "unknown":
        return state, _unknown(prover, given, formula)
    if kind == "retraction":
        kept = tuple(one for one in state.stated if one.formula != formula)
        return replace(state, stated=kept), _retraction(prover, given, state, formula)
    result = _decide(prover, given, state, formula, kind)
    if result["state"] == SUPPORTED and claim["cited"]:
        result = _cited(prover, result, formula, [from_json(one) for one in claim["cited"]])
    if kind == "verdict" or (state.assumed and result["state"] != SUPPORTED):
        return state, result
    if result["state"] == REFUTED and result["exact"]:
        return replace(state, refuted=(*state.refuted, formula)), result
    sure = result.get("sure", result["state"] == SUPPORTED)
    return replace(state, stated=(*state.stated, Stated(claim["text"], formula, sure))), result


def _decide(prover: Prover, given: Given, state: State, formula: Formula, kind: str) -> dict[str, Any]:
    """SUPPORTED when it follows, REFUTED when it cannot hold, or does not follow where everything that may be stated does; ABSTAIN otherwise."""
    weak, strong = reading(rescoped(formula), weak=True), reading(formula, weak=False)
    sure = [one for one in state.stated if one.sure]
    texts = [*given.texts, *(one.text for one in sure)]
    base = [*given.weak, *(reading(one.formula, weak=True) for one in sure)]
    follows = prover.entails(base, strong)
    if follows == "unsat":
        first = max(len(given.texts), len(base) - _NEAR)  # the last steps alone, where they are enough
        core = [first + place for place in prover.core(base[first:], strong)] or prover.core(base, strong)
        return _result(SUPPORTED, kind, "follows", formula=show(formula), premises=[texts[place] for place in core])
    clashes = _try(prover, base, opposite(weak))
    if clashes == "unsat" and not state.assumed:
        core = prover.core(base, opposite(weak))
        return _result(REFUTED, "contradiction", "cannot hold together with the premises", formula=show(formula), premises=[texts[place] for place in core])
    told = [one for one in state.stated if not one.sure]
    if told:
        more, said = [*base, *(reading(one.formula, weak=True) for one in told)], [*texts, *(one.text for one in told)]
        if prover.holds(*more) == "sat":
            if prover.entails(more, strong) == "unsat":
                core = prover.core(more, strong)
                return _result(SUPPORTED, kind, "follows from earlier steps", sure=False, formula=show(formula), premises=[said[place] for place in core])
            if _try(prover, more, opposite(weak)) == "unsat" and not state.assumed:
                core = prover.core(more, opposite(weak))
                reason = "cannot hold together with earlier steps"
                return _result(REFUTED, "contradiction", reason, exact=False, formula=show(formula), premises=[said[place] for place in core])
    if follows != "sat" or clashes.startswith("unknown"):
        return _result(ABSTAIN, kind, follows if follows != "sat" else clashes)
    return _not_entailed(prover, given, state, formula, weak, kind)


def _not_entailed(prover: Prover, given: Given, state: State, formula: Formula, weak: Formula, kind: str) -> dict[str, Any]:
    """What neither follows nor clashes: refuted only where nothing could be missing from what was read."""
    strange = symbols(formula) - given.symbols
    why = (
        "something was supposed"
        if state.assumed
        else "the problem is not closed, or not all of it was read"
        if not given.closed
        else "an earlier step was not read"
        if state.unread
        else f"the problem does not speak of {', '.join(sorted(strange))}"
        if strange
        else ""
    )
    if why:
        return _result(ABSTAIN, kind, f"neither follows nor clashes ({why})")
    strong = [*given.possible(prover), *(reading(one.formula, weak=False) for one in state.stated)]
    if prover.entails(strong, weak) != "sat":
        return _result(ABSTAIN, kind, "follows under another reading of the problem")
    if any(name.startswith(NEW) for name in constants(normal(weak, NEW))):  # it says that something exists: as the things may that the problem speaks of
        strong += [Some("x", Atom(name, ("x",))) for name in sorted({atom.name for one in given.formulas for atom in atoms(one) if len(atom.terms) == 1})]
    alone = Prover(prover.timeout_ms)  # so that the counterexample does not depend on what was asked before
    if alone.entails(strong, weak) != "sat":
        return _result(ABSTAIN, kind, "follows under another reading of the problem")
    who = set(constants(formula)) or {MADE_UP}
    if any(_follows_from(prover, reading(one, weak=False), strong, weak) for one in state.refuted):
        return _result(ABSTAIN, kind, "would follow from a refuted step")
    counter = [atom.replace(MADE_UP, "something") for atom in alone.model() if any(re.search(rf"[(,] ?{re.escape(name)}[),]", atom) for name in who)]
    return _result(REFUTED, "not entailed", "neither stated nor entailed", formula=show(formula), counterexample=counter[:_SHOWN])


def _follows_from(prover: Prover, refuted: Formula, premises: Sequence[Formula], conclusion: Formula) -> bool:
    """Whether the conclusion follows from a refuted statement and as many of the premises, from the last one back, as can hold together with it."""
    kept = [refuted]
    for premise in reversed(premises):
        if prover.holds(*kept, premise) == "sat":
            kept.append(premise)
    return prover.holds(refuted) == "sat" and prover.entails(kept, conclusion) == "unsat"


def _cited(prover: Prover, result: dict[str, Any], formula: Formula, cited: list[Formula]) -> dict[str, Any]:
    """A conclusion that follows from the problem, beside the reasons that are given for it."""
    if prover.entails([reading(one, weak=True) for one in cited], reading(formula, weak=False)) == "unsat":
        return result
    return result | {"state": REFUTED, "exact": False, "kind": "missing premise", "reason": "follows, but not from the reasons that are given", "sure": True}


def _unknown(prover: Prover, given: Given, formula: Formula) -> dict[str, Any]:
    """That a statement is neither true nor false."""
    for one, word in ((formula, "true"), (opposite(formula), "false")):
        if prover.entails(given.weak, reading(one, weak=False)) == "unsat":
            core = prover.core(given.weak, reading(one, weak=False))
            return _result(REFUTED, "decided", f"the statement is {word}", formula=show(formula), premises=[given.texts[place] for place in core])
    if not given.closed:
        return _result(ABSTAIN, "unknown", "the problem is not closed, or not all of it was read")
    open_both = [prover.entails(given.possible(prover), reading(one, weak=True)) for one in (formula, opposite(formula))]
    if open_both == ["sat", "sat"]:
        return _result(SUPPORTED, "unknown", "neither it nor its opposite follows", formula=show(formula))
    return _result(ABSTAIN, "unknown", "decided under another reading")


def _retraction(prover: Prover, given: Given, state: State, formula: Formula) -> dict[str, Any]:
    if prover.entails(given.weak, reading(formula, weak=False)) == "unsat":
        core = prover.core(given.weak, reading(formula, weak=False))
        return _result(REFUTED, "retraction", "it does follow", formula=show(formula), premises=[given.texts[place] for place in core])
    if given.closed and not state.assumed and prover.entails(given.possible(prover), reading(formula, weak=True)) == "sat":
        return _result(SUPPORTED, "retraction", "it does not follow", formula=show(formula))
    return _result(ABSTAIN, "retraction", "whether it follows could not be decided")


def _try(prover: Prover, premises: Sequence[Formula], conclusion: Formula) -> str:
    try:
        return prover.entails(premises, conclusion)
    except NotGround as error:
        return f"unknown: {error}"


def _composed(names: frozenset[str]) -> list[Formula]:
    """For the strongest reading of phrases: a "prime number" is a number and prime, where the problem speaks of numbers or of what is prime; "the cat" is
    a cat."""
    found: list[Formula] = [Atom(name.removeprefix("the "), (name,)) for name in sorted(names) if name.removeprefix("the ") != name]
    for phrase in sorted(name for name in names if " " in name and not name.startswith("the ")):
        first, _, rest = phrase.partition(" ")
        parts = [Atom(part, ("x",)) for part in (first, rest) if part in names]
        if parts:
            whole: Formula = Atom(phrase, ("x",))
            found.append(Every("x", Join("iff" if len(parts) == 2 else "implies", (whole, both(*parts)))))
    return found


def _result(state: str, kind: str, reason: str, *, exact: bool = True, sure: bool | None = None, **evidence: Any) -> dict[str, Any]:
    made = {"state": state, "kind": kind, "reason": reason, "exact": exact, "evidence": evidence}
    return made if sure is None else made | {"sure": sure}
