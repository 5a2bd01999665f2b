"""Context: what a step's formulas are judged against: the problem's equations, functions with a known formula, and symbols that are bound elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from stepward.rewards.algebra.claim import Claim, extract, functions_of
from stepward.rewards.algebra.parser import Tree

_CURVES = re.compile(
    r"\b(?:line|lines|graph|graphs|curve|parabola|hyperbola|circle|ellipse|plane|asymptotes?|slope|points?|intersects?|tangent|coordinate|axis|vertex|translat|shift|polynomials?)\b",
    re.I,
)
_CASE = re.compile(r"\b(?:if|or|case|suppose|assume|when|try)\b", re.I)
_DEFINES = re.compile(r"\b(?:let|define\w*|denote|consider|function|given)\b", re.I)
MAX_GIVEN = 4


@dataclass(frozen=True)
class Definition:
    """f(by) = of."""

    by: str
    of: Tree


@lru_cache(maxsize=256)
def given(problem: str) -> tuple[Claim, ...]:
    """Equations that the problem states about its unknowns; curves in a plane are left out, for another curve bears the same letters."""
    curves = _CURVES.search(problem) is not None
    found = []
    for claim in extract(problem):
        if claim.relation != "=" or not claim.symbols or defined(claim) is not None or claim.flags & {"name", "percent", "unit"}:
            continue
        if curves and claim.symbols <= {"x", "y", "z"}:
            continue
        if set(functions_of(claim.left.tree)) | set(functions_of(claim.right.tree)):
            continue
        found.append(claim)
    return tuple(found)


def defined(claim: Claim) -> tuple[str, Definition] | None:
    """The function that the claim defines: its left side is f(x) with a bare symbol."""
    left = claim.left.tree
    if claim.relation != "=" or claim.link or left[0] != "f" or left[1] != "call" or left[3][0] != "s" or "'" in left[2]:
        return None
    name, by = left[2], left[3][1]
    if by not in claim.right.symbols:
        return None  # an equation for x
    if any(symbol.startswith(f"{name}(") for symbol in claim.right.symbols) or any("(" in symbol for symbol in claim.right.symbols):
        return None
    return name, Definition(by, claim.right.tree)


def definitions(texts: Iterable[str]) -> dict[str, Definition]:
    """Functions that are defined once, or always alike: by the problem, which is the first text, or by later ones that say so ("let", "define")."""
    found: dict[str, Definition | None] = {}
    for index, text in enumerate(texts):
        for claim in extract(text):
            named = defined(claim)
            if named is not None and not _CASE.search(claim.before[-60:]) and (index == 0 or _DEFINES.search(claim.before[-60:])):
                name, definition = named
                found[name] = definition if found.get(name, definition) == definition else None
    return {name: definition for name, definition in found.items() if definition is not None}


def bound(texts: Iterable[str]) -> frozenset[str]:
    """Symbols about which these texts state an equation: they do not stand for all values."""
    return frozenset(
        symbol
        for text in texts
        for claim in extract(text)
        if claim.relation in "=≈" and claim.link == 0 and defined(claim) is None
        for symbol in _asserted(claim)
    )


def _asserted(claim: Claim) -> frozenset[str]:
    """The symbols that an equation binds; none where both sides hold the same ones, as identities do, and a fresh name for an expression binds itself."""
    if claim.left.tree[0] == "s" and claim.left.tree[1] not in claim.right.symbols and claim.right.symbols:
        return frozenset({claim.left.tree[1]})
    return claim.symbols if claim.left.symbols != claim.right.symbols else frozenset()
