"""Choosing among candidates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepward.core import CountMismatch
from stepward.search import argmax, majority_vote, weighted_vote

NAN = math.nan


def test_ties_go_to_the_first() -> None:
    assert argmax([0.5, 0.7, 0.7]) == 1
    assert majority_vote(["a", "b", "b", "a"]) == 0
    assert weighted_vote(["a", "b"], [0.5, 0.5]) == 0


def test_unknown_never_beats_known() -> None:
    assert argmax([NAN, 0.0, NAN]) == 1
    assert weighted_vote(["a", "a", "b"], [NAN, NAN, 0.01]) == 2
    assert argmax([NAN, NAN]) is None
    assert argmax([]) is None


def test_candidates_without_an_answer_do_not_vote() -> None:
    assert majority_vote([None, None, "a"]) == 2
    assert majority_vote([None, None]) is None


def test_the_winner_is_represented_by_its_best_candidate() -> None:
    assert weighted_vote(["a", "b", "a"], [0.3, 0.5, 0.4]) == 2


def test_negative_weights_are_mapped_so_that_a_vote_never_counts_against_its_answer() -> None:
    """Sums of raw logits would elect "b" here: -1 - 1 - 1 < -2."""
    assert weighted_vote(["a", "a", "a", "b", "c"], [-1.0, -1.0, -1.0, -2.0, -9.0]) == 0


def test_equal_negative_weights_are_a_plain_majority() -> None:
    assert weighted_vote(["a", "b", "b"], [-3.0, -3.0, -3.0]) == 1


def test_lengths_must_agree() -> None:
    with pytest.raises(CountMismatch, match="2 answers but 1 weights"):
        weighted_vote(["a", "b"], [1.0])


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.just(NAN), st.floats(0, 1))), max_size=12))
def test_weighted_vote_is_the_argmax_of_summed_weights(rows: list[tuple[str | None, float]]) -> None:
    answers, weights = [row[0] for row in rows], [row[1] for row in rows]
    chosen = weighted_vote(answers, weights)
    totals = {a: sum(w for b, w in rows if b == a and not math.isnan(w)) for a, v in rows if a is not None and not math.isnan(v)}
    if chosen is None:
        assert not totals
    else:
        assert totals[answers[chosen]] == pytest.approx(max(totals.values()))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(-8, 8)), max_size=12), st.integers(-20, 20))
def test_a_vote_on_a_scale_without_a_zero_does_not_change_with_a_constant(rows: list[tuple[str | None, int]], constant: int) -> None:
    answers = [row[0] for row in rows]
    chosen = weighted_vote(answers, [float(row[1]) for row in rows], signed=True)
    assert chosen == weighted_vote(answers, [float(row[1] + constant) for row in rows], signed=True)


def test_the_zero_of_logits_does_not_decide() -> None:
    for shift in (0.0, -4.0):
        assert weighted_vote(["a", "a", "b"], [3.0 + shift, 3.0 + shift, 5.0 + shift], signed=True) == 2
    assert weighted_vote(["a", "a", "b"], [3.0, 3.0, 5.0]) == 0
