"""Grade-school problems: what is promised of the texts and worlds that the generator makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from stepward.core import InputError, Problem
from stepward.core.errors import FormatError
from stepward.environments.grade_school import GradeSchool, World, vocabulary, words

EASY, FULL = GradeSchool.easy(), GradeSchool.full()


def world_of(problem: Problem) -> World:
    return World.from_json(problem.metadata["world"])


@pytest.mark.parametrize("config", [EASY, FULL, GradeSchool.easy(max_operations=1, max_value=20, max_given=10)])
def test_worlds_keep_the_limits_of_their_configuration(config: GradeSchool) -> None:
    seen = set()
    for problem in config.problems(1, 400):
        world = world_of(problem)
        seen.add(len(world.plan))
        assert config.min_operations <= len(world.plan) <= config.max_operations
        assert all(isinstance(q.value, int) and 1 <= q.value <= config.max_value for q in world.quantities), problem
        assert sum(index not in world.needed for index in range(len(world.quantities))) <= config.distractors + 1
        assert {q.operation for q in world.quantities} <= {"given", *config.operations}
    assert seen == set(range(config.min_operations, config.max_operations + 1)), "every number of operations occurs"


def test_full_range_uses_every_operation_and_large_values() -> None:
    quantities = [q for problem in FULL.problems(2, 300) for q in world_of(problem).quantities]
    assert {q.operation for q in quantities} == {"given", *FULL.operations}
    assert max(q.value for q in quantities) > 2000


def test_gold_steps_state_each_needed_quantity_once_after_its_parents() -> None:
    for problem in FULL.problems(3, 200):
        world = world_of(problem)
        stated = {index for index, q in enumerate(world.quantities) if q.given}
        for index in world.plan:
            assert set(world.quantities[index].parents) <= stated
            stated.add(index)
        assert world.plan[-1] == world.asked
        assert problem.reference_steps[-1] == f"The answer is {problem.answer}."
        assert len(problem.reference_steps) == len(world.plan) + 1
        for step in problem.reference_steps[:-1]:
            assert re.fullmatch(r"(Each \w+'s \w+|\w+'s \w+|The total|The difference) = \d+( [-+*/] \d+)+ = \d+\.", step), step


FACT = {
    "given": r"(\w+) (?:has|owns) (\d+) (\w+)\.$",
    "pack": r"(\w+) has (\d+) \w+ (?:with|of) (\d+) \w+(?: each)?\.$",
    "sum": r"(\w+) has as many \w+ as ((?:each )?\w+) and ((?:each )?\w+) (?:together|combined)\.$",
    "difference": r"(?:The number of \w+ that )?(\w+) has (?:is|as many \w+ as the difference between) ([\w ]+)'s \w+ (?:and|less) ([\w ]+)'s \w+\.$",
    "more": r"(\w+) has (\d+) (?:more \w+|\w+ more) than ((?:each )?\w+)\.$",
    "fewer": r"(\w+) has (\d+) (?:fewer \w+|\w+ fewer) than ((?:each )?\w+)\.$",
    "times": r"(\w+) (?:has|owns) (twice|half|a third|\d+ times) as many \w+ as ((?:each )?\w+)\.$",
    "share": r"([\w ]+)'s \w+ are (?:shared equally among|packed equally into) (\d+) (\w+)\.$",
}
PLURALS = {"shelves": "shelf", "boxes": "box"}


def read_text(prompt: str) -> int:
    """The answer by an independent reading of the plain English, without the world."""
    *facts, question = re.split(r"(?<=[.?]) ", prompt)
    values: dict[str, float] = {}
    for _ in facts:  # facts may come in any order
        for fact in facts:
            ((kind, found),) = [(kind, match.groups()) for kind, pattern in FACT.items() if (match := re.match(pattern, fact))]
            a, b, c = (*found, "", "")[:3]
            a, b, c = (part[0].lower() + part[1:] if part.startswith("Each") else part for part in (a, b, c))
            if kind == "given":
                values[a] = int(b)
            elif kind == "pack":
                values[a] = int(b) * int(c)
            elif kind == "share" and a in values:
                values[f"each {PLURALS.get(c, c[:-1])}"] = values[a] / int(b)
            elif kind in ("sum", "difference") and b in values and c in values:
                values[a] = values[b] + values[c] if kind == "sum" else values[b] - values[c]
            elif kind in ("more", "fewer") and c in values:
                values[a] = values[c] + (int(b) if kind == "more" else -int(b))
            elif kind == "times" and c in values:
                values[a] = values[c] * {"twice": 2, "half": 1 / 2, "a third": 1 / 3}.get(b, float(b.split()[0]) if b[0].isdigit() else 0)
    patterns = {
        "total": r"How many \w+ do ([\w ]+) and ([\w ]+) (?:have together|have in total)\?$",
        "more": r"How many more \w+ does ([\w ]+) have than ([\w ]+)\?$",
        "fewer": r"How many fewer \w+ does ([\w ]+) have than ([\w ]+)\?$",
        "one": r"(?:How many \w+ does ([\w ]+) have|What is the number of \w+ that ([\w ]+) has|How many \w+ are in ([\w ]+))\?$",
    }
    kind, match = next((kind, match) for kind, pattern in patterns.items() if (match := re.match(pattern, question)))
    asked = [values[name] for name in match.groups() if name]
    result = {"total": sum(asked), "more": asked[0] - asked[-1], "fewer": asked[-1] - asked[0], "one": asked[0]}[kind]
    assert abs(result - round(result)) < 1e-9
    return round(result)


def test_an_independent_reader_of_the_english_finds_the_same_answer() -> None:
    for problem in EASY.problems(4, 500):
        assert str(read_text(problem.prompt)) == problem.answer, problem.prompt


def test_problems_are_the_same_in_every_process() -> None:
    code = (
        "from stepward.environments.grade_school import GradeSchool as G;"
        "print([p.key for c in (G.easy(), G.full()) for s in ('train', 'test') for p in c.problems(5, 10, split=s)])"
    )
    printed = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True).stdout
        for salt in ("1", "2")
    ]
    here = [p.key for c in (EASY, FULL) for s in ("train", "test") for p in c.problems(5, 10, split=s)]
    assert printed[0] == printed[1] == f"{here}\n"


def test_splits_never_share_a_world_or_a_text_whatever_the_seeds_and_configurations() -> None:
    tiny = GradeSchool.easy(max_operations=1, max_value=12, max_given=10, distractors=0)  # few worlds: collisions would show
    worlds: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {}
    for split, n in (("train", 600), ("dev", 150), ("test", 150)):
        problems = [p for seed in (0, 1) for config in (tiny, EASY) for p in config.problems(seed, n, split=split)]
        worlds[split] = {world_of(p).content for p in problems}
        texts[split] = {p.prompt for p in problems}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not worlds[a] & worlds[b]
        assert not texts[a] & texts[b]


def test_content_does_not_depend_on_distractors_or_order_but_on_numbers_and_names() -> None:
    world = world_of(EASY.problem(0, 0))
    needed = [index for index in range(len(world.quantities)) if index in world.needed]
    place = {old: new for new, old in enumerate(needed)}
    from dataclasses import replace

    bare = World(tuple(replace(q, parents=tuple(place[p] for p in q.parents)) for q in (world.quantities[i] for i in needed)), place[world.asked])
    assert bare.content == world.content
    fact = next(index for index in needed if world.quantities[index].operation in ("given", "pack"))
    renamed = [replace(q, owner="Nobody") if index == fact else q for index, q in enumerate(world.quantities)]
    assert World(tuple(renamed), world.asked).content != world.content


@pytest.mark.parametrize("config", [EASY, FULL])
def test_vocabulary_covers_problems_and_solutions_and_is_small(config: GradeSchool) -> None:
    known = set(vocabulary())
    assert len(known) <= 500
    for problem in config.problems(6, 300):
        assert set(words(" ".join([problem.prompt, *problem.reference_steps]))) <= known


def test_easy_problems_are_short() -> None:
    problems = list(EASY.problems(7, 300))
    assert sum(len(words(p.prompt)) for p in problems) / len(problems) < 55
    assert max(len(step.split()) for p in problems for step in p.reference_steps) <= 9


def test_problems_round_trip_with_their_world() -> None:
    problem = FULL.problem(8, 0)
    again = Problem.from_record(problem.to_record())
    assert again == problem
    assert world_of(again).gold_steps() == problem.reference_steps


def test_a_seed_is_endless_and_addressable() -> None:
    assert list(EASY.problems(9, 3, start=5)) == [EASY.problem(9, index) for index in (5, 6, 7)]
    assert len({p.prompt for p in EASY.problems(9, 200)}) == 200
    assert EASY.problem(9, 0) != EASY.problem(10, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_operations": 0},
        {"max_operations": 13},
        {"min_operations": 5, "max_operations": 4},
        {"max_value": 5},
        {"operations": ("power",)},
        {"operations": ("times",)},
        {"shuffle": 2.0},
        {"fractions": ((3, 2),)},
        {"percents": (0,)},
        {"max_factor": 1},
    ],
)
def test_impossible_configurations_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        GradeSchool(**settings)  # type: ignore[arg-type]


def test_unknown_splits_and_damaged_worlds_are_refused() -> None:
    with pytest.raises(InputError, match="unknown split 'valid'"):
        EASY.problem(0, 0, "valid")
    for damaged in ({}, {"quantities": [], "asked": 0}, {"quantities": [["A", "b", "sum", [], [], 3]], "asked": 0}, {"quantities": 3, "asked": 0}):
        with pytest.raises(FormatError):
            World.from_json(damaged)
