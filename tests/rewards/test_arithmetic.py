"""tools:arithmetic decides what it can read exactly, refutes only what is false under every reading, and abstains from the rest."""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.rewards.arithmetic import ArithmeticVerifier, State, check, extract, verify

S, R, A = State.SUPPORTED, State.REFUTED, State.ABSTAIN


def states(text: str) -> list[State]:
    return [verdict.state for verdict in verify(text).verdicts]


TRUE = [
    "Tom's apples = 4 + 3 = 7.",
    "Ann's coins = 40 * 25 / 100 = 10.",
    "48 / 2 = 24 clips",
    "3 x 4 = 12. 3x4=12",
    "12 ÷ 4 − 1 = 2",
    r"\[ 40 \times 18 = 720 \text{ pounds per day} \]",
    r"so \(\frac{500}{2} = 250\) in all",
    r"$$\frac{1}{9} \cdot 810 = \boxed{90}.$$",
    r"\left( 3 + 4 \right) \times 2 = 14",
    r"\dfrac{1}{2} + \frac12 = 1",
    "120 doughnuts/day * 30 days = 3600 doughnuts in June.",
    r"144 \, \text{miles} - 90 \, \text{miles} = 54 \, \text{miles}",
    "$1,250.50 + $0.50 = $1,251",
    r"1{,}000 + 1 = 1{,}001",
    "100% - 20% = 80%",
    "20% of $400 = $80",
    "1/4 of 12 = 3",
    "2½ * 2 = 5",
    "5² + 2^3 - 3**2 = 24",
    r"5 \text{ cm} \times 3 \text{ cm} = 15 \text{ cm}^2",
    r"180^\circ - 140^\circ = 40^\circ",
    "10 / 3 = 3.33",
    "5/12 = 41.67%",
    r"10 / 3 \approx 3",
    "$20 (cost of super ticket) - $2 (savings) = $18",
    "3 plus 4 equals 7",
    "The bill is 12 divided: 24 / 2 = 12.",
    "x &= 5 + 3 \\\\ &= 8",
    "**Total: 3 + 4 = 7**",
    "-9 + (-8) = -17",
]


@pytest.mark.parametrize("text", TRUE)
def test_true_claims_are_supported(text: str) -> None:
    assert verify(text).state is S, verify(text)


FALSE = [
    ("3 + 4 = 8", "7", "8"),
    ("Tom's apples = 4 + 3 = 8.", "7", "8"),
    (r"so \( 32 - 4 = 27 \).", "28", "27"),
    (r"\frac{80(81)}{2} = 3380", "3240", "3380"),
    ("192*100 = $<<192*100=1920>>1920", "19200", "1920"),
    ("13 marbles + 4 marbles + 16 marbles = 45 marbles", "33", "45"),
    ("10 x 1,248 = 11,480", "12480", "11480"),
    ("17 / 5 = 9", "17/5", "9"),
    ("20% of $400 = $90", "80", "90"),
    ("1150 / 1,500 = .5", "23/30", "1/2"),
    ("2^10 = 1000", "1024", "1000"),
    ("580/110 = 5.2737272727272725", "58/11", "5.2737272727272725"),  # as long as a float, but wrong
]


@pytest.mark.parametrize(("text", "left", "right"), FALSE)
def test_false_claims_are_refuted_with_both_exact_values(text: str, left: str, right: str) -> None:
    result = verify(text)
    assert result.state is R, result
    (refuted,) = [verdict for verdict in result.verdicts if verdict.state is R]
    assert (refuted.left, refuted.right) == (Fraction(left), Fraction(right))
    assert refuted.claim.text in refuted.sentence


