"""Wording: the English text of a world. Two wordings of one world differ in patterns and order, never in content."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stepward.environments.deduction.lexicon import PLURALS
from stepward.environments.deduction.statement import Literal, fact_text, is_kind, negated, phrase
from stepward.environments.deduction.world import Rule, World


def problem_text(world: World, rng: Random, *, plain: bool, as_steps: bool = False) -> str:
    """Facts and rules in any order, then the question; `as_steps`: every rule in the words of the steps that use it."""
    rules = [rule.text for rule in world.rules] if as_steps else [rule_sentence(rule, rng, plain=plain) for rule in world.rules]
    told = [*map(fact_text, world.facts), *rules]
    rng.shuffle(told)
    sentences = " ".join(f"{text[0].upper()}{text[1:]}." for text in told)
    return f"{sentences} True or false: {fact_text(world.question)}."


def rule_sentence(rule: Rule, rng: Random, *, plain: bool) -> str:
    """One of a rule's wordings, without the full stop; `plain` draws from the wording that steps use and one more."""
    style = rng.random()
    body, head = rule.body, rule.head
    if len(body) == 1 and is_kind(body[0][0]) and body[0][1]:
        kind = body[0][0]
        if style < 0.4 or plain:
            if len(head) == 1 and not head[0][1]:
                return f"no {kind} is {phrase(negated(head[0]))}"
            return f"{'each' if plain and style > 0.6 else 'every'} {kind} is {_any(head)}"
        if style < 0.8:
            start = "all " if style < 0.6 else ""
            if start and len(head) == 1 and not head[0][1]:
                return f"no {PLURALS[kind]} are {_plural(negated(head[0]))}"
            return f"{start}{PLURALS[kind]} are {' or '.join(map(_plural, head))}"
    if style < 0.5 or (plain and style < 0.75):
        return f"everything that is {' and '.join(map(phrase, body))} is {_any(head)}"
    return f"if something is {' and '.join(map(phrase, body))}, then it is {_any(head)}"


def _any(head: Sequence[Literal]) -> str:
    return " or ".join(map(phrase, head))


def _plural(literal: Literal) -> str:
    word, holds = literal
    return ("" if holds else "not ") + PLURALS.get(word, word)
