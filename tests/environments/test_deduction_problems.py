"""Deduction problems: what is promised of the texts and worlds that the generator makes."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tests.environments.logic import Logic

from stepward.core import InputError, Problem
from stepward.core.errors import FormatError
from stepward.environments.deduction import Deduction, Statement, World, vocabulary, words
from stepward.environments.deduction.claims import read_claims
from stepward.environments.deduction.lexicon import KINDS, PLURALS
from stepward.environments.deduction.oracle import oracle_of
from stepward.environments.load import load_environment

EASY, MEDIUM, HARD = Deduction.easy(), Deduction.medium(), Deduction.hard()
LEVELS = (EASY, MEDIUM, HARD)


def world_of(problem: Problem) -> World:
    return World.from_json(problem.metadata["world"])


@pytest.mark.parametrize("config", [*LEVELS, Deduction(min_steps=1, max_steps=12, individuals=5, negation=0.6, max_distractors=8)])
def test_worlds_keep_the_limits_of_their_configuration(config: Deduction) -> None:
    seen = set()
    for problem in config.problems(1, 250):
        world = world_of(problem)
        seen.add(len(world.plan))
        assert config.min_steps <= len(world.plan) <= config.max_steps
        assert len({fact.who for fact in world.facts}) <= config.individuals
        assert config.conjunction or all(len(rule.body) == 1 for rule in world.rules)
        assert config.disjunction or all(len(rule.head) == 1 for rule in world.rules)
    assert seen == set(range(config.min_steps, config.max_steps + 1)), "every number of derivations occurs"


def test_simple_problems_are_the_easy_ones_with_every_rule_in_the_words_of_steps() -> None:
    simple = load_environment("deduction:simple")
    assert simple == Deduction.simple()
    reworded = 0
    for problem, easy in zip(Deduction.simple().problems(3, 100), EASY.problems(3, 100), strict=True):
        assert (problem.reference_steps, problem.answer) == (easy.reference_steps, easy.answer)
        told, question = problem.prompt.lower().split(" true or false: ")
        assert question == easy.prompt.lower().split(" true or false: ")[1]
        reworded += set(told.split(". ")) != set(easy.prompt.lower().split(" true or false: ")[0].split(". "))
        for step in problem.reference_steps[:-1]:
            fact, rule = re.fullmatch(r"Since (.+?) and (.+), .+\.", step).groups()  # type: ignore[union-attr]
            assert f"{rule.lower()}." in told
            assert fact.split()[0] in problem.prompt
    assert reworded >= 50, "in the easy range at least half of the problems word some rule otherwise"


def test_every_form_of_reasoning_occurs() -> None:
    forms: Counter[str] = Counter()
    for problem in MEDIUM.problems(2, 300):
        world = world_of(problem)
        for node in world.plan:
            rules = [world.rules[index] for index in node.rules]
            backwards = len(rules) == 1 and not node.premises[0].literals <= set(rules[0].body)
            forms["cases" if len(rules) == 3 else "elimination" if len(rules[0].head) == 2 else "conjunction" if len(rules[0].body) == 2 else "chain"] += 1
            forms["contraposition"] += backwards and len(rules[0].body) == len(rules[0].head) == 1
            forms["negation"] += not next(iter(node.conclusion.literals))[1]
            forms["condition"] += not node.spine
        forms["extras"] += bool(world.extras)
        forms["individuals"] += len({fact.who for fact in world.facts}) > 1
    expected = ("cases", "elimination", "conjunction", "chain", "contraposition", "negation", "condition", "extras", "individuals")
    assert min(forms[form] for form in expected) >= 15, forms


def test_gold_solutions_take_each_derivation_after_what_it_rests_on() -> None:
    for config in LEVELS:
        for problem in config.problems(3, 60):
            world = world_of(problem)
            known = set(world.facts)
            for node in world.plan:
                assert set(node.premises) <= known
                known.add(node.conclusion)
            assert problem.reference_steps[-1] == f"So the statement is {problem.answer}."
            assert len(problem.reference_steps) == len(world.plan) + 1


def test_the_shadow_has_the_form_of_the_plan_and_would_give_the_other_answer() -> None:
    for config in LEVELS:
        for problem in config.problems(4, 60):
            world = world_of(problem)
            assert [(node.spine, len(node.premises), len(node.rules)) for node in world.shadow] == [
                (node.spine, len(node.premises), len(node.rules)) for node in world.plan
            ]
            assert world.shadow[-1].conclusion == world.goal.opposite
            held = set(world.facts)
            missing = [premise for node in world.shadow for premise in node.premises if premise not in held | {other.conclusion for other in world.shadow}]
            assert missing == [world.shadow[0].premises[0]] or len(missing) == 1, "only its first premise is not given"


RULES = (
    (r"(?:every|each|all) (\w+) (?:is|are) (.+)", False),
    (r"no (\w+) (?:is|are) (.+)", True),
    (r"everything that is (.+?) is (.+)", False),
    (r"if something is (.+), then it is (.+)", False),
    (r"(\w+es) are (.+)", False),
)


def read_text(prompt: str) -> tuple[list[Statement], Statement]:
    """The facts, rules and question by an independent reading of the English."""
    told, question = prompt.split(" True or false: ")

    def literal(text: str) -> tuple[str, bool]:
        word = re.sub(r"^(not )?(an? )?", "", text)
        return {plural: kind for kind, plural in PLURALS.items()}.get(word, word), not text.startswith("not ")

    def statement(sentence: str) -> Statement:
        fact = re.fullmatch(r"([A-Z]\w+) is (.+)", sentence)
        if fact and fact[1] not in ("Everything", "Every"):
            return Statement(fact[1], frozenset({literal(fact[2])}))
        lowered = sentence[0].lower() + sentence[1:]
        for pattern, denied in RULES:
            if match := re.fullmatch(pattern, lowered):
                body = [literal(part) for part in match[1].split(" and ")]
                head = [literal(part) for part in match[2].split(" or ")]
                return Statement("", frozenset([*((word, not holds) for word, holds in body), *((word, holds != denied) for word, holds in head)]))
        raise AssertionError(sentence)

    return [statement(sentence) for sentence in told.rstrip(".").split(". ")], statement(question.rstrip("."))


def test_an_independent_reader_of_the_english_finds_the_same_world_and_z3_its_answer() -> None:
    for config in LEVELS:
        for problem in config.problems(5, 40):
            world, logic = world_of(problem), Logic()
            told, question = read_text(problem.prompt)
            assert Counter(told) == Counter(world.statements), problem.prompt
            assert question == world.question
            assert logic.entails(told, question) == (problem.answer == "true")
            assert logic.consistent(told)


def test_the_oracles_reader_reads_every_sentence_of_a_problem() -> None:
    for config in LEVELS:
        for problem in config.problems(6, 60):
            told = problem.prompt.partition(" True or false:")[0]
            claims = read_claims(told[:2000].rpartition(".")[0]) or ()
            given = oracle_of(problem).given
            assert len(claims) >= 2
            assert all(claim.statement in given for claim in claims)


def surface(problem: Problem) -> list[str]:
    """What a guesser that does not reason can see: words and pairs of words with the individual's name taken out, the last sentences, lengths."""
    tokens = [token if token not in KINDS else "KIND" for token in words(problem.prompt)]
    told, question = problem.prompt.split(" True or false: ")
    bag = [*words(problem.prompt), *(f"{a} {b}" for a, b in pairwise(tokens))]
    asked = words(question)
    bag += [f"question {word}" for word in asked] + [f"question and {word}" for word in words(told) if word in ("not", "No", "no", "or", "and")]
    sentences = told.split(". ")
    goal = asked[-2]
    positive = "not" not in asked
    last = next((sentence for sentence in reversed(sentences) if goal in words(sentence)), "")
    bag += [f"last rule denies {' not ' in last or last.startswith('No ')} {positive}", f"sentences {len(sentences)} {positive}"]
    return bag


