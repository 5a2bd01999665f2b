"""The grade-school oracle: gold is right, every error is recognised as what it is, surface does not matter, garbage does no harm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepward.core import InputError, Problem, Trajectory
from stepward.environments.grade_school import GradeSchool, Quantity, World, vocabulary, words
from stepward.environments.grade_school.corruption import Writer
from stepward.environments.grade_school.judgement import ErrorType, StepJudgement
from stepward.environments.grade_school.oracle import Oracle, oracle_of
from stepward.environments.judgement import Judgement
from stepward.testing import check_environment

EASY, FULL = GradeSchool.easy(), GradeSchool.full()

# Finn 4, Cara 2, Dan = 5 * Cara = 10, Zoe = Dan - 3 = 7 (asked); Uma = Finn + 6 = 10 is not needed.
SMALL = World(
    (
        Quantity("Finn", "apples", "given", (), (), 4),
        Quantity("Cara", "apples", "given", (), (), 2),
        Quantity("Dan", "apples", "times", (1,), (5,), 10),
        Quantity("Zoe", "apples", "minus", (2,), (3,), 7),
        Quantity("Uma", "apples", "plus", (0,), (6,), 10),
    ),
    3,
)
# Mia 40, Ann = 25% of Mia = 10, Tom = Mia + Ann = 50, the total of Tom and Ann = 60 (asked).
MIXED = World(
    (
        Quantity("Mia", "pears", "given", (), (), 40),
        Quantity("Ann", "pears", "percent", (0,), (25,), 10),
        Quantity("Tom", "pears", "sum", (0, 1), (), 50),
        Quantity("", "total", "sum", (2, 1), (), 60),
    ),
    3,
)


def judge(world: World, *texts: str) -> Judgement[StepJudgement]:
    return Oracle(world).judge(texts)


def found(world: World, *texts: str) -> list[str | None]:
    return [None if step.error is None else str(step.error) for step in judge(world, *texts).steps]


def test_gold_solutions_are_right_in_every_step() -> None:
    for config in (EASY, FULL):
        for problem in config.problems(0, 200):
            judgement = config.judge(Trajectory.from_texts(problem, problem.reference_steps, separator="\n"))
            assert all(step.correct and step.error is None for step in judgement.steps), problem
            assert (judgement.first_error, judgement.final_correct) == (-1, True)


def test_every_kind_of_injected_error_is_recognised_as_that_kind() -> None:
    rng = Random(0)
    known = set(vocabulary())
    made = dict.fromkeys(ErrorType, 0)
    for config in (EASY, FULL):
        for problem in config.problems(1, 120):
            oracle = oracle_of(problem)
            writer = Writer(oracle)
            k = rng.randrange(len(problem.reference_steps))
            state = oracle.read(problem.reference_steps[:k])
            for kind in ErrorType:
                for _ in range(3):
                    corrupted = writer.corrupt(state, kind, rng.random())
                    if corrupted is None:
                        continue
                    made[kind] += 1
                    text, index, value = corrupted
                    step, after = oracle.step(state, text)
                    assert step.error is kind, (problem.prompt, problem.reference_steps[:k], text, step)
                    assert set(words(text)) <= known
                    if kind is not ErrorType.REDUNDANT:
                        assert not step.correct
                    if index is not None and value is not None:
                        assert after.values[index] == value, "the state after a step is what the writer says it states"
                        assert (value == oracle.world.quantities[index].value) == (kind is ErrorType.REDUNDANT)
    assert min(made.values()) > 100, made


@pytest.mark.parametrize(
    ("steps", "errors"),
    [
        (["Dan's apples = 5 * 2 = 11."], ["arithmetic_slip"]),
        (["Dan's apples = 5 * 2 = 5 + 5 = 11."], ["arithmetic_slip"]),
        (["Dan's apples = 11."], ["arithmetic_slip"]),
        (["Dan's apples = 5 * 4 = 20."], ["wrong_operand"]),
        (["Dan's apples = 5 + 2 = 7."], ["wrong_operation"]),
        (["Dan's apples = 2 / 5 = 0.4."], ["wrong_operation"]),
        (["Zoe's apples = 7."], ["skipped_dependency"]),
        (["Zoe's apples = 10 - 3 = 7."], ["skipped_dependency"]),
        (["Zoe's apples = Dan's apples - 3 = 7."], ["skipped_dependency"]),
        (["Dan's apples = 5 * 13 = 65."], ["invented_fact"]),
        (["Bob's apples = 5 * 2 = 10."], ["invented_fact"]),
        (["Dan's pears = 5 * 2 = 10."], ["invented_fact"]),
        (["Finn's apples = 5."], ["invented_fact"]),
        (["The answer is 7."], ["premature_answer"]),
        (["Dan's apples = 5 * 2 = 10.", "The answer is 10."], [None, "premature_answer"]),
        (["Dan's apples = 10 / 5 * Dan's apples = 10."], ["circular"]),
        (["Dan's apples = Zoe's apples + 3 = 10."], ["circular"]),
        (["Dan's apples = 5 * 2 = 10.", "Dan's apples = 10."], [None, "redundant"]),
        (["Finn's apples = 4."], ["redundant"]),
        (["Uma's apples = 4 + 6 = 10."], ["redundant"]),
        (["Dan's apples = = 3."], ["unreadable"]),
        (["Dan's apples = 2 / 0."], ["unreadable"]),
        (["Let me think."], ["unreadable"]),
    ],
)
def test_examples_of_every_rule(steps: list[str], errors: list[str | None]) -> None:
    assert found(SMALL, *steps) == errors


@pytest.mark.parametrize(
    "text",
    [
        "Dan's apples = 5 * 2 = 10.",
        "dan's apples=5*2=10",
        "  Dan's   apples  =  2 * 5  =  10  . ",
        "Dan's apples = 2 + 2 + 2 + 2 + 2 = 10.",
        "Dan's apples = 5 × 2 = 10",
        "Dan’s apples = 5 x 2 = 10 apples.",
        "So Dan's apples are (5 * 2) = 10.",
        "Then, Dan's apples = 5 * Cara's apples = 5 * 2 = 10.",
        "Dan's apples = 2 * 5.",
        "Dan's apples = 10.",
        "Dan's apples = 5 * 2 * 1 = 10.",
        "Correction: Dan's apples = 5 * 2 = 10.",
        "First we look at Dan. Dan's apples = 5 * 2 = 10.",
    ],
)
def test_surface_does_not_matter(text: str) -> None:
    judgement = judge(SMALL, text, "Zoe's apples = 10 - 3 = 7.", "The answer is 7.")
    assert [step.error for step in judgement.steps] == [None, None, None], judgement
    assert all(step.correct for step in judgement.steps)


@pytest.mark.parametrize(
    "text", ["The answer is 7", "the answer is: 7.", "So the final answer is 7 apples.", "Answer: 7", "The answer = 7.0", "The answer is 10 - 3 = 7."]
)
def test_surface_of_the_answer_does_not_matter(text: str) -> None:
    judgement = judge(SMALL, "Dan's apples = 5 * 2 = 10.", "Zoe's apples = 10 - 3 = 7.", text)
    assert judgement.steps[2].error is None
    assert judgement.final_correct is True


def test_percentages_may_be_written_in_any_equivalent_way() -> None:
    for text in ("40 * 25 / 100", "25% of 40", "40 * 0.25", "40 / 4", "40 / 100 * 25", "40 * 1 / 4", "(25 / 100) * 40"):
        assert found(MIXED, f"Ann's pears = {text} = 10.") == [None], text
    for text in ("40 * 25", "40 - 25", "25 / 100 / 40"):
        assert found(MIXED, f"Ann's pears = {text}.") == ["wrong_operation"], text


def test_thousands_separators_are_read() -> None:
    world = World((Quantity("Mia", "pears", "given", (), (), 1200), Quantity("Tom", "pears", "times", (0,), (3,), 3600)), 1)
    assert found(world, "Tom's pears = 3 * 1,200 = 3,600.", "The answer is 3,600.") == [None, None]


def test_a_parents_own_expression_may_stand_for_its_value() -> None:
    assert found(SMALL, "Zoe's apples = 5 * 2 - 3 = 7.", "The answer is 7.") == [None, None]
    assert found(MIXED, "The total = 40 + 40 * 25 / 100 + 40 * 25 / 100 = 60.", "The answer is 60.") == [None, None]


def test_a_numerical_coincidence_is_not_a_right_expression() -> None:
    assert found(SMALL, "Dan's apples = 4 + 6 = 10.") == ["wrong_operand"]
    step = judge(SMALL, "Dan's apples = 4 + 6 = 10.").steps[0]
    assert step.true
    assert not step.correct


def test_following_an_earlier_error_is_locally_right_and_repair_restores_the_quantity() -> None:
    texts = [
        "Dan's apples = 5 * 2 = 12.",
        "Zoe's apples = 12 - 3 = 9.",
        "Correction: Dan's apples = 5 * 2 = 10.",
        "Zoe's apples = 10 - 3 = 7.",
        "The answer is 7.",
    ]
    judgement = judge(SMALL, *texts)
    assert [step.follows for step in judgement.steps] == [False, True, True, True, True]
    assert [step.correct for step in judgement.steps] == [False, False, True, True, True]
    assert [step.repairs for step in judgement.steps] == [False, False, True, True, False]
    assert (judgement.first_error, judgement.final_correct) == (0, True)
    local, prefix = judgement.labels("local"), judgement.labels("prefix")
    assert local.hard == (False, True, True, True, True)
    assert prefix.hard == (False,) * 5
    assert (local.semantics, prefix.semantics) == ("local", "prefix")
    assert local.first_error == prefix.first_error == 0
    assert local.error_types == ("arithmetic_slip", None, None, None, None)
    assert found(SMALL, *texts[:3], "Zoe's apples = 12 - 3 = 9.")[3] is not None, "a value that was corrected is no longer known"


def test_a_lucky_answer_is_an_error_with_the_right_outcome() -> None:
    judgement = judge(SMALL, "Dan's apples = 5 * 2 = 12.", "Zoe's apples = 12 - 3 = 9.", "The answer is 7.")
    assert str(judgement.steps[2].error) == "premature_answer"
    assert judgement.final_correct is True


def test_facts_stay_what_the_problem_says() -> None:
    assert found(SMALL, "Cara's apples = 3.", "Dan's apples = 5 * 3 = 15.", "Dan's apples = 5 * 2 = 10.") == ["invented_fact", "wrong_operand", None]


def test_a_step_with_several_claims_is_as_good_as_its_first_wrong_one() -> None:
    assert found(SMALL, "Dan's apples = 5 * 2 = 10. Zoe's apples = 10 - 3 = 7.\nThe answer is 7.") == [None]
    assert found(SMALL, "Dan's apples = 5 * 2 = 10. Zoe's apples = 10 - 3 = 8.") == ["arithmetic_slip"]


def surface(text: str, rng: Random) -> str:
    """The same step with other spaces, case, full stop and operand order."""
    head, *middle, tail = text.rstrip(".").split(" = ") if " = " in text else [text.rstrip("."), ""]
    if middle and "+" in middle[0] and not set("*/-") & set(middle[0]):
        terms = middle[0].split(" + ")
        rng.shuffle(terms)
        middle = [" + ".join(terms)]
    text = " = ".join([head, *middle, tail]) if tail else head
    if rng.random() < 0.5:
        text = text.replace(" = ", "=").replace(" + ", "+").replace(" * ", "*")
    if rng.random() < 0.5:
        text = f" {text.lower()}  "
    return text + "." * (rng.random() < 0.5)


def test_judging_is_invariant_to_surface_on_whole_solutions_right_and_wrong() -> None:
    rng = Random(2)
    for problem in FULL.problems(3, 100):
        oracle = oracle_of(problem)
        texts = list(problem.reference_steps)
        k = rng.randrange(len(texts))
        kind = rng.choice(list(ErrorType))
        corrupted = Writer(oracle).corrupt(oracle.read(texts[:k]), kind, rng.random())
        texts = texts[:k] + ([corrupted[0]] if corrupted else []) + texts[k:]
        plain, varied = oracle.judge(texts), oracle.judge([surface(text, rng) for text in texts])
        assert [(s.error, s.true, s.value, s.quantity) for s in plain.steps] == [(s.error, s.true, s.value, s.quantity) for s in varied.steps], texts


PIECES = [
    *vocabulary()[:40],
    "Dan's apples",
    "Zoe's apples",
    "=",
    " = ",
    "5",
    "2",
    "10",
    " * ",
    "/",
    "(",
    ")",
    "0",
    "%",
    ".",
    "\n",
    ";",
    "-",
    "The answer is",
    "1,000",
    "Correction:",
    "9" * 40,
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)), max_size=5))
@example(["Dan's apples = ((((((((((((2", "٣ = ٣", "Dan's apples = 1e999", "\ud800", "=" * 3000])
@example(["Dan's apples = 9 * 9", *["Dan's apples = Dan's apples * Dan's apples"] * 40])
@example([f"Dan's apples = {' + '.join(['2'] * 30)}"])
def test_no_text_makes_the_oracle_fail(texts: list[str]) -> None:
    judgement = judge(SMALL, *texts)
    assert len(judgement.steps) == len(texts)
    wrong = [index for index, step in enumerate(judgement.steps) if not step.follows]
    assert judgement.first_error == (wrong[0] if wrong else -1)
    trajectory = Trajectory.from_texts(problem_for(SMALL), texts, separator="\n")
    assert asyncio.run(EASY.grade(trajectory)).scored
    assert len(EASY.labels(trajectory)) == len(texts)


def problem_for(world: World) -> Problem:
    return EASY.pose(world, Random(0))


def test_grading_reads_the_last_answer_and_unfinished_is_not_wrong() -> None:
    problem = problem_for(SMALL)

    def grade(*texts: str, finished: bool = True, truncated: bool = False) -> tuple[float | None, str | None]:
        trajectory = replace(Trajectory.from_texts(problem, texts, separator="\n", finished=finished), truncated=truncated)
        outcome = asyncio.run(EASY.grade(trajectory))
        assert outcome.scored or outcome.reason
        return outcome.value, outcome.answer

    assert grade("The answer is 7.") == (1.0, "7")
    assert grade("The answer is 8.", "Correction: the answer is 7.") == (1.0, "7")
    assert grade("The answer is 7.", "The answer is 8.") == (0.0, "8")
    assert grade("Dan's apples = 10.") == (0.0, None)
    assert grade("Dan's apples = 10.", finished=False, truncated=True) == (None, None)
    assert grade("Dan's apples = 10.", finished=False) == (None, None)
    assert grade("The answer is 7.", finished=False, truncated=True) == (1.0, "7")
    assert grade("The answer is 14 / 2.") == (1.0, "7")


def test_a_trajectory_is_finished_once_its_last_step_answers() -> None:
    problem = problem_for(SMALL)
    start = Trajectory(problem)
    assert not EASY.is_finished(start)
    assert not EASY.is_finished(start.extend("Dan's apples = 5 * 2 = 10."))
    assert EASY.is_finished(start.extend("The answer is 3."))


def test_environment_conforms() -> None:
    check_environment(EASY, list(EASY.problems(4, 3)))


def test_problems_of_other_environments_are_refused_with_a_reason() -> None:
    with pytest.raises(InputError, match="metadata"):
        EASY.judge(Trajectory(Problem("What is 2 + 2?", "4")))
    with pytest.raises(InputError, match="policy"):
        EASY.labels(Trajectory(problem_for(SMALL)), "value")
