"""An independent judge of entailment for the deduction tests: z3 on quantified formulas over one unary predicate a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from stepward.environments.deduction import Statement

z3 = pytest.importorskip("z3")


class Logic:
    """Statements as first-order formulas: no clauses, no grounding, no code of ours."""

    def __init__(self) -> None:
        self.things = z3.DeclareSort("Thing")
        self.x = z3.Const("x", self.things)
        self.predicates: dict[str, Any] = {}
        self.solver = z3.Solver()

    def holds(self, word: str, thing: Any) -> Any:
        if word not in self.predicates:
            self.predicates[word] = z3.Function(word, self.things, z3.BoolSort())
        return self.predicates[word](thing)

    def formula(self, statement: Statement) -> Any:
        thing = z3.Const(statement.who, self.things) if statement.who else self.x
        parts = [self.holds(word, thing) if positive else z3.Not(self.holds(word, thing)) for word, positive in sorted(statement.literals)]
        return z3.Or(*parts) if statement.who else z3.ForAll([self.x], z3.Or(*parts))

    def consistent(self, statements: Iterable[Statement]) -> bool:
        return self._satisfiable(map(self.formula, statements))

    def entails(self, premises: Iterable[Statement], conclusion: Statement) -> bool:
        return not self._satisfiable([*map(self.formula, premises), z3.Not(self.formula(conclusion))])

    def _satisfiable(self, formulas: Iterable[Any]) -> bool:
        self.solver.push()
        self.solver.add(*formulas)
        found = self.solver.check()
        self.solver.pop()
        assert found != z3.unknown, "z3 decides this fragment"
        return bool(found == z3.sat)
