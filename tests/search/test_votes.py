"""Voting rules and stopping rules: limits, invariances, and published results on real dumps."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stepward.core import CountMismatch, InputError, aggregate
from stepward.search.choose import argmax, frequency_reward_vote, hybrid_vote, majority_vote, node_weighted_vote, pairwise_choice, weighted_vote
from stepward.search.consensus import BetaMajority, Certain, Window, lead, votes_needed

ANSWERS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=9)


@st.composite
def ballots(draw: Any) -> tuple[list[str | None], list[float]]:
    answers = draw(ANSWERS)
    return answers, draw(st.lists(st.floats(0.0, 1.0), min_size=len(answers), max_size=len(answers), unique=True))


@given(ballots())
def test_the_ends_of_hybrid_votes_are_the_majority_and_the_best(ballot: tuple[list[str | None], list[float]]) -> None:
    answers, weights = ballot
    assert hybrid_vote(answers, weights, consensus=0.0) == (majority_vote(answers) if any(answers) else argmax(weights))
    with_answer = [weight if answer else math.nan for answer, weight in zip(answers, weights, strict=True)]
    assert hybrid_vote(answers, weights, consensus=1.1) == (argmax(with_answer) if any(answers) else argmax(weights))


@given(ballots())
def test_the_ends_of_frequency_reward_votes_are_the_majority_and_the_largest_mean(ballot: tuple[list[str | None], list[float]]) -> None:
    answers, weights = ballot
    chosen = frequency_reward_vote(answers, weights, alpha=0.0)
    counts = Counter(answer for answer in answers if answer)
    if chosen is None:
        assert not counts
        return
    assert counts[answers[chosen]] == max(counts.values())
    means = {answer: np.mean([w for a, w in zip(answers, weights, strict=True) if a == answer]) for answer in counts}
    assert answers[frequency_reward_vote(answers, weights, alpha=1.0)] == max(means, key=lambda answer: means[answer])  # type: ignore[index]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 64)), min_size=1, max_size=9), st.randoms(use_true_random=False), st.integers(-8, 8))
def test_votes_do_not_depend_on_the_order_or_on_a_constant(ballot: list[tuple[str, int]], draw: random.Random, constant: int) -> None:
    mixed = list(ballot)
    draw.shuffle(mixed)

    def winner(votes: list[tuple[str, int]], rule: Any, shift: int = 0) -> str:
        answers, weights = [answer for answer, _ in votes], [(weight + shift) / 64 for _, weight in votes]
        return answers[rule(answers, weights)]

    counts = Counter(answer for answer, _ in ballot).most_common(2)
    if len(counts) < 2 or counts[0][1] > counts[1][1]:  # with ties the first counts, on purpose
        for rule in (frequency_reward_vote, lambda a, w: frequency_reward_vote(a, w, alpha=0.25)):
            assert winner(ballot, rule, constant * 64) == winner(ballot, rule) or _tied(ballot)
            assert winner(mixed, rule) == winner(ballot, rule) or _tied(ballot)
        assert winner(mixed, lambda a, w: hybrid_vote(a, w, consensus=0.0)) == winner(ballot, lambda a, w: hybrid_vote(a, w, consensus=0.0))


def _tied(ballot: list[tuple[str, int]]) -> bool:
    """Whether two answers come out equal, up to rounding."""
    from fractions import Fraction

    answers = sorted({answer for answer, _ in ballot})
    mean = {a: Fraction(sum(w for b, w in ballot if b == a), sum(b == a for b, _ in ballot)) for a in answers}
    share = {a: Fraction(sum(b == a for b, _ in ballot)) for a in answers}

    def norm(numbers: dict[str, Fraction]) -> dict[str, Fraction]:
        low, high = min(numbers.values()), max(numbers.values())
        return {a: (x - low) / (high - low) if high > low else Fraction(0) for a, x in numbers.items()}

    for alpha in (Fraction(1, 2), Fraction(1, 4)):
        totals = sorted((alpha * norm(mean)[a] + (1 - alpha) * norm(share)[a] for a in answers), reverse=True)
        if len(totals) > 1 and totals[0] == totals[1]:
            return True
    return False


def test_hand_cases() -> None:
    answers, weights = ["a", "a", "b", "c"], [0.2, 0.2, 0.9, math.nan]
    assert hybrid_vote(answers, weights) == 0, "half of the voters agree"
    assert hybrid_vote(answers, weights, consensus=0.6) == 2
    assert frequency_reward_vote(answers, weights, alpha=0.5) == 0, "1/2 x 0 + 1/2 x 1 = 1/2 x 1 + 1/2 x 0: the first"
    assert frequency_reward_vote(answers, weights, alpha=0.51) == 2
    assert frequency_reward_vote([None, None], [0.1, 0.2]) is None
    paths = [[0, 1, 2], [0, 1, 3], [0, 4, 5]]
    assert node_weighted_vote(["x", "y", "y"], paths, [0.0, 0.5, 0.3, 0.1, 0.1, 0.2]) == 1, "0.5 + 0.1 + 0.1 + 0.2 > 0.5 + 0.3"
    assert node_weighted_vote(["x", "y", "y"], paths, [0.0, 0.5, 0.3, math.nan, 0.1, 0.1]) == 0
    for call in (
        lambda: hybrid_vote(["a"], []),
        lambda: frequency_reward_vote(["a"], []),
        lambda: node_weighted_vote(["a"], [], []),
        lambda: pairwise_choice([[0.5], []]),
    ):
        with pytest.raises(CountMismatch):
            call()
    with pytest.raises(InputError, match="alpha"):
        frequency_reward_vote(["a"], [1.0], alpha=2.0)
    with pytest.raises(InputError, match="consensus"):
        hybrid_vote(["a"], [1.0], consensus=-1.0)


def test_pairs_find_the_best_of_every_transitive_order() -> None:
    for order in itertools.permutations(range(4)):
        wins = [[0.5 if i == j else float(order[i] < order[j]) for j in range(4)] for i in range(4)]
        assert pairwise_choice(wins) == order.index(0)
    assert pairwise_choice([[0.5, 0.9], [0.9, 0.5]]) == 0, "who wins whenever asked first has no lead"
    assert pairwise_choice([[0.5, math.nan, 0.9], [math.nan, 0.5, math.nan], [0.2, math.nan, 0.5]]) == 0
    assert pairwise_choice([]) is None
    assert pairwise_choice([[0.5]]) == 0


def test_the_lead_is_the_beta_tail() -> None:
    for first in range(0, 30, 3):
        for second in range(0, 30, 4):
            assert lead(first, second) == pytest.approx(stats.beta(first + 1, second + 1).sf(0.5), abs=1e-12)


@given(ANSWERS)
def test_what_is_certain_is_what_all_votes_say(answers: list[str | None]) -> None:
    needed = votes_needed(answers, Certain(len(answers)))
    chosen, early = majority_vote(answers), majority_vote(answers[:needed])
    assert (None if chosen is None else answers[chosen]) == (None if early is None else answers[early])


def test_stopping_rules_stop_where_they_say() -> None:
    assert votes_needed(["a"] * 10, BetaMajority(0.95)) == 4, "P = 1 - 1/2^5"
    assert votes_needed(["a", "b"] * 10, BetaMajority(0.95)) == 20
    assert votes_needed(["a", "b", "b", "b", "b", "b"], Window(3)) == 6
    assert votes_needed([None] * 6, Window(3)) == 6
    assert votes_needed([None] * 6, BetaMajority()) == 6
    with pytest.raises(InputError, match="confidence"):
        BetaMajority(1.0)


def rows(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt") as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.parametrize(("how", "percent"), [("min", 15.32), ("product", 17.18), ("mean", 15.11), ("last", 18.22)])
def test_published_best_of_ten_on_rewardmath_to_the_digit(how: str, percent: float, shared_data: Path) -> None:
    found = rows(shared_data / "prm_scores" / "rewardmath_math_shepherd.jsonl.gz")
    right = [argmax([aggregate(scores, how) for scores in row["score"]]) == 0 for row in found]
    assert len(right) == 483
    assert round(100 * sum(right) / len(right), 2) == percent


def test_published_choices_on_math_to_the_digit(shared_data: Path) -> None:
    found = rows(shared_data / "candidates" / "math_100x8_qwen_rm.jsonl.gz")

    def accuracy(choose: Any) -> float:
        return sum(row["score"][choose(row)] for row in found) / len(found)

    weights = [[score for (score,) in row["pred_score"]] for row in found]
    by_row = {id(row): weight for row, weight in zip(found, weights, strict=True)}
    assert len(found) == 100
    assert np.mean([row["score"] for row in found]) == pytest.approx(0.91)
    assert accuracy(lambda row: majority_vote(row["pred"])) == 0.93
    assert accuracy(lambda row: argmax(by_row[id(row)])) == 0.94
    assert sum(any(row["score"]) for row in found) / len(found) == 0.96
    assert accuracy(lambda row: hybrid_vote(row["pred"], by_row[id(row)], consensus=1.1)) == 0.94
    assert accuracy(lambda row: hybrid_vote(row["pred"], by_row[id(row)], consensus=0.0)) == 0.93
    assert 0.93 <= accuracy(lambda row: weighted_vote(row["pred"], by_row[id(row)])) <= 0.96


def test_votes_on_aime_are_exact_to_the_counts(shared_data: Path) -> None:
    found = rows(shared_data / "candidates" / "votes_aime2024.jsonl.gz")
    assert len(found) == 330
    for row in found:
        counts = Counter(row["answers"])
        chosen = majority_vote(row["answers"])
        assert chosen is not None
        assert counts[row["answers"][chosen]] == max(counts.values())
        needed = votes_needed(row["answers"], Certain(len(row["answers"])))
        early = majority_vote(row["answers"][:needed])
        assert early is not None
        assert row["answers"][early] == row["answers"][chosen], "certain means the same answer, for fewer tokens"
    stopped = [votes_needed(row["answers"], BetaMajority(0.95)) for row in found]
    kept = [row["answers"][majority_vote(row["answers"][:n])] == row["answers"][majority_vote(row["answers"])] for row, n in zip(found, stopped, strict=True)]  # type: ignore[index]
    spent = sum(sum(row["tokens"][:n]) for row, n in zip(found, stopped, strict=True)) / sum(sum(row["tokens"]) for row in found)
    assert np.mean(kept) > 0.95
    assert spent < 0.4


def test_a_share_that_is_reached_exactly_is_reached() -> None:
    """7 of 25 is 0.28, though 0.28 x 25 is more than 7 in floating point."""
    answers = ["a"] * 7 + [f"other {index // 3}" for index in range(18)]
    assert hybrid_vote(answers, [0.0] * 24 + [1.0], consensus=0.28) == 0