ABSTAINED = {
    "remainder": "1529 ÷ 6 = 254 with a remainder of 5",
    "rounded down": "17 / 5 = 3",
    "rounded up": "17 / 5 = 4 boxes",
    "cut off": "10 / 6 = 1.66",
    "decimals may be rounded": "3.33 * 3 = 10",
    "floating-point quotient": "580/110=5.2727272727272725",
    "floating-point product": "11/18*162=99.00000000000001",
    "percent as a unit": "(5 / 20) * 100 = 25%",
    "percent of what stands before": "$100 + 20% = $120",
    "dollars and cents": "3 * 25 = $0.75",
    "running total": "5 + 3 = 8 * 2",
    "calculator order": "5 + 3 * 2 = 16",
    "wide denominator": "12 / 3 * 2 = 2",
    "minus before power": "-3^2 = 9",
    "share of a whole": "1 - 1/4 = 24 students",
    "percent of a whole": "100% + 20% = 48",
    "mixed number": r"4\frac58 = 5",
    "mixed number in plain text": "2 1/2 + 1 = 4",
    "convertible units": "4 pounds - 6 ounces = 58 ounces",
    "unlike quantities": "3 pencils + 1 eraser = 124",
    "scale word": "3 dozen + 1 = 30",
    "scale word behind": "3 + 4 = 8 million",
    "letter glued on": "2 * 3 = 7x",
    "letter behind": "2 * 3 = 7 r",
    "variable": "2 + x = 7",
    "bracket behind": "2 * 3 = 7 (4 - 1)",
    "bracket before": "2(3 + 4 = 8)",
    "function": "f(3 + 4) = 9",
    "square root": r"\sqrt{9 + 16} = 5",
    "factorial": "3! = 7",
    "binomial": r"\binom{6}{3} = \frac{6 \times 5}{2}",
    "subscript": "a_1 + 3 = 9",
    "power behind": "2 * 3 = 7^x",
    "root behind": r"2 * 3 = 5 \sqrt{2}",
    "dots": "1 + 2 + ... + 10 = 50",
    "list before": "(3, 4 + 5 = 10",
    "list behind": "3 * 5 = 14, 20",
    "more words than signs": "5 times as many as 3 and 4 + 2 = 99",
    "than": "twice more than 4 + 2 = 12",
    "of": "twice the sum of 4 + 2 = 12",
    "number word": "three 4 + 2 = 18",
    "label": "Day 3 = 4 + 2",
    "named single number": "Bags of 5 = 3 + 4",
    "clock": "9:00 + 4 = 1",
    "leading zeros": "0900 + 0400 = 1",
    "ratio": "the ratio is 3 : 4 + 5 = 10",
    "remainders": "Modulo 5 we have 3 + 4 = 2.",
    "bases": "In base 5, 3 + 4 = 12.",
    "defined operation": "With the given operation, 3 * 4 = 11.",
    "comparison": "5 < 3 + 4 = 9",
    "other relation": r"3 + 4 \neq 8",
    "congruence": r"3 + 4 \equiv 2",
    "ellipsis of digits": "1 / 3 = 0.334...",
    "hypothesis": "Let us check whether 3 + 4 = 8.",
    "supposition": "Suppose 3 + 4 = 8.",
    "denial": "Then 3 + 4 = 8, which is impossible.",
    "question": "Is it true that 3 + 4 = 8?",
    "correction": "3 + 4 = 8. Wait, that is wrong.",
    "dash begins a line": "- 5 + 3 = -2",
    "goes on from the line above": "2 +\n3 + 4 = 9",
    "goes on in the next line": "3 + 4 = 9\n+ 2",
    "range": "3 + 4 = 8 to 10",
    "two units": "450 / 60 = 7 hours 30 minutes",
    "division by zero": "5 / 0 = 1",
    "unbalanced": "3 + 4) = 9",
    "time of day": "8 + 7 = 3 pm",
    "two of three": "2 of 5 * 3 = 15",
    "comma as decimal point": "3,5 + 1 = 5",
    "named divisor": "10 * 5/total = 3",
}


@pytest.mark.parametrize("text", ABSTAINED.values(), ids=ABSTAINED.keys())
def test_what_may_be_meant_otherwise_is_not_refuted(text: str) -> None:
    assert verify(text).state is A, verify(text)


def test_words_left_of_a_chain_do_not_hide_its_equalities() -> None:
    assert states("Total cost = 4 + 3 = 7 = 14 / 2") == [S, S]
    assert states("Total cost = 4 + 3 = 7 = 15 / 2") == [S, A]  # a bare number on the left is never refuted inside a chain
    assert states("f(3) = 3 + 4 = 8")[-1] is R


def test_definitions_and_equations_are_no_claims() -> None:
    for text in ("x = 5", "Day 1 = 5", "1 hour = 60 minutes", "2x + 3y = 7", "no numbers at all", "", "= = =", "5 = 5"):
        assert [claim for claim in extract(text) if not claim.obstacle] == [], text


