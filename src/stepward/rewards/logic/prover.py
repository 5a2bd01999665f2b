"""Prover: what follows from tracked formulas, decided by z3 over the named individuals. Runs in a process that may be killed at any time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepward.core.record import content_hash
from stepward.rewards.logic.formula import Atom, Formula, Join, Not, constants, opposite, show
from stepward.rewards.logic.ground import NotGround, instances, normal

NEW = "§"  # begins the names of individuals that only a "there is" speaks of
MADE_UP = f"{NEW}1"
_SWITCH = "switch "  # no name of z3 own, and no atom
_RLIMIT = 2_000_000  # z3's own count of steps: the same on every machine


class Prover:
    """Asks z3 whether formulas can hold together. Formulas are added once and switched on by assumptions, so that one solver serves a whole solution."""

    def __init__(self, timeout_ms: int) -> None:
        import z3

        self._z3 = z3
        self.timeout_ms = timeout_ms
        self._domain: set[str] = {MADE_UP}
        self._start()

    def _start(self) -> None:
        self._solver = self._z3.SimpleSolver()
        self._solver.set("timeout", self.timeout_ms)
        self._solver.set("rlimit", _RLIMIT)
        self._switches: dict[Formula, Any] = {}
        self._denials: dict[Formula, Any] = {}

    def holds(self, *formulas: Formula) -> str:
        """Whether they can hold together: "sat", "unsat" or "unknown: ...". Raises: NotGround."""
        return self._check(formulas, ())

    def entails(self, premises: Sequence[Formula], conclusion: Formula) -> str:
        """ "unsat" when the conclusion follows, "sat" when it does not. Raises: NotGround."""
        return self._check(premises, (conclusion,))

    def _check(self, formulas: Sequence[Formula], denied: Sequence[Formula]) -> str:
        switches = self._switched(formulas, denied)  # first: a new name makes a new solver
        found = self._solver.check(*switches)
        return str(found) if found != self._z3.unknown else f"unknown: {self._solver.reason_unknown()}"

    def core(self, premises: Sequence[Formula], conclusion: Formula) -> list[int]:
        """Indices of premises from which the conclusion follows and of which none can be left out, the later ones where there is a choice; [] where it
        does not follow. What was asked before makes no difference (QuickXplain: preferred explanations for over-constrained problems, 2004)."""
        places = list(reversed(range(len(premises))))
        if self.entails(premises, conclusion) != "unsat":
            return []

        def needed(kept: list[int], fresh: bool, rest: list[int]) -> list[int]:
            if fresh and self.entails([premises[place] for place in kept], conclusion) == "unsat":
                return []
            if len(rest) <= 1:
                return rest
            first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
            late = needed([*kept, *first], bool(first), second)
            return [*needed([*kept, *late], bool(late), first), *late]

        return sorted(needed([], True, places))

    def model(self) -> list[str]:
        """The atoms that hold in the last satisfying assignment."""
        model = self._solver.model()
        return sorted(str(name) for name in model if self._z3.is_true(model[name]) and not str(name).startswith(_SWITCH))

    def _switched(self, formulas: Sequence[Formula], denied: Sequence[Formula]) -> list[Any]:
        named = {name for formula in (*formulas, *denied) for name in constants(formula)}
        made = [(formula, normal(formula, f"{NEW}{content_hash(show(formula))[:12]}_")) for formula in formulas if formula not in self._switches]
        made_denied = [(formula, normal(opposite(formula), NEW)) for formula in denied if formula not in self._denials]
        named |= {name for _, one in (*made, *made_denied) for name in constants(one)}
        if not named <= self._domain:
            self._domain |= named
            self._start()
            return self._switched(formulas, denied)
        for table, entries in ((self._switches, made), (self._denials, made_denied)):
            for formula, one in entries:
                if formula not in table:
                    switch = self._z3.Bool(f"{_SWITCH}{len(self._switches) + len(self._denials)}")
                    self._solver.add(self._z3.Implies(switch, self._expression(instances(one, sorted(self._domain)))))
                    table[formula] = switch
        return [self._switches[formula] for formula in dict.fromkeys(formulas)] + [self._denials[formula] for formula in denied]

    def _expression(self, formula: Formula) -> Any:
        if isinstance(formula, Atom):
            return self._z3.Bool(f"{formula.name}({', '.join(formula.terms)})" if formula.terms else formula.name)
        if isinstance(formula, Not):
            return self._z3.Not(self._expression(formula.body))
        if not isinstance(formula, Join):
            raise NotGround("a quantifier is left")
        return (self._z3.And if formula.kind == "and" else self._z3.Or)([self._expression(part) for part in formula.parts])
