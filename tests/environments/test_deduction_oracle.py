"""The deduction oracle: gold is right, every error is recognised as what it is, surface does not matter, garbage does no harm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepward.core import InputError, Problem, Trajectory
from stepward.environments.deduction import Corrupted, Deduction, ErrorType, Node, Rule, Statement, World, corrupt, vocabulary, words
from stepward.environments.deduction.claims import read_claims
from stepward.environments.deduction.corruption import Writer
from stepward.environments.deduction.judgement import HARMLESS, StepJudgement
from stepward.environments.deduction.oracle import Oracle, oracle_of
from stepward.environments.deduction.statement import ground, statement_text
from stepward.environments.judgement import Judgement
from stepward.testing import check_environment

EASY, MEDIUM, HARD = Deduction.easy(), Deduction.medium(), Deduction.hard()
LEVELS = (EASY, MEDIUM, HARD)


def yes(word: str) -> tuple[str, bool]:
    return word, True


def no(word: str) -> tuple[str, bool]:
    return word, False


def rex(*literals: tuple[str, bool]) -> Statement:
    return ground("Rex", *literals)


# Rex is a wumpus -> red; red and big -> a yumpus; a yumpus -> cold or a zumpus, either -> happy (asked). Rex is shy: a wumpus is shy (leads nowhere).
# The shadow: a gorpus -> fast; fast and bold -> a lempus; a lempus -> kind or a rompus, either -> not happy. Rex is no gorpus as far as is said.
RULES = (
    Rule((yes("wumpus"),), (yes("red"),)),
    Rule((yes("red"), yes("big")), (yes("yumpus"),)),
    Rule((yes("yumpus"),), (yes("cold"), yes("zumpus"))),
    Rule((yes("cold"),), (yes("happy"),)),
    Rule((yes("zumpus"),), (yes("happy"),)),
    Rule((yes("wumpus"),), (yes("shy"),)),
    Rule((yes("gorpus"),), (yes("fast"),)),
    Rule((yes("fast"), yes("bold")), (yes("lempus"),)),
    Rule((yes("lempus"),), (yes("kind"), yes("rompus"))),
    Rule((yes("kind"),), (no("happy"),)),
    Rule((yes("rompus"),), (no("happy"),)),
)
SMALL = World(
    (rex(yes("wumpus")), rex(yes("big")), rex(yes("bold")), ground("Fae", yes("gorpus"))),
    RULES,
    rex(yes("happy")),
    (
        Node(rex(yes("red")), (rex(yes("wumpus")),), (0,)),
        Node(rex(yes("yumpus")), (rex(yes("red")), rex(yes("big"))), (1,)),
        Node(rex(yes("happy")), (rex(yes("yumpus")),), (2, 3, 4)),
    ),
    (
        Node(rex(yes("fast")), (rex(yes("gorpus")),), (6,)),
        Node(rex(yes("lempus")), (rex(yes("fast")), rex(yes("bold"))), (7,)),
        Node(rex(no("happy")), (rex(yes("lempus")),), (8, 9, 10)),
    ),
    (Node(rex(yes("shy")), (rex(yes("wumpus")),), (5,)),),
)
RED = "Since Rex is a wumpus and every wumpus is red, Rex is red."
YUMPUS = "Since Rex is red, Rex is big and everything that is red and big is a yumpus, Rex is a yumpus."
HAPPY = "Since Rex is a yumpus, every yumpus is cold or a zumpus, everything that is cold is happy and every zumpus is happy, Rex is happy."  # by cases
TRUE = "So the statement is true."
GOLD = (RED, YUMPUS, HAPPY, TRUE)


def judge(*texts: str) -> Judgement[StepJudgement]:
    return Oracle(SMALL).judge(texts)


def found(*texts: str) -> list[str | None]:
    return [None if step.error is None else str(step.error) for step in judge(*texts).steps]


def test_the_gold_solution_of_the_example_is_as_written_here() -> None:
    assert SMALL.gold_steps() == GOLD
    assert found(*GOLD) == [None] * 4


def test_gold_solutions_are_right_in_every_step() -> None:
    for config in LEVELS:
        for problem in config.problems(0, 100):
            judgement = config.judge(Trajectory.from_texts(problem, problem.reference_steps, separator="\n"))
            assert all(step.correct and step.error is None for step in judgement.steps), problem
            assert (judgement.first_error, judgement.final_correct) == (-1, True)


def test_every_kind_of_injected_error_is_recognised_as_that_kind() -> None:
    rng = Random(0)
    known = set(vocabulary())
    made = dict.fromkeys(ErrorType, 0)
    for config in LEVELS:
        for problem in config.problems(1, 70):
            oracle = oracle_of(problem)
            writer = Writer(oracle)
            k = rng.randrange(len(problem.reference_steps))
            state = oracle.read(problem.reference_steps[:k])
            for kind in ErrorType:
                for _ in range(3):
                    written = writer.corrupt(state, kind, rng.random())
                    if written is None:
                        continue
                    made[kind] += 1
                    step, after = oracle.step(state, written.text)
                    assert step.error is kind, (problem.prompt, problem.reference_steps[:k], written.text, step)
                    assert set(words(written.text)) <= known
                    assert step.follows == (kind in HARMLESS)
                    assert step.correct == (kind in HARMLESS)
                    if written.statement is not None:
                        assert after == state.conclude(written.statement, written.cited), "the state after a step is what the writer says it states"
    assert min(made.values()) > 100, made


@pytest.mark.parametrize(
    ("steps", "errors"),
    [
        (["Since Rex is a wumpus and everything that is red and big is a yumpus, Rex is a yumpus."], ["missing_premise"]),  # true, but not from this
        ([RED, "Since Rex is red and everything that is red and big is a yumpus, Rex is a yumpus."], [None, "missing_premise"]),
        (["Since Rex is red and every wumpus is red, Rex is a wumpus."], ["missing_premise"]),  # red is not known yet
        (["Since Rex is big and every gorpus is fast, Rex is fast."], ["invalid_inference"]),
        ([RED, "Since Rex is red and every gorpus is fast, Rex is fast."], [None, "invalid_inference"]),
        (["Since Fae is a gorpus and every gorpus is fast, Rex is fast."], ["invalid_inference"]),  # another individual
        (["Since Rex is bold, Rex is big and everything that is fast and bold is a lempus, Rex is a lempus."], ["invalid_inference"]),
        (["Since Rex is a gorpus and every gorpus is fast, Rex is fast."], ["missing_premise"]),  # Fae is, Rex is not said to be
        (["Since Rex is a wumpus and every wumpus is fast, Rex is fast."], ["missing_premise"]),  # no such rule
        ([YUMPUS], ["missing_premise"]),
        (["Since Rex is a wumpus and every wumpus is red, Rex is not red."], ["wrong_polarity"]),
        ([RED, YUMPUS, HAPPY.replace("Rex is happy", "Rex is not happy")], [None, None, "wrong_polarity"]),
        (["Since Rex is red, Rex is red."], ["circular"]),
        (["Since Rex is a yumpus and every wumpus is red, Rex is red."], ["circular"]),  # a yumpus only by being red
        (["Since Rex is a lempus and everything that is fast and bold is a lempus, Rex is fast."], ["circular"]),
        (["Since Rex is happy and everything that is cold is happy, Rex is a yumpus."], ["circular"]),
        ([TRUE], ["premature_answer"]),
        (["So the statement is false."], ["premature_answer"]),
        ([RED, YUMPUS, HAPPY, "So the statement is false."], [None, None, None, "wrong_polarity"]),
        (["Since Rex is a wumpus and every wumpus is shy, Rex is shy."], ["irrelevant"]),
        (["Since Fae is a gorpus and every gorpus is fast, Fae is fast."], ["irrelevant"]),
        ([RED, RED], [None, "redundant"]),
        (["Rex is a wumpus."], ["redundant"]),
        (["Correction: it does not follow that Rex is fast."], ["invalid_inference"]),  # nobody said so
        ([RED, "Correction: it does not follow that Rex is red."], [None, "invalid_inference"]),
        (["Let me think."], ["unreadable"]),
        (["Rex is."], ["unreadable"]),
        (["Since Rex is a wumpus and every wumpus is red."], ["unreadable"]),
        (["Rex is purple."], ["unreadable"]),
        (["Rex is red unless Rex is big."], ["unreadable"]),
    ],
)
def test_examples_of_every_rule(steps: list[str], errors: list[str | None]) -> None:
    assert found(*steps) == errors, judge(*steps)


@pytest.mark.parametrize(
    "text",
    [
        RED,
        "since rex is a wumpus and every wumpus is red , rex is red",
        "Rex is a wumpus and every wumpus is red, so Rex is red.",
        "Rex is red because Rex is a wumpus and every wumpus is red.",
        "Rex is a wumpus. Every wumpus is red. So Rex is red.",
        "Rex is a wumpus. Wumpuses are red. Therefore, Rex is red.",
        "We know that Rex is a wumpus; each wumpus is red; hence Rex is red.",
        "Because Rex is a wumpus and all wumpuses are red, Rex is red!",
        "As everything that is a wumpus is red and Rex is a wumpus, then Rex is red.",
        "Since Rex is a wumpus, and if something is a wumpus then it is red, Rex is red.",
        "Since Rex is a wumpus and big and every wumpus is red, Rex is red.",
        "Given that Rex is a wumpus and every wumpus is red, Rex is red.",
        "First, let us look at the facts. Since Rex is a wumpus and every wumpus is red, Rex is red.",
        "Correction: since Rex is a wumpus and every wumpus is red, Rex is red.",
    ],
)
def test_surface_does_not_matter(text: str) -> None:
    judgement = judge(text, YUMPUS, HAPPY, TRUE)
    assert [step.error for step in judgement.steps] == [None] * 4, judgement
    assert judgement.final_correct is True


@pytest.mark.parametrize(
    "text",
    [
        "So the statement is true",
        "the statement is True.",
        "The answer is: true",
        "Answer: true.",
        "True.",
        "The final answer is true.",
        "Therefore the claim is not false.",
    ],
)
def test_surface_of_the_verdict_does_not_matter(text: str) -> None:
    judgement = judge(RED, YUMPUS, HAPPY, text)
    assert judgement.steps[3].error is None
    assert judgement.final_correct is True


def test_negative_rules_may_be_worded_in_any_way_and_contrapositives_are_the_same_statement() -> None:
    wordings = (
        "no wumpus is red",
        "every wumpus is not red",
        "no wumpuses are red",
        "nothing that is a wumpus is red",
        "everything that is red is not a wumpus",
    )
    read = {read_claims(f"{text[0].upper()}{text[1:]}.") for text in wordings}
    assert len({claims[0].statement for claims in read if claims}) == 1
    assert None not in read


def test_every_statement_is_read_back_from_its_wording() -> None:
    rng = Random(4)
    for _ in range(400):
        literals = frozenset((word, rng.random() < 0.5) for word in rng.sample(("red", "big", "cold", "wumpus", "impus"), rng.randint(2, 3)))
        statement = Statement("", literals) if rng.random() < 0.6 else Statement("Rex", literals)
        claims = read_claims(f"{statement_text(statement)[0].upper()}{statement_text(statement)[1:]}.")
        assert claims is not None
        assert [claim.statement for claim in claims] == [statement], statement_text(statement)


def test_rules_may_be_chained_into_new_rules() -> None:
    assert found("Since every wumpus is red and everything that is red and big is a yumpus, everything that is a wumpus and big is a yumpus.") == ["irrelevant"]


def test_following_an_earlier_error_is_locally_right_and_taking_it_back_restores() -> None:
    texts = [
        "Since Rex is a wumpus and every wumpus is fast, Rex is fast.",
        "Since Rex is fast, Rex is bold and everything that is fast and bold is a lempus, Rex is a lempus.",
        "Correction: it does not follow that Rex is fast.",
        RED,
        YUMPUS,
        HAPPY,
        TRUE,
    ]
    judgement = judge(*texts)
    assert [step.follows for step in judgement.steps] == [False, True, True, True, True, True, True]
    assert [step.correct for step in judgement.steps] == [False, False, True, True, True, True, True]
    assert [step.repairs for step in judgement.steps] == [False, False, True, False, False, False, False]
    assert (judgement.first_error, judgement.final_correct) == (0, True)
    local, prefix = judgement.labels("local"), judgement.labels("prefix")
    assert local.hard == (False, True, True, True, True, True, True)
    assert prefix.hard == (False,) * 7
    assert (local.semantics, prefix.semantics) == ("local", "prefix")
    assert local.first_error == prefix.first_error == 0
    assert local.error_types == ("missing_premise", None, None, None, None, None, None)
    lempus = "Since Rex is a lempus, every lempus is kind or a rompus, everything that is kind is not happy and no rompus is happy, Rex is not happy."
    assert found(*texts[:3], lempus)[3] == "missing_premise", "what rested on it went with it"
    assert found(*texts[:2], lempus, "So the statement is false.")[2:] == [None, None], "right by what was stated"


def test_stating_the_opposite_takes_back_what_was_stated() -> None:
    wrong = "Since Rex is a wumpus and every wumpus is red, Rex is not red."
    judgement = judge(wrong, RED, YUMPUS)
    assert [step.error for step in judgement.steps] == [ErrorType.WRONG_POLARITY, None, None]
    assert judgement.steps[1].repairs


def test_a_lucky_verdict_is_an_error_with_the_right_outcome() -> None:
    judgement = judge(TRUE)
    assert str(judgement.steps[0].error) == "premature_answer"
    assert judgement.final_correct is True


def test_facts_stay_what_the_problem_says() -> None:
    assert found("Since Rex is big and every wumpus is red, Rex is not a wumpus.", RED) == ["invalid_inference", None]


def test_contradictory_premises_support_nothing() -> None:
    wrong = "Since Rex is a wumpus and every wumpus is red, Rex is not red."
    assert found(wrong, "Since Rex is not red, Rex is a wumpus and every wumpus is red, Rex is fast.") == ["wrong_polarity", "invalid_inference"]


def test_a_step_with_several_claims_is_as_good_as_its_first_wrong_one() -> None:
    assert found(" ".join(GOLD)) == [None]
    assert found(f"{RED} Since Rex is red and every gorpus is fast, Rex is fast.") == ["invalid_inference"]


def surface(text: str, rng: Random) -> str:
    """The same step with another connective, other spaces, case and full stop."""
    if text.startswith("Since ") and rng.random() < 0.6:
        reasons, _, conclusion = text.removeprefix("Since ").rstrip(".").rpartition(", ")
        text = rng.choice((f"{reasons}, so {conclusion}.", f"{conclusion} because {reasons}.", f"Because {reasons}, {conclusion}."))
    if rng.random() < 0.5:
        text = f" {text.lower()}  ".replace(" is ", "  is ")
    return text.rstrip(". ") + "." * (rng.random() < 0.5)


def test_judging_is_invariant_to_surface_on_whole_solutions_right_and_wrong() -> None:
    rng = Random(2)
    for problem in MEDIUM.problems(3, 100):
        oracle = oracle_of(problem)
        texts = list(problem.reference_steps)
        k = rng.randrange(len(texts))
        written = Writer(oracle).corrupt(oracle.read(texts[:k]), rng.choice([kind for kind in ErrorType if kind is not ErrorType.UNREADABLE]), rng.random())
        texts = texts[:k] + ([written.text] if written else []) + texts[k:]
        plain, varied = oracle.judge(texts), oracle.judge([surface(text, rng) for text in texts])
        assert [(s.error, s.true, s.statement) for s in plain.steps] == [(s.error, s.true, s.statement) for s in varied.steps], texts


PIECES = [
    *vocabulary()[:60],
    "Rex is",
    "every",
    " wumpus",
    " is red",
    ", ",
    " and ",
    " or ",
    "Since ",
    "so ",
    "no ",
    "not ",
    ". ",
    "\n",
    "that is",
    "if something is",
    "So the statement is true",
    "a ",
    "Correction:",
    "it does not follow that",
    "because",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PIECES), max_size=16).map(" ".join)), max_size=5))
@example(["Since Rex is", "\ud800", "Rex is red or " * 400, "not not not Rex is not not red", "Since " * 50])
@example([f"Since Rex is {' and '.join(['red'] * 60)}, Rex is red."])
def test_no_text_makes_the_oracle_fail(texts: list[str]) -> None:
    judgement = judge(*texts)
    assert len(judgement.steps) == len(texts)
    wrong = [index for index, step in enumerate(judgement.steps) if not step.follows]
    assert judgement.first_error == (wrong[0] if wrong else -1)
    trajectory = Trajectory.from_texts(problem_for(SMALL), texts, separator="\n")
    assert asyncio.run(EASY.grade(trajectory)).scored
    assert len(EASY.labels(trajectory)) == len(texts)


def problem_for(world: World) -> Problem:
    return EASY.pose(world, Random(0))


def test_grading_reads_the_last_verdict_and_unfinished_is_not_wrong() -> None:
    problem = problem_for(SMALL)

    def grade(*texts: str, finished: bool = True, truncated: bool = False) -> tuple[float | None, str | None]:
        trajectory = replace(Trajectory.from_texts(problem, texts, separator="\n", finished=finished), truncated=truncated)
        outcome = asyncio.run(EASY.grade(trajectory))
        assert outcome.scored or outcome.reason
        return outcome.value, outcome.answer

    assert grade(TRUE) == (1.0, "true")
    assert grade("So the statement is false.", "Correction: the statement is true.") == (1.0, "true")
    assert grade(TRUE, "So the statement is false.") == (0.0, "false")
    assert grade(RED) == (0.0, None)
    assert grade(RED, finished=False, truncated=True) == (None, None)
    assert grade(RED, finished=False) == (None, None)
    assert grade(TRUE, finished=False, truncated=True) == (1.0, "true")
    assert not EASY.is_finished(Trajectory(problem).extend(RED))
    assert EASY.is_finished(Trajectory(problem).extend(TRUE))


def test_corrupted_solutions_have_the_known_first_error() -> None:
    made = dict.fromkeys(ErrorType, 0)
    for config in LEVELS:
        for problem in config.problems(5, 12):
            gold = Trajectory.from_texts(problem, problem.reference_steps, separator="\n")
            for kind in ErrorType:
                try:
                    corrupted = corrupt(gold, kind, seed=3)
                except InputError:
                    continue
                assert isinstance(corrupted, Corrupted)
                assert corrupted == corrupt(gold, str(kind), seed=3), "a pure function of its arguments"
                judgement = config.judge(corrupted.trajectory)
                assert judgement.steps[corrupted.place].error is kind
                assert judgement.first_error == (-1 if kind in HARMLESS else corrupted.place)
                assert corrupted.trajectory.keys[corrupted.place] == gold.keys[corrupted.place], "nothing before it changes"
                assert corrupted.trajectory.outcome is None
                made[kind] += 1
    assert min(made.values()) >= 15, made
    places = {corrupt(gold, "invalid_inference", seed=seed).place for seed in range(30)}
    assert len(places) > 2, "the seed chooses the place"


def test_impossible_corruptions_are_refused() -> None:
    gold = Trajectory.from_texts(problem_for(SMALL), GOLD, separator="\n")
    with pytest.raises(InputError, match="unknown kind"):
        corrupt(gold, "typo")
    with pytest.raises(InputError, match="no error of kind"):
        corrupt(gold.prefix(0), "circular")


def test_environment_conforms() -> None:
    check_environment(MEDIUM, list(MEDIUM.problems(4, 3)))


def test_problems_of_other_environments_are_refused_with_a_reason() -> None:
    with pytest.raises(InputError, match="metadata"):
        EASY.judge(Trajectory(Problem("Is water wet?", "true")))
    with pytest.raises(InputError, match="policy"):
        EASY.labels(Trajectory(problem_for(SMALL)), "value")