def test_span_and_quote_agree_with_the_text() -> None:
    text = "First, 3 + 4 = 7 cats; then 2 * 7 = 15 dogs."
    claims = extract(text)
    assert [claim.text for claim in claims] == ["3 + 4 = 7", "2 * 7 = 15"]
    assert all(text[slice(*claim.span)] == claim.text for claim in claims)
    assert [check(claim).state for claim in claims] == [S, R]


def test_annotation_and_prose_that_say_the_same_count_once() -> None:
    text = "Natalia sold 48/2 = <<48/2=24>>24 clips."
    assert [claim.text for claim in extract(text)] == ["48/2=24"]
    assert states("She pays 6*2.5 = $<<6*3=18>>18") == [R, S]  # they differ: both are judged
    assert states("twice <<4+2=7>>7") == [R]  # no boundary words matter inside an annotation


def test_step_is_refuted_by_any_false_claim_and_supported_by_none_but_true_ones() -> None:
    assert verify("3 + 4 = 7. 2 + 2 = 5.").state is R
    assert verify("3 + 4 = 7. 17 / 5 = 3.").state is S
    assert verify("17 / 5 = 3.").state is A
    assert verify("17 / 5 = 3.").reason


# Metamorphic: the same arithmetic, written otherwise.

operands = st.integers(1, 5000)
operators = st.sampled_from(["+", "-", "*"])


