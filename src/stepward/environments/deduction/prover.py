"""Prover: exact entailment between statements. Knows clauses only, no English and no problem.

Every statement is a clause about one individual or about everything, without functions or equality. By Herbrand's theorem such a set of
clauses is satisfiable exactly when its instances for the individuals that it names (one made-up individual, where it names none) are; and as no
clause connects two individuals, each can be taken alone. What is left is propositional: forward chaining (unit propagation) draws every
conclusion that a single clause forces, contrapositives included, and where nothing is forced, an open clause is split into its cases. Splitting on every
open clause visits every way to satisfy the clauses (Davis, Logemann & Loveland, A machine program for theorem-proving, 1962), hence the
prover is complete: it says yes exactly when the conclusion holds in every world that satisfies the premises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from stepward.environments.deduction.statement import Literal, Statement, negated

Clause = frozenset[Literal]


def entails(premises: Iterable[Statement], conclusion: Statement) -> bool:
    """Whether the conclusion holds wherever all the premises hold; premises about other individuals cannot bear on it.

    Premises that contradict one another about the conclusion's individual entail everything: see `consistent`.
    """
    clauses = [premise.literals for premise in premises if not premise.who or premise.who == conclusion.who]
    return not _satisfiable(clauses, {negated(literal) for literal in conclusion.literals})


def consistent(premises: Sequence[Statement]) -> bool:
    """Whether all the premises can hold together."""
    rules = [premise.literals for premise in premises if not premise.who]
    return all(
        _satisfiable([*rules, *(premise.literals for premise in premises if premise.who == who)], set()) for who in {premise.who for premise in premises}
    )


def _satisfiable(clauses: Sequence[Clause], held: set[Literal]) -> bool:
    """Whether some assignment satisfies all clauses and the literals that are held. `held` is changed."""
    open_clauses = _propagate(clauses, held)
    if open_clauses is None:
        return False
    if not open_clauses:
        return True
    split = min(open_clauses, key=len)
    tried: set[Literal] = set()
    for literal in sorted(split):  # in case k the literals before k do not hold
        if _satisfiable(open_clauses, {*held, *map(negated, tried), literal}):
            return True
        tried.add(literal)
    return False


def _propagate(clauses: Sequence[Clause], held: set[Literal]) -> list[Clause] | None:
    """Add to `held` all that single clauses force; the clauses still open, less what cannot hold; None on a contradiction."""
    if any(negated(literal) in held for literal in held):
        return None
    while True:
        forced = False
        left: list[Clause] = []
        for clause in clauses:
            if not clause.isdisjoint(held):
                continue
            rest = [literal for literal in clause if (literal[0], not literal[1]) not in held]
            if not rest:
                return None
            if len(rest) == 1:
                held.add(rest[0])
                forced = True
            elif not any(negated(literal) in rest for literal in rest):  # "red or not red" says nothing
                left.append(frozenset(rest))
        clauses = left
        if not forced:
            return left


def forced(clauses: Sequence[Clause], held: Iterable[Literal], *, never: Collection[Literal] = ()) -> set[Literal]:
    """All literals that chaining reaches from `held`, what both cases of an open clause reach included, without ever using one of `never`.

    For consistent clauses. Unlike `entails` this follows ways of derivation: it tells what can be reached without passing through a literal.
    """
    reached = {literal for literal in held if literal not in never}
    while True:
        before = len(reached)
        reached |= _chain(clauses, reached, never)
        for clause in clauses:
            if clause.isdisjoint(reached):
                cases = [literal for literal in clause if negated(literal) not in reached]
                if 1 < len(cases) <= 3 and not any(case in never for case in cases):
                    reached |= set.intersection(*(_chain(clauses, reached | {case}, never) for case in cases))
        if len(reached) == before:
            return reached


def follows_through(clauses: Sequence[Clause], held: Collection[Literal], start: Literal) -> set[Literal]:
    """What chaining reaches from `start` with the help of `held`, by clauses that use `start` or what was so reached; `start` included.

    What both cases of an open clause reach counts too. A literal whose opposite was reached before is passed over. What is held may well contradict
    `start`: from a false start its false consequences are reached all the same.
    """
    through = _through(clauses, held, {start})
    while True:
        before = len(through)
        for clause in clauses:
            cases = [literal for literal in clause if negated(literal) not in through and negated(literal) not in held]
            if 1 < len(cases) <= 3 and through.isdisjoint(clause) and any(negated(literal) in through for literal in clause):
                through |= set.intersection(*(_through(clauses, held, through | {case}) for case in cases))
        if len(through) == before:
            return through
        through = _through(clauses, held, through)


def _through(clauses: Sequence[Clause], held: Collection[Literal], start: set[Literal]) -> set[Literal]:
    """What single clauses reach from `start` with the help of `held`."""
    through = set(start)
    while True:
        before = len(through)
        for clause in clauses:
            for new in clause:
                others = [negated(literal) for literal in clause if literal != new]
                if not through.isdisjoint(others) and all(other in through or other in held for other in others) and negated(new) not in through:
                    through.add(new)
        if len(through) == before:
            return through


def _chain(clauses: Sequence[Clause], held: set[Literal], never: Collection[Literal]) -> set[Literal]:
    """All that single clauses force from `held`, one after another; a contradiction stops nothing."""
    reached = set(held)
    while True:
        before = len(reached)
        for clause in clauses:
            if clause.isdisjoint(reached):
                rest = [literal for literal in clause if negated(literal) not in reached]
                if len(rest) == 1 and rest[0] not in never:
                    reached.add(rest[0])
        if len(reached) == before:
            return reached
