"""Reading verdicts: what counts, what does not, and nothing makes a parser fail."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.rewards.generative_parts import ALL, RUBRIC, solution
from tests.strategies import wild_texts

from stepward.rewards.generative import RPRM, Critic, FoVerCritic, OnePass, PrincipleJudge, Rubric, RubricJudge, StepWiser, ThinkPRM
from stepward.rewards.generative.pair_prompts import PAIR_PROMPTS
from stepward.rewards.generative.pairwise import _PairReader
from stepward.rewards.generative.parsing import answer_mark, boxes, last_integer_box, word_marks
from stepward.rewards.generative.task import JudgeTask

TASKS: dict[str, JudgeTask] = {
    "thinkprm": ThinkPRM(), "thinkprm prefixes": ThinkPRM(judges="prefixes"), "thinkprm incorrect": ThinkPRM(after_error="incorrect"), "r-prm": RPRM(),
    "stepwiser": StepWiser(), "critic": Critic(), "critic incorrect": Critic(after_error="incorrect"), "one-pass": OnePass(), "fover-gen": FoVerCritic(),
    "rubric": RubricJudge(Rubric.from_data(RUBRIC)), "principle": PrincipleJudge(),
}  # fmt: skip
SOLUTION = solution(*[f"step number {n}" for n in range(1, 13)])
PIECES = [
    "\\boxed{", "\\boxed{correct}", "\\boxed{incorrect}", "\\boxed{\\text{correct}}", "\\boxed{\\text{incorrect}.}", "\\boxed{Yes}", "\\boxed{NO}",
    "\\boxed{-1}", "\\boxed{3}", "\\boxed{99999999999999}", "\\boxed{paragraph_2}", "\\boxed{}", "\\boxed{{{", "}}}", "\\boxed{Positive}",
    "\\boxed{7.5}", "Step 3:", "Step 12.", "\nStep 2: ", "\n**Step 10** - ", "\n### Step 11: ", "\nCriterion 1: ", "\nCriterion 2:",
    "<step_1>correct</step_1>", "<step_11>incorrect</step_11>", "<step_2>correct</step_3>", "Is the step correct (Yes/No)? Yes",
    "Is the step correct (Yes/No)? **No**", "Is the solution correct? yes", "Is the solution correct?", " No", "\n", "[[A]]",
    "<answer>[[B]]</answer>", "\x00", "\u2028", "\ud800", "İ", "ﬀ",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), wild_texts), max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("\\boxed{" * 3000)
@example("Step 1: " * 3000 + "\\boxed{correct}" * 50)
@example("<step_1>" * 5000)
@example("{" * 4000 + "\\boxed{" + "{a}" * 2000)
def test_any_text_can_be_read_and_marks_stand_where_their_words_are(text: str) -> None:
    for name, task in TASKS.items():
        for question in task.questions(SOLUTION)[:1]:
            reading = task.read(question, text)
            assert set(reading.marks) | set(reading.silent) <= {*question.slots, *question.extras}, name
            assert not set(reading.marks) & set(reading.silent)
            assert all(reason.startswith("abstained") for reason in reading.silent.values())
            for mark in reading.marks.values():
                assert 0.0 <= mark.value <= 1.0
                assert 0 <= mark.start <= mark.end <= len(text)
                if mark.words is not None:
                    word = mark.words[0] if mark.value == 1.0 else mark.words[1]
                    assert text[mark.start : mark.start + len(word)] == word, f"{name}: {mark}"
    for prompt in PAIR_PROMPTS.values():
        reader = _PairReader(prompt)
        for mark in reader.read(reader.question(SOLUTION.problem, SOLUTION, SOLUTION), text).marks.values():
            assert text[mark.start] == ("A" if mark.value else "B")


def verdicts(task: JudgeTask, text: str, n_steps: int) -> list[float | None]:
    """The values read for every step; None for missing and silent ones."""
    [question] = task.questions(solution(*[f"step {index}" for index in range(n_steps)]))
    marks = task.read(question, text).marks
    return [marks[step].value if step in marks else None for step in range(n_steps)]


def test_incorrect_is_never_read_as_correct() -> None:
    for word in ("incorrect", "\\text{incorrect}", "\\textbf{incorrect}", " incorrect. ", "**incorrect**", "Incorrect", "INCORRECT"):
        assert [mark.value for mark in word_marks(f"\\boxed{{{word}}}", "correct", "incorrect")] == [0.0], word
    for word in ("not correct", "correct?", "un-correct", "correct or incorrect", "correctly", "correct\\", "", "14"):
        assert word_marks(f"\\boxed{{{word}}}", "correct", "incorrect") == [], word
    assert [mark.value for mark in word_marks("\\boxed{\\text{correct}}, \\boxed{correct.}", "correct", "incorrect")] == [1.0, 1.0]


def test_step_numbers_are_numbers() -> None:
    text = "\n".join(f"Step {n}: so it is. \\boxed{{{'incorrect' if n == 10 else 'correct'}}}" for n in range(1, 13))
    assert verdicts(ThinkPRM(), text, 12) == [1.0] * 9 + [0.0] + [1.0] * 2
    assert verdicts(ThinkPRM(), "Step 11: \\boxed{incorrect}\nStep 9: \\boxed{correct}", 12)[8:] == [1.0, None, 0.0, None]


def test_the_last_verdict_of_a_step_wins() -> None:
    text = "Step 1: \\boxed{correct}\nStep 2: \\boxed{correct}\nWait.\nStep 1: no, \\boxed{incorrect}\nStep 2: \\boxed{correct}, \\boxed{correct}"
    assert verdicts(ThinkPRM(), text, 2) == [0.0, 1.0]
    assert verdicts(FoVerCritic(), "<step_1>correct</step_1> <step_1>incorrect</step_1> <step_2>correct</step_1>", 2) == [0.0, None]


def test_verdicts_without_headings_are_counted() -> None:
    assert verdicts(ThinkPRM(), "Fine: \\boxed{correct}. Fine: \\boxed{correct}. Wrong: \\boxed{incorrect}.", 3) == [1.0, 1.0, 0.0]
    assert verdicts(ThinkPRM(), "Step 1 of this says 2. \\boxed{correct}", 1) == [1.0], "a sentence that begins with 'Step 1 of' is no heading"
    assert verdicts(ThinkPRM(), "Step 1: \\boxed{correct}\nStep 7: \\boxed{incorrect}", 2) == [1.0, None], "steps that do not exist are dropped"
    assert verdicts(ThinkPRM(), "\\boxed{correct} \\boxed{correct} \\boxed{incorrect}", 2) == [None, None], "more verdicts than steps: whose are they?"


def test_instructions_that_a_judge_repeats_are_no_verdicts() -> None:
    preamble = "For each step I write \\boxed{correct} or \\boxed{incorrect}.\n\n"
    assert verdicts(ThinkPRM(), preamble + "Step 2: \\boxed{correct}", 3) == [None, 1.0, None]
    assert verdicts(OnePass(), preamble + "Step 1: no. \\boxed{incorrect}", 3) == [0.0, None, None]


def test_a_chain_that_stops_at_the_first_error() -> None:
    text = "Step 1: \\boxed{correct}\nStep 2: \\boxed{incorrect}"
    [question] = ThinkPRM().questions(solution("a", "b", "c", "d"))
    reading = ThinkPRM().read(question, text)
    assert set(reading.silent) == {2, 3}
    assert all(reason.startswith("abstained") for reason in reading.silent.values())
    assert verdicts(ThinkPRM(after_error="incorrect"), text, 4) == [1.0, 0.0, 0.0, 0.0]
    open_chain = ThinkPRM().read(question, "Step 1: \\boxed{correct}\nStep 2: \\boxed{correct}")
    assert (set(open_chain.marks), open_chain.silent) == ({0, 1}, {}), "a chain that stops without an error has not said why: its steps are missing"


def test_the_critics_index() -> None:
    assert last_integer_box("first \\boxed{3}, then \\boxed{-1}")[0] == -1
    for text in ("\\boxed{2}", "\\boxed{\\text{2}}", "$\\boxed{2}$", "\\boxed{paragraph_2}", "\\boxed{Paragraph 2}", "\\boxed{ 2 }"):
        assert verdicts(Critic(), text, 4) == [1.0, 1.0, 0.0, None], text
    for text in ("\\boxed{4}", "\\boxed{-2}", "\\boxed{two}", "\\boxed{2.0}", "\\boxed{1} no: \\boxed{none}", "\\boxed{1, 2}", "no error"):
        assert verdicts(Critic(), text, 4) == [None] * 4, text
    assert verdicts(Critic(after_error="incorrect"), "\\boxed{2}", 4) == [1.0, 1.0, 0.0, 0.0]
    assert verdicts(Critic(), "\\boxed{-1}", 4) == [1.0] * 4


def test_the_last_answered_question_counts() -> None:
    [question] = RPRM().questions(solution("a"))
    for text, value in (
        ("Verification: Is the step correct (Yes/No)? Yes", 1.0),
        ("Is the step correct (Yes/No)? No. Let me look again. Is the step correct (Yes/No)? **Yes**", 1.0),
        ("Is the step correct (Yes/No)? Yes\nIs the step correct (Yes/No)? I cannot say", 1.0),
        ("is the step correct ( yes / no ) ?\nNO", 0.0),
        ("Is the step correct (Yes/No)? \\boxed{No}", 0.0),
    ):
        assert RPRM().read(question, text).marks[0].value == value, text
    for text in (
        "Is the step correct (Yes/No)? Nothing is wrong",
        "Is the step correct (Yes/No)?",
        "The step is correct. Yes",
        "Is the step correct (Yes/No)? Yes/No",
    ):
        assert RPRM().read(question, text).marks == {}, text


def test_words_are_read_where_the_judge_wrote_them() -> None:
    mark = answer_mark("So. Right? Yes.", re.compile("Right\\?"), "Yes", "No")
    assert (mark.start, mark.words) == (10, (" Yes", " No")), "the space belongs to the word, as models write it"
    assert answer_mark("Right? **no**", re.compile("Right\\?"), "Yes", "No").words == ("yes", "no")
    assert word_marks("\\boxed{\\text{INCORRECT}}", "correct", "incorrect")[0].words == ("CORRECT", "INCORRECT")
    assert word_marks("\\boxed{cOrrect}", "correct", "incorrect")[0].words is None


def test_scores_by_principles_must_lie_on_their_scale() -> None:
    [question] = PrincipleJudge().questions(solution("a"))
    assert PrincipleJudge().read(question, "Scores: \\boxed{10}").marks[0].value == 1.0
    assert PrincipleJudge().read(question, "Scores: \\boxed{5.5}").marks[0].value == pytest.approx(0.5)
    for text in ("\\boxed{0}", "\\boxed{11}", "\\boxed{-3}", "\\boxed{7, 8}", "\\boxed{7/10}", "7"):
        assert not PrincipleJudge().read(question, text).marks, text


def test_boxes_that_are_escaped_or_endless_are_no_verdicts() -> None:
    assert [box.word for box in boxes("\\boxed{a} \\fboxed{b} \\boxed {c} \\boxed{d")] == ["a", "b", "c"]
    assert word_marks("\\boxed{correct\\}", "correct", "incorrect") == []
    assert word_marks("\\boxed{\\text{correct}\\}", "correct", "incorrect") == []
    assert word_marks("\\boxed{" + "x" * 500 + "}", "correct", "incorrect") == []


def test_every_judge_is_among_the_tasks_or_has_its_own_tests() -> None:
    assert {name.split()[0] for name in TASKS} | {"genprm"} == set(ALL)