def result(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


@given(operands, operators, operands, st.integers(-9, 9))
@settings(max_examples=80, deadline=None)
def test_rewriting_never_turns_support_into_refutation_nor_back(a: int, sign: str, b: int, slip: int) -> None:
    right = result(a, sign, b) + slip
    plain = verify(f"{a} {sign} {b} = {right}").state
    assert plain is (S if slip == 0 else R) or (plain is A and slip != 0)
    latex = sign.replace("*", r"\times")
    rewritten = [
        f"So the total is {a:,} {sign} {b:,} = {right:,}.",
        rf"\[ {a} {latex} {b} = {right} \]",
        rf"\({a} {latex} {b} = \boxed{{{right}}}\)",
        f"${a} {sign} ${b} = ${right}",
        f"{a} apples {sign} {b} apples = {right} apples" if sign != "*" else f"{a} apples * {b} = {right} apples",
        f"Their sum = {a} {sign} {b} = {right}",
        f"({a}){sign}({b})={right}",
        f"<<{a}{sign}{b}={right}>>",
    ]
    opposite = R if plain is S else S
    for text in rewritten:
        assert verify(text).state is not opposite, text


@given(st.lists(operands, min_size=3, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_chain_and_its_pieces_agree(numbers: list[int]) -> None:
    total = sum(numbers)
    halves = " + ".join(map(str, numbers))
    merged = " + ".join(map(str, [numbers[0] + numbers[1], *numbers[2:]]))
    assert verify(f"{halves} = {merged} = {total}").state is S
    assert verify(f"{halves} = {merged}").state is S
    assert verify(f"{merged} = {total}").state is S


# Safety.


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_never_raises_on_any_text(text: str) -> None:
    verify(text)
    verify(text + "= 3 + 4 =" + text)


@given(
    st.lists(
        st.sampled_from([*"0123456789+-*/^()={}%$.,:!\n &", "\\frac", "\\times", "**", "<<", ">>", " of ", "x", " apples", "½", "²", "\\text{", "≈", "="]),
        max_size=60,
    )
)
@settings(max_examples=250, deadline=None)
def test_never_raises_on_scrambled_arithmetic(pieces: list[str]) -> None:
    text = "".join(pieces)
    for verdict in verify(text).verdicts:
        assert verdict.reason
        assert text[slice(*verdict.claim.span)] == verdict.claim.text


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') = 3 + 4",
        "9**9**9**9 = 3",
        "9^9^9^9 = 3",
        "(" * 1_000_000 + "1 + 1 = 2" + ")" * 1_000_000,
        "(" * 1_000_000 + " = 3",
        "(" * 90 + "1" + ")" * 90 + " + 1 = 3",
        "1" * 20_000 + " + 1 = 3",
        "1/" * 20_000 + "1 = 3",
        "2^64^64 = 3",
        "<<" * 20_000 + "1+1=3",
        r"\frac{" * 5_000 + "1 = 3",
        "1 = " * 10_000,
        "-" * 40_000 + "1 = 3",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_ends_in_abstention(text: str) -> None:
    """Each of these would take for ever, or the whole stack, if it were evaluated or parsed without limits."""
    assert verify(text).state is A


# As a reward model.


def test_scores_supported_one_refuted_zero_and_abstained_nan() -> None:
    scores = asyncio.run(ArithmeticVerifier().score(Trajectory.from_texts(Problem("How many?"), ["3 + 4 = 7", "Let us see.", "7 * 2 = 15"])))
    assert scores.values[0] == 1.0
    assert scores.values[2] == 0.0
    assert math.isnan(scores.values[1])
    assert scores.reasons[1] is not None
    assert scores.reasons[1].startswith("abstained")
    assert scores.first_error() == 2
    assert scores.n_failed == 0
    assert scores.rationales[2] is not None
    assert "'7 * 2 = 15'" in scores.rationales[2]
    assert scores.source["model"] == ArithmeticVerifier().fingerprint == "tools:arithmetic/2"


def test_no_steps_give_no_scores_and_a_problem_about_bases_gives_abstentions() -> None:
    verifier = ArithmeticVerifier()
    assert len(asyncio.run(verifier.score(Trajectory(Problem("Empty."))))) == 0
    bases = asyncio.run(verifier.score(Trajectory.from_texts(Problem("Add 3 and 4 in base 5."), ["3 + 4 = 12"])))
    assert bases.first_error() == -1


def test_a_step_is_judged_by_its_own_text_alone() -> None:
    verifier = ArithmeticVerifier()
    steps = ["3 + 4 = 8", "5 * 2 = 10", "10 / 5 = 2"]
    whole = asyncio.run(verifier.score(Trajectory.from_texts(Problem("P"), steps)))
    for k in range(1, 4):
        prefix = asyncio.run(verifier.score(Trajectory.from_texts(Problem("P"), steps[:k])))
        assert prefix.values.tolist() == whole.values[:k].tolist()


# Problems that are one expression, solved in named parts.

EXPRESSION = "((4 + 7) * (2 - -3)) - (6 * 2) ="
PARTS = [
    'This equation can be written as "A * B - C", where A = (4 + 7), B = (2 - -3) and C = (6 * 2).',
    "Let's calculate A = (4 + 7) = 11.",
    "Let's calculate B = (2 - -3) = (2 + 3) = 5.",
    "Let's calculate C = (6 * 2) = 12.",
    "Then, the final equation is A * B - C = 11 * 5 - 12 = 55 - 12 = 43. So the answer is 43.",
]


def first_error(steps: list[str]) -> int | None:
    return asyncio.run(ArithmeticVerifier().score(Trajectory.from_texts(Problem(EXPRESSION), steps))).first_error()


def test_parts_of_an_expression_are_checked_against_it_and_against_each_other() -> None:
    scores = asyncio.run(ArithmeticVerifier().score(Trajectory.from_texts(Problem(EXPRESSION), PARTS)))
    assert scores.values[1:].tolist() == [1.0] * 4
    assert scores.first_error() == -1


@pytest.mark.parametrize(
    ("index", "old", "new"),
    [
        (0, "A * B - C", "A * B + C"),  # another expression
        (1, "= 11", "= 12"),
        (1, "(4 + 7)", "(4 + 8)"),  # no longer what step 0 called A
        (2, "(2 + 3)", "(2 - 3)"),
        (4, "11 * 5 - 12 = 55", "11 * 6 - 12 = 66"),  # an earlier result misquoted
        (4, "answer is 43", "answer is 44"),
    ],
)
def test_each_slip_in_the_parts_is_refuted_where_it_stands(index: int, old: str, new: str) -> None:
    steps = list(PARTS)
    assert old in steps[index]
    steps[index] = steps[index].replace(old, new)
    assert first_error(steps) == index


def test_a_chain_is_checked_around_a_side_that_cannot_be_read() -> None:
    assert first_error([PARTS[0], "Let's calculate A = (4 + 7) = (4 + 7)) = 12."]) == 1


def test_hostile_expressions_are_abstained_from() -> None:
    problem = "1" + " + (1" * 200 + ")" * 200 + " ="
    for text in ("A = 9^64^64 = 3", "A = " + "(" * 500 + "1 = 2", "A = 1/0 = 3", "the answer is " + "9" * 500):
        scores = asyncio.run(ArithmeticVerifier().score(Trajectory.from_texts(Problem(problem), [text])))
        assert scores.first_error() == -1, text
