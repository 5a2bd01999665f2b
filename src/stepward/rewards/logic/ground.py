"""Ground: formulas without existential choices that depend on others become propositional ones over the individuals that are named.

By Herbrand's theorem universal formulas without functions and equality hold together exactly when their instances for all named individuals
(one made-up individual where none is named) do. Outer "there is" gets a name of its own. This is the fragment of Bernays and Schönfinkel; anything
outside it is refused. No solver here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from stepward.rewards.logic.formula import Atom, Every, Formula, Join, Not, Some, any_of, both, opposite

MAX_INSTANCES = 20_000


class NotGround(Exception):
    """The formula lies outside the fragment, or has too many instances."""


def normal(formula: Formula, name: str) -> Formula:
    """Equisatisfiable, with ∧, ∨, ∀ and negated atoms only; what "there is" speaks of is called `name`1, `name`2, ... Raises: NotGround."""
    return _normal(formula, True, {}, False, (f"{name}{number}" for number in count(1)))


def _normal(formula: Formula, holds: bool, terms: dict[str, str], universal: bool, names: Iterator[str]) -> Formula:
    if isinstance(formula, Atom):
        made = Atom(formula.name, tuple(terms.get(term, term) for term in formula.terms))
        return made if holds else Not(made)
    if isinstance(formula, Not):
        return _normal(formula.body, not holds, terms, universal, names)
    if isinstance(formula, Every | Some):
        if isinstance(formula, Every) == holds:
            inner = {key: value for key, value in terms.items() if key != formula.variable}
            return Every(formula.variable, _normal(formula.body, holds, inner, True, names))
        if universal:
            raise NotGround("there is something for each: outside the decidable fragment")
        return _normal(formula.body, holds, {**terms, formula.variable: next(names)}, universal, names)
    if formula.kind in ("and", "or", "either", "plain"):
        parts = tuple(_normal(part, holds, terms, universal, names) for part in formula.parts)
        return Join("and" if (formula.kind == "and") == holds else "or", parts)
    first, second = formula.parts
    plain = {
        "implies": any_of(opposite(first), second),
        "none": any_of(opposite(first), opposite(second)),
        "iff": any_of(both(first, second), both(opposite(first), opposite(second))),
        "xor": any_of(both(first, opposite(second)), both(opposite(first), second)),
    }[formula.kind]
    return _normal(plain, holds, terms, universal, names)


def instances(formula: Formula, domain: Sequence[str]) -> Formula:
    """A normal formula with each ∀ replaced by its instances. Raises: NotGround when they are too many."""
    return _instances(formula, domain, {}, iter(range(MAX_INSTANCES)))


def _instances(formula: Formula, domain: Sequence[str], terms: dict[str, str], budget: Iterator[int]) -> Formula:
    if next(budget, None) is None:
        raise NotGround(f"more than {MAX_INSTANCES} instances")
    if isinstance(formula, Atom):
        return Atom(formula.name, tuple(terms.get(term, term) for term in formula.terms))
    if isinstance(formula, Not):
        return Not(_instances(formula.body, domain, terms, budget))
    if isinstance(formula, Every):
        return Join("and", tuple(_instances(formula.body, domain, {**terms, formula.variable: one}, budget) for one in domain))
    assert isinstance(formula, Join)
    return Join(formula.kind, tuple(_instances(part, domain, terms, budget) for part in formula.parts))
