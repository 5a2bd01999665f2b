"""World: the facts and rules of one problem, the question, and the derivations that answer it. No problem text here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stepward.core.errors import FormatError
from stepward.core.record import canonical_json, content_hash
from stepward.environments.deduction.lexicon import KINDS, NAMES, QUALITIES
from stepward.environments.deduction.statement import Literal, Statement, fact_text, negated, rule_text, step_text
from stepward.environments.grade_school.world import SPLITS

__all__ = ["SPLITS", "Node", "Rule", "World"]

_WORDS = frozenset((*KINDS, *QUALITIES))


@dataclass(frozen=True)
class Rule:
    """Whatever has all of `body` has one of `head`. The direction matters for the wording only."""

    body: tuple[Literal, ...]
    head: tuple[Literal, ...]

    @cached_property
    def statement(self) -> Statement:
        return Statement("", frozenset((*map(negated, self.body), *self.head)))

    @cached_property
    def text(self) -> str:
        """Within a step: "every wumpus is red"."""
        return rule_text(self.body, self.head)


@dataclass(frozen=True)
class Node:
    """One derivation: `conclusion` from the statements `premises` by the rules with indices `rules`.

    `spine`: on the line from the first fact to the question; others derive a condition that a rule of the line asks for.
    """

    conclusion: Statement
    premises: tuple[Statement, ...]
    rules: tuple[int, ...]
    spine: bool = True


@dataclass(frozen=True)
class World:
    """`facts` and `rules` are what the problem says, `question` the statement that is true or false.

    `plan`: derivations that settle the question, each after those that it rests on: the gold solution. `shadow`: derivations of the same
    form, place by place, that would settle it the other way, if only their first premise held. `extras`: right derivations that lead nowhere.
    """

    facts: tuple[Statement, ...]
    rules: tuple[Rule, ...]
    question: Statement
    plan: tuple[Node, ...]
    shadow: tuple[Node, ...]
    extras: tuple[Node, ...] = ()

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """Everything that the problem says."""
        return (*self.facts, *(rule.statement for rule in self.rules))

    @property
    def goal(self) -> Statement:
        """The question or its opposite, whichever holds."""
        return self.plan[-1].conclusion

    @property
    def answer(self) -> bool:
        """Whether the statement asked about is true."""
        return self.goal == self.question

    @cached_property
    def content(self) -> str:
        """Hash of the question and of everything that its gold derivation uses; not of wording, order or distractors."""
        given = set(self.facts)
        used = {canonical_json(_plain(premise)) for node in self.plan for premise in node.premises if premise in given}
        used |= {canonical_json(_plain(self.rules[index].statement)) for node in self.plan for index in node.rules}
        return content_hash("deduction world", canonical_json(_plain(self.question)), *sorted(used))

    @property
    def split(self) -> str:
        """The one split that this world may appear in: 8/10 of all worlds are train, 1/10 dev, 1/10 test, by `content`."""
        bucket = int(self.content[:8], 16) % 10
        return "train" if bucket < 8 else "dev" if bucket == 8 else "test"

    def text(self, node: Node, conclusion: Statement | None = None, premises: Sequence[Statement] | None = None) -> str:
        """The step of a derivation; another conclusion or other premises make it a wrong one."""
        cited = [*map(fact_text, node.premises if premises is None else premises), *(self.rules[index].text for index in node.rules)]
        return step_text(cited, conclusion or node.conclusion)

    def gold_steps(self) -> tuple[str, ...]:
        """The gold solution: one step for each derivation of the plan, then the verdict."""
        return (*(self.text(node) for node in self.plan), verdict_text(self.answer))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for `Problem.metadata`."""
        return {
            "facts": list(map(_plain, self.facts)),
            "rules": [[_literals(rule.body), _literals(rule.head)] for rule in self.rules],
            "question": _plain(self.question),
            "plan": list(map(_plain_node, self.plan)),
            "shadow": list(map(_plain_node, self.shadow)),
            "extras": list(map(_plain_node, self.extras)),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> World:
        """Raises: FormatError when the data is not a consistent world."""
        try:
            world = cls(
                tuple(map(_statement, data["facts"])),
                tuple(Rule(tuple(_read(body)), tuple(_read(head))) for body, head in data["rules"]),
                _statement(data["question"]),
                *(tuple(map(_node, data[name])) for name in ("plan", "shadow", "extras")),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(f"not a deduction world: {error!r}", field="metadata.world") from error
        nodes = (*world.plan, *world.shadow, *world.extras)
        if any(not 0 <= index < len(world.rules) for node in nodes for index in node.rules):
            raise FormatError("a derivation names a rule that the world does not have", field="metadata.world")
        if not world.plan or world.goal not in (world.question, world.question.opposite) or len(world.shadow) != len(world.plan):
            raise FormatError("the plan must end with the question or its opposite, and the shadow be as long", field="metadata.world")
        return world


def verdict_text(verdict: bool) -> str:
    """The final step."""
    return f"So the statement is {'true' if verdict else 'false'}."


def _literals(literals: Sequence[Literal]) -> list[list[Any]]:
    return [[word, holds] for word, holds in literals]


def _plain(statement: Statement) -> list[Any]:
    return [statement.who, _literals(sorted(statement.literals))]


def _plain_node(node: Node) -> list[Any]:
    return [_plain(node.conclusion), list(map(_plain, node.premises)), list(node.rules), node.spine]


def _read(literals: Sequence[Sequence[Any]]) -> list[Literal]:
    found = [(str(word), bool(holds)) for word, holds in literals]
    if not found or any(word not in _WORDS for word, _ in found):
        raise ValueError(f"unknown words in {found}")
    return found


def _statement(data: Sequence[Any]) -> Statement:
    who, literals = data
    if who not in NAMES:
        raise ValueError(f"unknown name {who!r}")
    return Statement(str(who), frozenset(_read(literals)))


def _node(data: Sequence[Any]) -> Node:
    conclusion, premises, rules, spine = data
    return Node(_statement(conclusion), tuple(map(_statement, premises)), tuple(map(int, rules)), bool(spine))
