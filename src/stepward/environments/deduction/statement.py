"""Statement: what a sentence of a problem or step says, as a clause; and its one wording in steps. Knows no problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stepward.environments.deduction.lexicon import KINDS

Literal = tuple[str, bool]  # a kind or quality, and whether it holds

_KINDS = frozenset(KINDS)


class Statement(NamedTuple):
    """A disjunction of literals about one individual, or, with `who` empty, about everything.

    "Rex is red" is ("Rex", {red}); "Rex is red or big" is ("Rex", {red, big}); "every wumpus is red" is ("", {not wumpus, red}), and so is its
    contrapositive.
    """

    who: str
    literals: frozenset[Literal]

    @property
    def opposite(self) -> Statement | None:
        """The negation of a statement of one literal about an individual; None for others, whose negation is no statement."""
        if not self.who or len(self.literals) != 1:
            return None
        ((word, holds),) = self.literals
        return Statement(self.who, frozenset({(word, not holds)}))


def ground(who: str, *literals: Literal) -> Statement:
    """A statement about an individual."""
    return Statement(who, frozenset(literals))


def negated(literal: Literal) -> Literal:
    return literal[0], not literal[1]


def phrase(literal: Literal) -> str:
    """ "a wumpus", "an impus", "red", "not red"."""
    word, holds = literal
    noun = f"{'an' if word[0] in 'aeiou' else 'a'} {word}" if word in _KINDS else word
    return noun if holds else f"not {noun}"


def is_kind(word: str) -> bool:
    return word in _KINDS


def fact_text(statement: Statement) -> str:
    """ "Rex is a wumpus", "Rex is big or red"."""
    return f"{statement.who} is {' or '.join(map(phrase, sorted(statement.literals, key=lambda literal: (not literal[1], literal))))}"


def rule_text(body: Sequence[Literal], head: Sequence[Literal]) -> str:
    """The wording of a rule within a step: "every wumpus is red", "no wumpus is red", "everything that is red and not big is a wumpus"."""
    if len(body) == 1 and is_kind(body[0][0]) and body[0][1]:
        if len(head) == 1 and not head[0][1]:
            return f"no {body[0][0]} is {phrase(negated(head[0]))}"
        return f"every {body[0][0]} is {' or '.join(map(phrase, head))}"
    return f"everything that is {' and '.join(map(phrase, body))} is {' or '.join(map(phrase, head))}"


def statement_text(statement: Statement) -> str:
    """Any statement in words that are read back as the same statement."""
    if statement.who:
        return fact_text(statement)
    literals = sorted(statement.literals)
    head = [literal for literal in literals if literal[1]] or literals[-1:]
    body = [negated(literal) for literal in literals if literal not in head]
    if not body and len(head) > 1:
        body, head = [negated(head[0])], head[1:]
    return rule_text(body, head)


def step_text(cited: Iterable[str], conclusion: Statement) -> str:
    """ "Since Rex is a wumpus and every wumpus is red, Rex is red."."""
    listed = list(cited)
    reasons = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return f"Since {reasons}, {fact_text(conclusion)}."