@pytest.mark.parametrize("config", [EASY, MEDIUM])
def test_a_guesser_by_surface_is_at_chance(config: Deduction) -> None:
    """Naive Bayes on words, pairs of words, the question and the last rule about its subject."""
    train, test = list(config.problems(7, 1500)), list(config.problems(7, 700, split="test"))
    counts = {answer: Counter(feature for p in train if p.answer == answer for feature in set(surface(p))) for answer in ("true", "false")}
    totals = Counter(p.answer for p in train)

    def guess(problem: Problem) -> str:
        seen = set(surface(problem))
        return max(totals, key=lambda answer: sum(math.log((counts[answer][f] + 1) / (totals[answer] + 2)) for f in seen))

    accuracy = np.mean([guess(problem) == problem.answer for problem in test])
    assert abs(accuracy - 0.5) < 3 * 0.5 / math.sqrt(len(test)), f"accuracy {accuracy:.3f}"
    share = np.mean([problem.answer == "true" for problem in [*train, *test]])
    assert abs(share - 0.5) < 3 * 0.5 / math.sqrt(len(train) + len(test)), f"{share:.3f} of answers are true"


def test_lengths_do_not_tell_the_answer() -> None:
    problems = list(MEDIUM.problems(8, 1200))
    for measure in (lambda p: len(p.prompt), lambda p: len(p.reference_steps), lambda p: p.prompt.count("not") + p.prompt.lower().count("no ")):
        values = {answer: np.array([measure(p) for p in problems if p.answer == answer], dtype=float) for answer in ("true", "false")}
        error = math.sqrt(sum(v.var() / len(v) for v in values.values()))
        assert abs(values["true"].mean() - values["false"].mean()) < 3.5 * error


