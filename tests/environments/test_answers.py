"""Extraction finds what a solution states; canonical spellings agree exactly where answers plainly agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.environments.answers import canonical_answer, extract_answer, plain_number, states_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so we get \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"thus \boxed 5 holds", "5"),
        ("She has 18.\n#### 18\n", "18"),
        ("#### Step one\nThe answer is 4.", "4"),
        (r"#### 3" + "\n" + r"\boxed{4}", "4"),
        ("So the answer is 3.5. Done.", "3.5"),
        ("The answer is $18 per day, not $20.", "$18 per day, not $20"),
        (r"Final answer: $\frac{3}{4}$.", r"\frac{3}{4}"),
        ("**Answer:** 42", "42"),
        ("The answer is **42**.", "42"),
        ("The answer is 3.\nWait, the answer is 4.", "4"),
        ("5 + 3 = 8\nA: 8", "8"),
        ("We do not know.", None),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_the_last_stated_answer_is_extracted(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "group",
    [
        ("7", "7.0", "7.", "+7", r"\boxed{7}", "$7$", r"\(7\)", "7 apples", "{7}", "$7", r"\$7.00", "x = 7", r"14/2", r"\frac{14}{2} = 7", "**7**"),
        ("0.5", "1/2", r"\frac{1}{2}", r"\dfrac12", ".5", "2/4", "0.50"),
        ("1000", "1,000", "1{,}000", r"1,000.0"),
        ("50%", r"50\%", "50.0 %"),
        ("-1/3", r"-\frac{1}{3}", "−2/6"),
        (r"\left( 1, 2 \right)", "(1,2)", r"$( 1 ,\, 2 )$"),
        (r"\text{Monday}", "monday", "Monday."),
        ("(A)", "A"),
        (r"90^\circ", "90", "90°"),
        (r"2\sqrt{3}", r"2 \sqrt{3}", r"2\,\sqrt{3}"),
    ],
)
def test_plainly_equal_answers_have_one_spelling(group: tuple[str, ...]) -> None:
    spellings = {answer: canonical_answer(answer) for answer in group}
    assert len(set(spellings.values())) == 1, spellings


def test_different_answers_have_different_spellings() -> None:
    answers = ["7", "-7", "70", "7%", "0.7", "7 million", "1/7", "7x", "x+y=7", "(7,7)", "[7,7]", r"\{7\}", "7!", "007 agents", "x", "X"]
    answers += [r"\pi r", r"\pi R", "1, 2", "12"]
    spelled = [canonical_answer(answer) for answer in answers]
    assert len(set(spelled)) == len(answers), spelled


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="\\{}$ .,=/0123456789xboxedfrac", max_size=80))
def test_canonical_spelling_is_a_fixed_point_for_numbers_and_never_fails(text: str) -> None:
    spelled = canonical_answer(text)
    if plain_number(spelled) is not None:
        assert canonical_answer(spelled) == spelled
    extract_answer(text)


@given(st.fractions(max_denominator=10_000))
def test_numbers_keep_their_value(value: object) -> None:
    spelled = canonical_answer(str(value))
    assert plain_number(spelled) == value


@pytest.mark.parametrize(
    "text",
    ["answer" + " " * 200_000, r"\boxed{" * 40_000, "####" * 50_000, "answer is " * 30_000, r"\boxed" + " " * 200_000, "{" * 200_000, "final answer " * 20_000],
)
def test_extraction_ends_on_hostile_text(text: str) -> None:
    """A quadratic scan of these would not end within a test run."""
    found = extract_answer(text)
    assert found is None or len(found) <= len(text)


def test_only_an_equals_sign_outside_brackets_makes_a_chain() -> None:
    assert canonical_answer(r"\sum_{n=1}^{10} n") == r"\sum_{n=1}^{10}n"
    assert canonical_answer(r"S = \sum_{n=1}^{10} n = 55") == "55"
    assert canonical_answer("x = 1, y = 2") == "x=1,y=2"


def test_a_heading_does_not_end_a_solution_but_a_stated_answer_does() -> None:
    assert not states_answer("#### 1. Compute the total")
    assert states_answer("#### 18")
    assert states_answer(r"So \boxed{3}.")
    assert states_answer("Final answer: 3")
    assert not states_answer("Let us see whether the answer is 5.")
