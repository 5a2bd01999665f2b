"""Votes of judges: pure functions against enumeration, the binomial law, and a case where two ways of voting differ."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tests.labeling.judged import WORLD, solved, truths

from stepward.core import NO_ERROR, StepScores
from stepward.labeling.decoders import first_zero
from stepward.labeling.judges.votes import Tally, first_error_vote, outcome_vote, right_by_majority, step_vote, tallies, verdicts_of
from stepward.testing.noisy_judge import NoisyJudge


def test_a_step_vote_is_the_majority_and_a_tie_is_none() -> None:
    for votes in product((True, False, None), repeat=4):
        right, wrong = sum(vote is True for vote in votes), sum(vote is False for vote in votes)
        assert step_vote([[vote] for vote in votes]) == ((None if right == wrong else right > wrong),)
        assert tallies([[vote] for vote in votes]) == (Tally(right, wrong),)


def test_the_first_zero_of_the_step_vote_is_not_the_vote_on_the_first_error() -> None:
    """Three judges: two call step 0 right, two call step 1 wrong, but no two name the same first error: the steps have a majority, the index has none.
    Five judges: step 0 is right by majority though it is the most frequent first error."""
    three = [[False, True, True], [True, False, True], [True, True, False]]
    assert step_vote(three) == (True, True, True)
    assert first_error_vote(three) is None
    pair = [[False, False, True], [True, False, True], [True, True, True]]
    assert first_zero(step_vote(pair)) == 1
    assert first_error_vote(pair) is None
    five = [[False, False, True], [False, False, True], [True, False, True], [True, True, False], [True, True, True]]
    assert first_zero(step_vote(five)) == 1
    assert first_error_vote(five) == 0


def test_votes_on_the_whole() -> None:
    assert outcome_vote([[True, True], [True, True], [False, True]]) is True
    assert outcome_vote([[True, False], [True, True]]) is None
    assert first_error_vote([[True, True], [True, True], [True, False]]) == NO_ERROR
    assert first_error_vote([[None, False], [True, False], [True, False]]) == 1, "a draw whose first error is hidden has no vote"
    assert first_error_vote([]) is None
    assert outcome_vote([[None], [None]]) is None


def test_verdicts_use_the_models_own_threshold() -> None:
    scores = StepScores(np.array([0.29, 0.3, np.nan]), (None, None, "abstained: no"), threshold=0.3)
    assert verdicts_of(scores) == (False, True, None)


def test_confidence_is_the_smoothed_share_of_the_majority() -> None:
    assert Tally(5, 0).confidence == 6 / 7
    assert Tally(1, 3).confidence == 4 / 6
    assert math.isnan(Tally(2, 2).confidence)
    assert math.isnan(Tally(0, 0).share)


@pytest.mark.parametrize("n", [1, 3, 5, 9])
def test_right_by_majority_equals_enumeration(n: int) -> None:
    for accuracy in (0.4, 0.7, 1.0):
        enumerated = sum(math.prod(accuracy if right else 1 - accuracy for right in votes) for votes in product((True, False), repeat=n) if sum(votes) > n / 2)
        assert math.isclose(right_by_majority(n, accuracy), enumerated)


def vote_accuracy(n: int, shared: float) -> tuple[float, int]:
    """Accuracy of the majority of n noisy verdicts a step, each right with chance 0.7, and how many steps."""
    cases = solved(150)
    noisy = NoisyJudge(WORLD, false_alarm=0.3, miss=0.3, k=n, shared=shared, seed=11)
    right = []
    for case, truth in zip(cases, truths(cases), strict=True):
        for step, good in enumerate(truth.hard):
            verdicts = noisy.verdicts(case, step, good)
            right.append(step_vote([[bool(verdict)] for verdict in verdicts])[0] == good)
    return float(np.mean(right)), len(right)


def test_independent_votes_follow_the_binomial_tail_and_shared_noise_saturates() -> None:
    """With independent judges accuracy is the binomial tail at every n. With noise shared half of the time the same number of votes stays at
    1/2 p + 1/2 tail(n), which 9 votes do not lift above (1 + p) / 2."""
    for n in (1, 3, 9):
        tail = right_by_majority(n, 0.7)
        for shared, expected in ((0.0, tail), (0.5, 0.5 * 0.7 + 0.5 * tail), (1.0, 0.7)):
            found, steps = vote_accuracy(n, shared)
            assert abs(found - expected) < 3 * math.sqrt(expected * (1 - expected) / steps), (n, shared, found, expected)
    assert vote_accuracy(9, 0.5)[0] < 0.87 < vote_accuracy(9, 0.0)[0]
