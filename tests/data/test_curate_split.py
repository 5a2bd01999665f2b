"""Development problems are never training problems."""

from __future__ import annotations

import pytest

from stepward.core import Example, InputError, Problem, Trajectory
from stepward.data.curate import split_by_problem, split_in_two


def examples(n: int) -> list[Example]:
    """Two solutions of each problem: one row knows the reference answer, the other does not, and spaces the question differently."""
    rows = []
    for index in range(n):
        rows.append(Example(Trajectory.from_texts(Problem(f"What is {index} + 1?", answer=str(index + 1)), ["a"]), id=f"{index}-known"))
        rows.append(Example(Trajectory.from_texts(Problem(f"What is  {index} + 1?\n"), ["b"]), id=f"{index}-unknown"))
    return rows


def questions(rows: list[Example]) -> set[str]:
    return {row.id.split("-")[0] for row in rows}


def test_a_question_is_on_one_side_only_however_it_was_recorded() -> None:
    training, dev = split_in_two(examples(50), dev_share=0.2)
    assert len(training) + len(dev) == 100
    assert len(questions(dev)) == 10
    assert not questions(training) & questions(dev)


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    rows = examples(20)
    dev = questions(split_in_two(rows, dev_share=0.3)[1])
    assert questions(split_in_two(rows[::-1], dev_share=0.3)[1]) == dev
    assert questions(split_in_two(rows, dev_share=0.3, seed=1)[1]) != dev


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_neither_side_is_ever_empty(share: float) -> None:
    training, dev = split_in_two(examples(2), dev_share=share)
    assert len(training) == len(dev) == 2


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(InputError, match="from 1 problem"):
        split_in_two(examples(1), dev_share=0.5)
    with pytest.raises(InputError, match="dev_share"):
        split_in_two(examples(2), dev_share=1.0)


def test_three_parts_share_no_question_and_lose_none() -> None:
    rows = examples(50)
    parts = split_by_problem(rows, {"train": 0.7, "dev": 0.2, "test": 0.1}, seed=3)
    assert [len(questions(part)) for part in parts.values()] == [35, 10, 5]
    assert sorted(row.id for part in parts.values() for row in part) == sorted(row.id for row in rows)
    few = split_by_problem(examples(3), {"train": 0.98, "dev": 0.01, "test": 0.01})
    assert [len(questions(part)) for part in few.values()] == [1, 1, 1]


@pytest.mark.parametrize("shares", [{}, {"train": 1.2, "dev": -0.2}, {"train": 0.5, "dev": 0.4}])
def test_shares_must_be_shares(shares: dict[str, float]) -> None:
    with pytest.raises(InputError, match="positive and sum to 1"):
        split_by_problem(examples(4), shares)
    with pytest.raises(InputError, match="cannot split 1 problem"):
        split_by_problem(examples(1), {"train": 0.5, "dev": 0.5})
