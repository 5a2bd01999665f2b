"""Notation: formulas in symbols, ∀x (A(x) → ¬B(x)), p & (q -> r), read by recursive descent. English is read elsewhere; nothing is evaluated."""

from __future__ import annotations

import re

from stepward.rewards.logic.formula import Atom, Every, Formula, Join, JoinKind, Not, Some, constants

MAX_TEXT = 4000
_MAX_DEPTH = 60
_TOKENS = re.compile(
    r"\s*(?:(?P<quantifier>[∀∃]|\\forall\b|\\exists\b|\bforall\b|\bexists\b)|(?P<iff><->|<=>|⟷|↔|⇔|⟺|≡|\\leftrightarrow\b|\\iff\b|\biff\b)"
    r"|(?P<implies>->|=>|→|⇒|⟶|⊃|\\to\b|\\rightarrow\b|\\implies\b|\bimplies\b)|(?P<xor>⊕|⊻|\\oplus\b|\bxor\b|\bXOR\b)"
    r"|(?P<and>∧|&&|&|/\\|\\land\b|\\wedge\b|\band\b|\bAND\b)|(?P<or>∨|\|\||\||\\/|\\lor\b|\\vee\b|\bor\b|\bOR\b)"
    r"|(?P<not>¬|~|!|\\neg\b|\\lnot\b|\bnot\b|\bNOT\b)|(?P<mark>[(),.:\[\]])|(?P<name>[^\W_][\w’'.]*[\w’']|[^\W_]))"
)
_SYMBOL = re.compile(r"[∀∃¬∧∨→↔⊕⇒⇔⟶⟷⊃≡~&|]|->|=>|\\(?:forall|exists|neg|lnot|land|lor|wedge|vee|to|rightarrow|implies|oplus)\b|\b\w+ ?\([\w, .’]+\)")
_DOT = re.compile(r"([∀∃]\s*\w+|\b(?:forall|exists)\s+\w+)\s*\.\s*")
_VARIABLE = re.compile(r"[u-z]\d?\Z")


def looks_formal(text: str) -> bool:
    """Whether the text holds a logical symbol or a predicate with arguments."""
    return _SYMBOL.search(text) is not None


def without_dots(text: str) -> str:
    """The text with the dot behind a quantifier taken away, in place, so that no sentence ends there."""
    return _DOT.sub(lambda found: found[0].replace(".", " "), text)


def read_formula(text: str) -> Formula | None:
    """The formula that the whole text is; None where it is none, is ambiguous (⊕ mixed with ∧ or ∨ or chained, without brackets), or has free variables.

    ¬ binds first, then ∧, ∨, ⊕, →, ↔; → groups to the right; a quantifier reaches over the bracket, negation or atom that follows it, and
    over everything that follows a dot or colon.
    """
    tokens = _tokens(text)
    if tokens is None:
        return None
    try:
        reader = _Reader(tokens)
        formula = reader.iff()
    except _NoFormula:
        return None
    if reader.at < len(tokens) or any(_VARIABLE.match(term) for term in constants(formula)):
        return None
    return formula


class _NoFormula(Exception):
    pass


def _tokens(text: str) -> list[tuple[str, str]] | None:
    if len(text) > MAX_TEXT:
        return None
    text, found, at = text.strip(), [], 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None or match.lastgroup is None:
            return None
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found or None


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def value(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, value: str) -> bool:
        found = self.value() == value and self.kind() == "mark"
        self.at += found
        return found

    def iff(self) -> Formula:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NoFormula
        left = self.implication()
        while self.kind() == "iff":
            self.at += 1
            left = Join("iff", (left, self.implication()))
        self.depth -= 1
        return left

    def implication(self) -> Formula:
        parts = [self.exclusive()]
        while self.kind() == "implies":
            self.at += 1
            parts.append(self.exclusive())
        made = parts.pop()
        while parts:
            made = Join("implies", (parts.pop(), made))
        return made

    def exclusive(self) -> Formula:
        left, bare = self.chain("or")
        if self.kind() != "xor":
            return left
        self.at += 1
        right, bare_too = self.chain("or")
        if not (bare and bare_too) or self.kind() == "xor":
            raise _NoFormula
        return Join("xor", (left, right))

    def chain(self, kind: JoinKind) -> tuple[Formula, bool]:
        """A run of ∨ of runs of ∧, and whether it is a single piece."""
        parts, bare = [], True
        while True:
            if kind == "or":
                part, single = self.chain("and")
                bare = bare and single
            else:
                part = self.negation()
            parts.append(part)
            if self.kind() != kind:
                break
            self.at += 1
        return (parts[0], bare) if len(parts) == 1 else (Join(kind, tuple(parts)), False)

    def negation(self) -> Formula:
        kind, value = self.kind(), self.value()
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NoFormula
        try:
            if kind == "not":
                self.at += 1
                return Not(self.negation())
            if kind == "quantifier":
                return self.quantified(value)
            for opening, closing in (("(", ")"), ("[", "]")):
                if self.take(opening):
                    inner = self.iff()
                    if not self.take(closing):
                        raise _NoFormula
                    return inner
            return self.atom()
        finally:
            self.depth -= 1

    def quantified(self, sign: str) -> Formula:
        made = Every if sign.strip("\\") in ("∀", "forall") else Some
        self.at += 1
        variables: list[str] = []
        while self.kind() == "name" and (not variables or _VARIABLE.match(self.value())):
            variables.append(self.value())
            self.at += 1
            self.take(",")
        if not variables:
            raise _NoFormula
        body = self.iff() if self.take(".") or self.take(":") else self.negation()
        for variable in reversed(variables):
            body = made(variable, body)
        return body

    def atom(self) -> Atom:
        if self.kind() != "name":
            raise _NoFormula
        name = self.value()
        self.at += 1
        if not self.take("("):
            return Atom(name)
        terms = []
        while self.kind() == "name":
            terms.append(self.value())
            self.at += 1
            if self.take(")"):
                return Atom(name, tuple(terms))
            if not self.take(","):
                break
        raise _NoFormula