def test_problems_are_the_same_in_every_process() -> None:
    code = (
        "from stepward.environments.deduction import Deduction as D;"
        "print([p.key for c in (D.easy(), D.medium(), D.hard()) for s in ('train', 'test') for p in c.problems(5, 10, split=s)])"
    )
    printed = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True).stdout
        for salt in ("1", "2")
    ]
    here = [p.key for c in LEVELS for s in ("train", "test") for p in c.problems(5, 10, split=s)]
    assert printed[0] == printed[1] == f"{here}\n"


def test_splits_never_share_a_world_or_a_text_whatever_the_seeds_and_configurations() -> None:
    worlds: dict[str, set[str]] = {}
    texts: dict[str, set[str]] = {}
    for split, n in (("train", 400), ("dev", 100), ("test", 100)):
        problems = [p for seed in (0, 1) for config in (EASY, Deduction(min_steps=1, max_steps=1)) for p in config.problems(seed, n, split=split)]
        assert all(world_of(p).split == split for p in problems)
        worlds[split] = {world_of(p).content for p in problems}
        texts[split] = {p.prompt for p in problems}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not worlds[a] & worlds[b]
        assert not texts[a] & texts[b]


def test_content_does_not_depend_on_distractors_or_order_but_on_the_question_and_its_derivation() -> None:
    from dataclasses import replace

    world = world_of(MEDIUM.problem(0, 0))
    used = {index for node in world.plan for index in node.rules}
    kept = sorted(used)
    plan = tuple(replace(node, rules=tuple(kept.index(index) for index in node.rules)) for node in world.plan)
    needed = {premise for node in world.plan for premise in node.premises}
    bare = World(tuple(fact for fact in reversed(world.facts) if fact in needed), tuple(world.rules[i] for i in kept), world.question, plan, world.plan)
    assert bare.content == world.content
    assert replace(world, question=world.question.opposite).content != world.content  # type: ignore[arg-type]


@pytest.mark.parametrize("config", LEVELS)
def test_vocabulary_covers_problems_and_solutions_and_is_small(config: Deduction) -> None:
    known = set(vocabulary())
    assert len(known) <= 300
    for problem in config.problems(6, 150):
        assert set(words(" ".join([problem.prompt, *problem.reference_steps]))) <= known


def test_easy_problems_are_short() -> None:
    problems = list(EASY.problems(7, 300))
    assert sum(len(words(p.prompt)) for p in problems) / len(problems) < 60


def test_problems_round_trip_with_their_world() -> None:
    problem = HARD.problem(8, 0)
    again = Problem.from_record(problem.to_record())
    assert again == problem
    assert world_of(again) == oracle_of(problem).world
    assert world_of(again).gold_steps() == problem.reference_steps


def test_a_seed_is_endless_and_addressable() -> None:
    assert list(EASY.problems(9, 3, start=5)) == [EASY.problem(9, index) for index in (5, 6, 7)]
    assert len({p.prompt for p in EASY.problems(9, 200)}) == 200
    assert EASY.problem(9, 0) != EASY.problem(10, 0)


def test_specifications_name_the_levels() -> None:
    assert load_environment("deduction") == load_environment("deduction:medium") == MEDIUM
    assert load_environment("deduction:easy") == EASY
    assert load_environment("deduction:hard") == HARD
    with pytest.raises(InputError, match="deduction"):
        load_environment("deduction:heroic")


@pytest.mark.parametrize(
    "settings",
    [
        {"min_steps": 0},
        {"max_steps": 13},
        {"min_steps": 5, "max_steps": 4},
        {"min_distractors": 5},
        {"max_distractors": 9},
        {"individuals": 0},
        {"negation": 1.5},
        {"contraposition": -1},
    ],
)
def test_impossible_configurations_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Deduction(**settings)  # type: ignore[arg-type]


def test_unknown_splits_and_damaged_worlds_are_refused() -> None:
    with pytest.raises(InputError, match="unknown split 'valid'"):
        EASY.problem(0, 0, "valid")
    good = EASY.problem(0, 0).metadata["world"]
    damaged: list[dict[str, object]] = [
        {},
        {**good, "plan": []},
        {**good, "rules": []},
        {**good, "facts": [["Nobody", [["red", True]]]]},
        {**good, "question": ["Rex", [["purple", True]]]},
        {**good, "shadow": []},
        {**good, "facts": 3},
    ]
    for world in damaged:
        with pytest.raises(FormatError):
            World.from_json(world)
