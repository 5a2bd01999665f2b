"""Wording: the English text of a world. Two wordings of one world differ in patterns and order of facts, never in content."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stepward.environments.grade_school import lexicon
from stepward.environments.grade_school.world import DIFFERENCE, TOTAL, Quantity, World

_SAME_OBJECT_ENDS = ("than {P}.", "as {P}.")  # patterns that also read well when the parent counts other objects


def problem_text(world: World, rng: Random, *, plain: bool, shuffle: float) -> str:
    """The facts, in order of dependency or (with probability `shuffle`) in any order, then the question."""
    told = [index for index, quantity in enumerate(world.quantities) if quantity.owner]
    if rng.random() < shuffle:
        rng.shuffle(told)
    facts = [_fact(world, index, rng, plain) for index in told]
    return " ".join([*facts, _question(world, rng, plain)])


def _fact(world: World, index: int, rng: Random, plain: bool) -> str:
    quantity = world.quantities[index]
    parents = [world.quantities[parent] for parent in quantity.parents]
    patterns: Sequence[str] = lexicon.FACTS[quantity.operation]
    if plain:
        patterns = patterns[: lexicon.N_PLAIN]
    if len(parents) == 1 and parents[0].object != quantity.object:
        patterns = [pattern for pattern in patterns if pattern.endswith(_SAME_OBJECT_ENDS)]
    fields = {"O": quantity.owner, "o": quantity.object}
    fields.update(_numbers(quantity))
    if len(parents) == 1:
        fields.update(P=_counterpart(quantity, parents[0]), Q=parents[0].name)
    elif parents:
        same = all(parent.object == quantity.object for parent in parents)
        fields.update(L=_listing([parent.owner if same else parent.name for parent in parents]), M=_listing([parent.name for parent in parents]))
        fields.update(R=parents[0].name, S=parents[1].name)
    if quantity.operation == "share":
        fields["D"] = lexicon.CONTAINERS[quantity.owner.removeprefix("each ")]
    elif quantity.operation == "pack":
        spoken_for = {other.owner.removeprefix("each ") for other in world.quantities}
        fields["D"] = rng.choice([plural for container, plural in lexicon.CONTAINERS.items() if container not in spoken_for])
    return _sentence(rng.choice(patterns), fields)


def _numbers(quantity: Quantity) -> dict[str, str]:
    match quantity.operation, quantity.numbers:
        case "given", _:
            return {"c": str(quantity.value)}
        case "times", (k,):
            return {"K": lexicon.times_words(k)}
        case "share", (k,):
            return {"k": str(k)}
        case "fraction", (p, q):
            return {"F": lexicon.fraction_words(p, q)}
        case (("times_plus" | "times_minus"), (k, c)):
            return {"K": lexicon.times_words(k), "c": str(c)}
        case (("part_plus" | "part_minus"), (k, c)):
            return {"F": lexicon.fraction_words(1, k), "c": str(c)}
        case "pack", (k, c):
            return {"k": str(k), "c": str(c)}
        case _, (c,):
            return {"c": str(c)}
    return {}


def _counterpart(quantity: Quantity, parent: Quantity) -> str:
    if parent.object == quantity.object:
        return parent.owner
    return parent.object if parent.owner == quantity.owner else f"{parent.owner} has {parent.object}"


def _question(world: World, rng: Random, plain: bool) -> str:
    asked = world.quantities[world.asked]
    parents = [world.quantities[parent] for parent in asked.parents]
    mixed = len({parent.object for parent in parents}) > 1 or len({parent.owner for parent in parents}) < len(parents)
    fields = {"O": asked.owner, "o": asked.object}
    if asked.owner:
        patterns = lexicon.QUESTIONS_EACH if asked.owner.startswith("each ") else lexicon.QUESTIONS
    elif asked.object == TOTAL:
        patterns = lexicon.QUESTIONS_TOTAL_MIXED if mixed else lexicon.QUESTIONS_TOTAL
        fields.update(o=parents[0].object, L=_listing([parent.name if mixed else parent.owner for parent in parents]))
    else:
        assert asked.object == DIFFERENCE
        patterns = lexicon.QUESTIONS_DIFFERENCE_MIXED if mixed else lexicon.QUESTIONS_DIFFERENCE
        fields.update(o=parents[0].object, X=parents[0].owner, Y=parents[1].owner, R=parents[0].name, S=parents[1].name)
    return _sentence(rng.choice(patterns[: lexicon.N_PLAIN] if plain else patterns), fields)


def _listing(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(pattern: str, fields: dict[str, str]) -> str:
    text = pattern.format_map(fields)
    return text[0].upper() + text[1:]
