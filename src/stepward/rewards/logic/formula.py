"""Formula: first-order formulas without functions or equality, as plain data. Reading text and deciding are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

JoinKind = Literal["and", "or", "xor", "implies", "iff", "either", "plain", "none"]
_SIGNS = {"and": "∧", "or": "∨", "xor": "⊕", "implies": "→", "iff": "↔", "either": "either-or", "plain": "or"}


@dataclass(frozen=True)
class Atom:
    """A predicate of terms; a term is a name, or a variable where a quantifier binds it. Without terms: a proposition."""

    name: str
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Not:
    body: Formula


@dataclass(frozen=True)
class Join:
    """Formulas joined; *implies*, *iff* and *xor* take two. *either*: "either A or B", which may or may not allow both;
    *plain*: an English "or", which literally does, though its writer may have meant otherwise (see `doubted`). *none*: behind "every ... is not ...",
    A and not B, though its writer may have meant "not every" (see `rescoped`)."""

    kind: JoinKind
    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Every:
    variable: str
    body: Formula


@dataclass(frozen=True)
class Some:
    variable: str
    body: Formula


Formula = Atom | Not | Join | Every | Some


def both(*parts: Formula) -> Formula:
    """The conjunction; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else Join("and", parts)


def any_of(*parts: Formula) -> Formula:
    """The disjunction; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else Join("or", parts)


def implies(condition: Formula, result: Formula) -> Formula:
    return Join("implies", (condition, result))


def opposite(formula: Formula) -> Formula:
    """The negation, without a double one."""
    return formula.body if isinstance(formula, Not) else Not(formula)


def atoms(formula: Formula) -> Iterator[Atom]:
    """Every atom, in the order of the text."""
    if isinstance(formula, Atom):
        yield formula
    elif isinstance(formula, Join):
        for part in formula.parts:
            yield from atoms(part)
    else:
        yield from atoms(formula.body)


def constants(formula: Formula, bound: frozenset[str] = frozenset()) -> Iterator[str]:
    """Every term that no quantifier binds."""
    if isinstance(formula, Atom):
        yield from (term for term in formula.terms if term not in bound)
    elif isinstance(formula, Join):
        for part in formula.parts:
            yield from constants(part, bound)
    else:
        yield from constants(formula.body, bound | {formula.variable} if isinstance(formula, Every | Some) else bound)


def reading(formula: Formula, *, weak: bool) -> Formula:
    """The weakest or the strongest of the readings that "either A or B" allows: both may hold, or only one. Elsewhere the formula itself."""
    if isinstance(formula, Atom):
        return formula
    if isinstance(formula, Not):
        return Not(reading(formula.body, weak=not weak))
    if isinstance(formula, Every):
        return Every(formula.variable, reading(formula.body, weak=weak))
    if isinstance(formula, Some):
        return Some(formula.variable, reading(formula.body, weak=weak))
    if formula.kind == "none":
        condition, result = formula.parts
        return reading(implies(condition, Not(result)), weak=weak)
    if formula.kind == "implies":
        condition, result = formula.parts
        return Join("implies", (reading(condition, weak=not weak), reading(result, weak=weak)))
    if formula.kind in ("iff", "xor") and any(is_ambiguous(part) for part in formula.parts):
        first, second = formula.parts
        return reading(Join("and", (implies(first, second), implies(second, first))) if formula.kind == "iff" else _exclusive(first, second), weak=weak)
    if formula.kind == "either":
        parts = tuple(reading(part, weak=weak) for part in formula.parts)
        if weak:
            return Join("or", parts)
        others = [opposite_both(formula.parts, first, second, weak) for first in range(len(parts)) for second in range(first)]
        return both(Join("or", parts), *others)
    return Join(formula.kind, tuple(reading(part, weak=weak) for part in formula.parts))


def doubted(formula: Formula) -> Formula:
    """With every English "or" as one that may not allow both."""
    if isinstance(formula, Atom):
        return formula
    if isinstance(formula, Join):
        return Join("either" if formula.kind == "plain" else formula.kind, tuple(map(doubted, formula.parts)))
    if isinstance(formula, Not):
        return Not(doubted(formula.body))
    return type(formula)(formula.variable, doubted(formula.body))


def rescoped(formula: Formula) -> Formula:
    """With "every A is not B" as "not every A is B"."""
    if isinstance(formula, Every) and isinstance(formula.body, Join) and formula.body.kind == "none":
        return Not(Every(formula.variable, Join("implies", formula.body.parts)))
    return Join(formula.kind, tuple(map(rescoped, formula.parts))) if isinstance(formula, Join) else formula


def opposite_both(parts: tuple[Formula, ...], first: int, second: int, weak: bool) -> Formula:
    """Not both of two parts, each read the other way round, since it is denied."""
    return Not(both(reading(parts[first], weak=not weak), reading(parts[second], weak=not weak)))


def is_ambiguous(formula: Formula) -> bool:
    """Whether an "either ... or" stands in it."""
    if isinstance(formula, Atom):
        return False
    if isinstance(formula, Join):
        return formula.kind == "either" or any(map(is_ambiguous, formula.parts))
    return is_ambiguous(formula.body)


def _exclusive(first: Formula, second: Formula) -> Formula:
    return any_of(both(first, opposite(second)), both(opposite(first), second))


def to_json(formula: Formula) -> list[Any]:
    """Nested lists, for the wire."""
    if isinstance(formula, Atom):
        return ["atom", formula.name, *formula.terms]
    if isinstance(formula, Not):
        return ["not", to_json(formula.body)]
    if isinstance(formula, Join):
        return [formula.kind, *map(to_json, formula.parts)]
    return ["every" if isinstance(formula, Every) else "some", formula.variable, to_json(formula.body)]


def from_json(data: list[Any]) -> Formula:
    kind, *rest = data
    if kind == "atom":
        return Atom(rest[0], tuple(rest[1:]))
    if kind == "not":
        return Not(from_json(rest[0]))
    if kind in ("every", "some"):
        return (Every if kind == "every" else Some)(rest[0], from_json(rest[1]))
    return Join(kind, tuple(map(from_json, rest)))


def show(formula: Formula) -> str:
    """The formula in symbols."""
    if isinstance(formula, Atom):
        return f"{formula.name}({', '.join(formula.terms)})" if formula.terms else formula.name
    if isinstance(formula, Not):
        return f"¬{show(formula.body)}" if isinstance(formula.body, Atom | Not) else f"¬({show(formula.body)})"
    if isinstance(formula, Join) and formula.kind == "none":
        return show(implies(formula.parts[0], Not(formula.parts[1])))
    if isinstance(formula, Join):
        shown = (show(part) if isinstance(part, Atom | Not) else f"({show(part)})" for part in formula.parts)
        return f" {_SIGNS[formula.kind]} ".join(shown)
    return f"{'∀' if isinstance(formula, Every) else '∃'}{formula.variable} ({show(formula.body)})"
