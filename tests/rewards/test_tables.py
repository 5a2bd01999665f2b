"""What steps say about tables is checked against the table: nothing true is refuted, and swapping two cells turns the verdict."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from stepward.core import Problem, Trajectory
from stepward.engine.loop import run_sync
from stepward.rewards.tables import TableVerifier, tables_of
from stepward.rewards.verifiers import State, StepContext, Verdict

pytest.importorskip("duckdb", reason="the tools extra is not installed")
VERIFIER = TableVerifier()
PROMPT = """How do the towns compare?

| Town | Population | Area (km2) | Share | Mayor |
|:-----|-----------:|---|---|---|
| Oak Hill | 1,250 | 10.5 | 20% | Ann |
| Elm | 700 | 8 | 35% | Bob |
| Ash | 2,050 | 12.25 | 45% | Cy |

Which is the largest?"""


def verdicts(text: str, prompt: str = PROMPT, **metadata: object) -> list[Verdict]:
    trajectory = Trajectory.from_texts(Problem(prompt, metadata=metadata), [text])
    return run_sync(VERIFIER.verify(StepContext(trajectory, 0)))


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("The population of Oak Hill is 1250.", ["supported"]),
        ("Oak Hill's population was 1,251 then.", ["refuted"]),
        ("The Population of Elm is 700 and the area (km2) of Elm is 9.", ["supported", "refuted"]),
        ("- So, in the table, the population of Elm is 800, and the population of Ash is 2,050 people.", ["refuted", "supported"]),
        ("The total population is 4,000.", ["supported"]),
        ("The sum of the population column is 4,100.", ["refuted"]),
        ("The average population is 1,333.33.", ["supported"]),
        ("The average population is 1,333.43.", ["refuted"]),
        ("The largest population is 2050; the lowest population is 700.", ["supported", "supported"]),
        ("The population of Ash is about 2,000.", []),
        ("The population of Ash is not 2,000.", []),
        ("If the population of Ash is 2,000, then...", []),
        ("The share of Elm is 35%.", ["supported"]),
        ("The share of Elm is 0.35.", ["abstain"]),
        ("The population of Elm is 700 thousand.", []),
        ("The population of Elm is 700 more than nothing.", []),
        ("The population of Pine is 3.", []),
        ("The mayor of Elm is Bob.", []),
        ("The average population of Elm is 600.", []),
        ("The total population of the two towns is 900 where shares differ.", []),
    ],
)
def test_claims_are_read_in_full_or_not_at_all(text: str, states: list[str]) -> None:
    assert [verdict.state for verdict in verdicts(text)] == states


@pytest.mark.parametrize(
    "text",
    [
        "The sum of the population of Elm and the population of Ash is 2,750.",
        "The population of Elm plus the population of Ash is 2,750.",
        "Twice the population of Elm is 1,400.",
        "Half of Elm's population is 350, and Elm and Ash's population is 2,750.",
        "The difference between the largest and the smallest population is 1,350.",
        "The second largest population is 1,250.",
        "The population of Elm is 0.7 thousand.",
        "The area (km2) of Ash is 12.25 million square meters.",
        "The share of Elm is 15.5% higher than 19.5%.",
        "The previous population of Elm is 650.",
        "Ignoring Oak Hill, the average of the population is 1,375.",
        "The male population of Elm is 350.",
        "The population of Elm is 1,350 below the largest.",
        "The population of Elm is 700 = 7 * 100, which is 7 hundreds.",
    ],
)
def test_nothing_true_is_refuted(text: str) -> None:
    assert [verdict for verdict in verdicts(text) if verdict.state is State.REFUTED] == []


def test_a_name_within_a_longer_name_is_not_read() -> None:
    table = {"columns": ["item", "price", "unit price"], "rows": [["tea", 12, 3], ["rye", 8, 4]]}
    assert [verdict.state for verdict in verdicts("The unit price of tea is 3. The price of tea is 12.", "x", tables={"t": table})] == ["supported"] * 2
    assert [verdict.state for verdict in verdicts("The unit price of tea is 12.", "x", tables={"t": table})] == ["refuted"]


def test_a_total_that_does_not_say_of_what_is_only_doubted() -> None:
    [implied] = verdicts("So the total population is 1,950.")
    [said] = verdicts("The sum of the population column is 1,950.")
    assert (implied.state, implied.exact, said.state, said.exact) == (State.REFUTED, False, State.REFUTED, True)


def test_what_has_two_readings_is_abstained_from() -> None:
    twice = {"columns": ["town", "size"], "rows": [["Elm", 1], ["Elm", 2], ["Ash", 3]]}
    assert verdicts("The size of Elm is 2.", "x", tables={"t": twice}) == [], "two rows of one name"
    other = {"columns": ["town", "size"], "rows": [["Ash", 4]]}
    assert [verdict.state for verdict in verdicts("The size of Ash is 3.", "x", tables={"t": twice, "u": other})] == [State.ABSTAIN]
    thousands = {"columns": ["town", "sales (thousand)"], "rows": [["Ash", 4]]}
    assert [verdict.state for verdict in verdicts("The sales (thousand) of Ash is 5.", "x", tables={"t": thousands})] == [State.ABSTAIN]
    assert tables_of(Problem("no | table here\n1 | 2 | 3\n")) == []


def test_in_random_tables_true_claims_hold_false_ones_fall_and_swaps_turn_them() -> None:
    draw = random.Random(0)
    names = ["Oak", "Elm", "Ash", "Fir", "Yew", "Box"]
    for _ in range(25):
        n_rows, decimals = draw.randint(2, 6), draw.choice((0, 0, 1, 2))
        cells = draw.sample(range(10, 5000), n_rows * 2)
        shown = [f"{cell / 10**decimals:.{decimals}f}" for cell in cells]
        rows = [[names[row], shown[2 * row], shown[2 * row + 1]] for row in range(n_rows)]
        table = {"columns": ["tree", "height", "weight"], "rows": rows}
        row, other = draw.sample(range(n_rows), 2)
        claim = f"The height of {names[row]} is {rows[row][1]}."
        total = sum(Fraction(one[2]) for one in rows)
        sums = f"The total weight is {float(total):.{decimals}f}. The average weight is {float(total / n_rows):.{decimals + 2}f}."
        assert [verdict.state for verdict in verdicts(f"{claim} {sums}", "x", tables={"t": table})] == ["supported"] * 3
        swapped = [list(one) for one in rows]
        swapped[row][1], swapped[other][1] = swapped[other][1], swapped[row][1]
        assert [verdict.state for verdict in verdicts(claim, "x", tables={"t": {**table, "rows": swapped}})] == ["refuted"]
        wrong = f"The total weight is {float(total) + draw.choice((-3, -1, 1, 7)):.{decimals}f}."
        assert [verdict.state for verdict in verdicts(wrong, "x", tables={"t": table})] == ["refuted"]


def test_no_text_makes_it_raise() -> None:
    draw = random.Random(1)
    pieces = ["the ", "population", " of ", "Elm", " is ", "7", "00", ",", ".", "|", "\n", "--", "’s ", "sum ", "\ud800", "½", "average ", "9" * 50]
    for _ in range(300):
        verdicts("".join(draw.choice(pieces) for _ in range(draw.randint(1, 25))))
