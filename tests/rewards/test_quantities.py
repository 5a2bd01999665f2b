"""tools:quantities finds what contradicts the problem or earlier steps, supports conversions, and leaves everything else alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import Problem, Trajectory
from stepward.rewards.quantities import Quantities
from stepward.rewards.quantities.answer import stated_answer
from stepward.rewards.quantities.mention import mentions, values
from stepward.rewards.quantities.provenance import derivable
from stepward.rewards.verifiers import State, StepContext, Verdict

S, R, A = State.SUPPORTED, State.REFUTED, State.ABSTAIN
APPLES = "Ann buys 3 bags of 125 apples each and gives 48 of them to her neighbours. How many apples are left?"


def verdicts(text: str, problem: str = APPLES, before: Sequence[str] = (), *, finished: bool = True) -> list[Verdict]:
    trajectory = Trajectory.from_texts(Problem(problem), [*before, text], finished=finished)
    return asyncio.run(Quantities().verify(StepContext(trajectory, len(before))))


def found(text: str, problem: str = APPLES, before: Sequence[str] = ()) -> list[tuple[State, str, bool]]:
    return [(verdict.state, verdict.kind, verdict.exact) for verdict in verdicts(text, problem, before)]


@pytest.mark.parametrize(
    "text",
    [
        "2 hours = 120 minutes",
        r"\(3 \text{ feet} = 36 \text{ inches}\)",
        "1.5 kilograms equals 1500 grams",
        "2 weeks is equal to 14 days",
        "2 weeks = 10 days",  # of work
        "3 years = 36 months",
        "5 gallons = 20 quarts",
        "From 9:30 AM to 2:00 PM is 4.5 hours.",
        "from 10 pm until 6 am, which is 8 hours",
    ],
)
def test_conversions_and_durations_are_supported(text: str) -> None:
    assert [verdict.state for verdict in verdicts(text)] == [S]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2 hours = 100 minutes", "unit conversion"),
        (r"\(3 \text{ feet} = 30 \text{ inches}\)", "unit conversion"),
        ("2 weeks = 16 days", "unit conversion"),
        ("From 8:00 AM until 11:00 PM is 11 + 8 = 19 hours.", "duration"),
    ],
)
def test_wrong_conversions_and_durations_are_refuted(text: str, kind: str) -> None:
    assert found(text) == [(R, kind, True)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("On the map 1 inch = 20 miles.", "A map has a scale of 1 inch to 20 miles."),
        ("1 month = 30 days and 1 pound = 0.45 kilograms", APPLES),
        ("60 minutes per hour = 2 hours 10 minutes", APPLES),
        ("From 8 AM to 5 PM he works, with 1 hour for lunch, so 8 hours.", APPLES),
        ("5 + 3 hours = 480 minutes", APPLES),
    ],
)
def test_scales_roundings_and_parts_of_sums_are_left_alone(text: str, problem: str) -> None:
    assert not [verdict for verdict in verdicts(text, problem) if verdict.state is R]


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("20% of $400 is $80.", S),
        ("Since half of 10,000 is 5,000, he walked 5,000.", S),
        ("three times $2000 is $6000", S),
        ("1/4 of 12 eggs is 3 eggs", S),
        ("the sum of 3 and 4 is 7", S),
        ("33% of 10 is 3", A),  # rounded
        ("20% of $400 is $90.", R),
        ("half of 10,000 is 4,000", R),
        ("5 more than 16 is 20", R),
    ],
)
def test_arithmetic_in_words_is_decided(text: str, state: State) -> None:
    assert [verdict.state for verdict in verdicts(text)] == [state]


@pytest.mark.parametrize(
    "text",
    [
        "1/3 of 12 kg which is 12 kg * 1/3 = 4 kg",
        "3 more than half of 10 is 8",
        "half of 10 is 5 less than 10",
        "half of them is 3",
        "twice 5 times 3 is 30",
        "If 20% of 50 is 12, then what?",
    ],
)
def test_longer_phrases_are_left_alone(text: str) -> None:
    assert R not in [state for state, _, _ in found(text)]


def test_a_number_from_nowhere_is_refuted_and_a_misquoted_one_names_what_was_stated() -> None:
    assert found("She has 3 * 125 = 375 apples.") == []
    assert found("She has 375 - 48 = 327 apples.", before=["She has 3 * 125 = 375 apples."]) == []
    (misquoted,) = verdicts("She has 3 * 152 = 456 apples.")
    assert (misquoted.state, misquoted.kind, misquoted.evidence["stated"]) == (R, "misquoted quantity", "125")
    assert found("She has 3 * 9871 = 29613 apples.") == [(R, "unknown number", True)]


@pytest.mark.parametrize(
    "text",
    [
        "Each bag has 125 - 16 = 109 apples.",  # 48 / 3
        "That is 327 * 0.5 = 163.5, were she to halve them.",  # 3 * 125 - 48
        "In cents, 12500 / 100 = 125.",
        "375 = 300 + 75, so she has that many.",
        "If she had 9871 * 3 = 29613 apples, she could sell some.",
    ],
)
def test_what_mental_arithmetic_or_a_hypothesis_explains_is_not_refuted(text: str) -> None:
    assert R not in [state for state, _, _ in found(text)]


def test_perturbing_a_quantity_of_the_problem_is_noticed_mostly() -> None:
    noticed = 0
    numbers = range(131, 170, 3)
    for number in numbers:
        noticed += any(state is R for state, _, _ in found(f"She has 3 * {number} = {3 * number} apples."))
    assert noticed >= 0.6 * len(numbers)  # the others follow from known numbers by one operation


def test_a_length_is_no_number_of_things() -> None:
    problem = "Each 10-foot section of a redwood weighs 400 pounds. The redwood is 200 feet tall. How much does it weigh?"
    assert found("The weight is 200 sections * 400 pounds = 80000 pounds.", problem) == [(R, "another unit", True)]
    assert found("There are 200 feet / 10 feet = 20 sections.", problem) == []
    assert found("So 20 sections * 400 pounds = 8000 pounds.", problem, ["There are 200 / 10 = 20 sections."]) == []


def test_the_price_of_several_is_not_the_price_of_one() -> None:
    problem = "Three friends spent $20.25 on 3 tickets to the fair. How much do 5 tickets cost?"
    assert found("Each ticket costs $20.25.", problem) == [(R, "price of several", True)]
    assert found("Each ticket costs $20.25 / 3 = $6.75.", problem) == []
    assert found("Each ticket costs $20.25.", "They spent $20.25 on 3 tickets each. How much in all?") == []


def test_hours_and_minutes_are_not_the_hours_alone() -> None:
    problem = "The swim takes 40 minutes and the ride an hour and 20 minutes. How long do both take?"
    assert [kind for _, kind, _ in found("In all 40 minutes + 60 minutes = 100 minutes.", problem)] == ["misquoted quantity"]
    assert found("An hour is 60 minutes.", problem) == []
    assert found("The ride takes 60 minutes + 20 minutes = 80 minutes.", problem) == []


def test_what_a_discount_leaves_is_not_the_discount() -> None:
    problem = "A radiator costs $400 and is sold at 80% off. How much is it?"
    assert [kind for _, kind, _ in found("So, the discount is $80.", problem)] == ["wrong base"]
    assert found("So, the discount is $320.", problem) == []


def test_a_named_result_returns_as_it_was() -> None:
    before = ["Total expenses = $12,000 + $20,000 = $32,000."]
    problem = "Tan sold his house for $400 000, paid fees of $12,000 and $20,000. What is left?"
    assert found("Net proceeds = Selling price - Total expenses = $400,000 - $32,000 = $368,000.", problem, before) == []
    (refuted,) = [
        verdict
        for verdict in verdicts("Net proceeds = Selling price - Total expenses = $400,000 - $23,000 = $377,000.", problem, before)
        if verdict.kind == "misquoted result"
    ]
    assert refuted.state is R
    assert refuted.evidence["earlier"] == "32000"


def test_answers_come_from_somewhere_and_people_are_whole() -> None:
    before = ["She has 3 * 125 = 375 apples.", "She keeps 375 - 48 = 327 apples."]
    assert found("The answer is 327.", before=before) == []
    assert (R, "unknown answer", True) in found("The answer is 9327.", before=before)
    students = "A school shares 45 pupils among 4 buses. How many students ride in the first bus?"
    assert (R, "impossible kind", True) in found("The answer is 11.25.", students, ["45 / 4 = 11.25"])
    assert found("The answer is 11.25.", students.replace("How many", "On average, how many").replace("in the first", "in each"), ["45 / 4 = 11.25"]) == []
    assert found("The total is 12 * 4 = 48. The answer is 45.", before=["125 - 80 = 45"])[-1][1:] == ("not the last result", False)  # a doubt


def test_doubts_are_inexact() -> None:
    problem = "Rob runs 13 miles per day. How far does he run in 4 weeks?"
    assert found("He runs 13 miles per week.", problem) == [(R, "another rate", False)]


def test_numbers_of_a_text_are_read_in_every_way() -> None:
    assert {Fraction(3, 10), Fraction(7, 10), Fraction(13, 10), Fraction(30)} <= values("30% of them")
    assert {Fraction(2, 3), Fraction(1, 3)} <= values("two thirds of the 12 eggs")
    assert Fraction(450000) in values("450 000 people")
    assert Fraction(3000) in values("3 thousand")
    assert Fraction(17, 2) in values("at 8:30")
    assert Fraction(24) in values("two dozen") | values("2 dozen")
    assert {Fraction(1250), Fraction(1, 2)} <= values("1,250.00 and half")
    assert [(mention.value, mention.noun) for mention in mentions("5 red apples and twenty-one pears")] == [(5, "red"), (21, "pear")]
    assert Fraction(100) in derivable(frozenset(map(Fraction, (125, 25))))


def test_answers_are_found_in_their_usual_dress() -> None:
    for text in ("#### 1,250", r"So \boxed{1250}.", r"\boxed{\$1,250}", "The answer is 1250.", "The final answer is: $1250$"):
        answer = stated_answer(text)
        assert answer is not None, text
        assert answer[0] == 1250
    assert stated_answer("no answer") is None
    assert stated_answer(r"\boxed{x + 1}") is None


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=80, deadline=None)
def test_never_raises_on_any_text(problem: str, text: str) -> None:
    verdicts(text + " 3 hours = 5 minutes, The answer is 7", problem + " He has 5 apples and 7 pears.")


@pytest.mark.parametrize(
    "text",
    ["1" * 9000 + " hours = 3 minutes", "$" * 9000, "= 3 " * 4000, "A = " * 4000, "from 8 AM to " * 1500, "1/2 " * 4000, r"\boxed{" + "9" * 5000 + "}"],
    ids=lambda text: text[:8],
)
def test_hostile_text_is_left_alone(text: str) -> None:
    assert not [verdict for verdict in verdicts(text, text[:3000]) if verdict.state is S]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 hour 30 minutes = 5400 seconds.", APPLES),
        ("5 feet 6 inches is equal to 5.5 feet", APPLES),
        ("1 m 50 cm = 1500 mm, and 3 dollars 25 cents = 13 quarters", APPLES),
        ("90 minutes = 1 hour plus 30 minutes.", APPLES),
        ("1 day = 8 hours of work.", APPLES),
        ("40 hours = 5 days", "Tom works 8 hours a day for 5 days."),
        ("from 9 am to 5 pm for 5 days = 40 hours", APPLES),
        ("From 8 am to 5 pm = 9 - 1 = 8 hours", APPLES),
        ("From 6 am to 6 pm, his shift is 3 hours.", APPLES),
        ("We stay from 8 am to 5 pm, which is 8 hours without lunch.", APPLES),
        ("from 12 am to 12 am is 24 hours", APPLES),
        ("Half of 1 hour is 30 minutes.", APPLES),
        ("25% of 1 hour is 15 minutes, and half of 1 hour is 30.", APPLES),
        ("Three times 20 minutes is 1 hour.", APPLES),
        ("3 times 4 weeks is 84 days.", APPLES),
        ("Three times 8 ounces is 1.5 pounds.", APPLES),
        ("Half of 3 dozen is 18.", APPLES),
        ("The sum of 3 and 4 squared is 19.", APPLES),
    ],
)
def test_units_that_change_within_a_true_statement_refute_nothing(text: str, problem: str) -> None:
    assert [verdict for verdict in verdicts(text, problem) if verdict.state is State.REFUTED] == []
