"""Claims about choosing among samples, checked against enumeration."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import InputError
from stepward.evaluation import bon_curve, bon_exact, majority_at_n, pass_at_k
from stepward.evaluation.selection import subsets, vote
from stepward.search import weighted_vote

NAN = math.nan


def brute_best(scores: list[float], correct: list[float], n: int) -> float:
    """Enumerate subsets; ties at the top share the credit of the whole tied block, unknown scores lose."""
    ranks = [-math.inf if math.isnan(score) else score for score in scores]
    block = [np.mean([c for r, c in zip(ranks, correct, strict=True) if r == rank]) for rank in ranks]
    return float(np.mean([block[max(chosen, key=lambda i: ranks[i])] for chosen in combinations(range(len(scores)), n)]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, NAN]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=7))
def test_bon_exact_is_the_mean_over_all_subsets(samples: list[tuple[float, float]]) -> None:
    scores, correct = [s for s, _ in samples], [c for _, c in samples]
    for n in range(1, len(samples) + 1):
        assert bon_exact(scores, correct, n) == pytest.approx(brute_best(scores, correct, n))


def test_the_ends_of_the_curve_are_the_mean_and_the_best() -> None:
    rng = np.random.default_rng(0)
    scores, correct = rng.random(16), (rng.random(16) < 0.5).astype(float)
    curve = bon_curve(scores, correct)
    assert curve[0] == pytest.approx(correct.mean())
    assert curve[-1] == pytest.approx(correct[scores.argmax()])


def test_the_outcome_as_score_gives_pass_at_n_and_a_constant_gives_the_mean() -> None:
    correct = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    for n in range(1, 7):
        assert bon_exact(correct, correct, n) == pytest.approx(pass_at_k(6, 2, n))
        assert bon_exact(np.full(6, 0.3), correct, n) == pytest.approx(correct.mean())
        assert bon_exact(np.full(6, NAN), correct, n) == pytest.approx(correct.mean())


def test_best_of_n_does_not_change_under_an_increasing_map() -> None:
    rng = np.random.default_rng(1)
    scores, correct = rng.random(12), (rng.random(12) < 0.4).astype(float)
    np.testing.assert_allclose(bon_curve(scores, correct), bon_curve(np.exp(5 * scores), correct))


def test_an_unknown_score_loses_against_every_known_one_even_a_low_one() -> None:
    assert bon_exact([NAN, -1e9], [1.0, 0.0], 2) == 0.0


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one() -> None:
    correct = [True, False, False, True, False]
    for k in range(1, 6):
        share = np.mean([any(correct[i] for i in chosen) for chosen in combinations(range(5), k)])
        assert pass_at_k(5, 2, k) == pytest.approx(share)


def test_majority_at_n_is_the_mean_over_all_subsets_where_they_are_few() -> None:
    answers, correct = ["4", "5", "4", None, "7", "5"], [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    for n in range(1, 7):
        credit = []
        for chosen in combinations(range(6), n):
            votes = [answers[i] for i in chosen if answers[i] is not None]
            most = max((votes.count(answer) for answer in votes), default=0)
            winners = {answer for answer in votes if votes.count(answer) == most}
            credit.append(("4" in winners) / len(winners) if winners else 0.0)
        assert majority_at_n(answers, correct, n) == pytest.approx(np.mean(credit))
    assert majority_at_n(answers, correct, 1) == pytest.approx(np.mean(correct))


def test_sampled_subsets_are_seeded_and_close_to_the_exact_vote() -> None:
    rng = np.random.default_rng(2)
    answers = [str(value) for value in rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2], size=16)]
    correct = [float(answer == "1") for answer in answers]
    exact = majority_at_n(answers, correct, 5, count=10_000)
    sampled = majority_at_n(answers, correct, 5, seed=3)
    assert len(subsets(16, 5, count=10_000)) == math.comb(16, 5)
    assert sampled == majority_at_n(answers, correct, 5, seed=3)
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 256))


def test_a_weighted_vote_can_overrule_the_majority_and_ignores_the_unscored() -> None:
    everything = np.ones((1, 3), dtype=bool)
    answers, correct = ["1", "1", "2"], [0.0, 0.0, 1.0]
    assert vote(answers, [0.2, 0.3, 0.9], correct, everything)[0] == 1.0
    assert vote(answers, [0.2, 0.3, 0.4], correct, everything)[0] == 0.0
    assert vote(answers, [0.2, NAN, 0.3], correct, everything)[0] == 1.0
    assert vote(answers, [NAN, NAN, NAN], correct, everything)[0] == 0.0, "without any score the majority decides"


def test_negative_weights_are_scaled_within_the_subset() -> None:
    everything = np.ones((1, 4), dtype=bool)
    answers, correct = ["1", "1", "1", "2"], [0.0, 0.0, 0.0, 1.0]
    assert vote(answers, [-3.0, -3.0, -2.9, 5.0], correct, everything)[0] == 1.0
    assert vote(answers, [-1.0, -1.0, -1.0, -1.0], correct, everything)[0] == 0.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.0, 0.2, 0.7, -1.5, NAN])), min_size=1, max_size=6))
def test_the_curves_vote_as_the_search_does(samples: list[tuple[str | None, float]]) -> None:
    """Each answer in turn is taken for the right one: the search's choice earns credit, and all of it where there is no tie."""
    answers, weights = [a for a, _ in samples], [w for _, w in samples]
    chosen = weighted_vote(answers, weights)
    if chosen is None:  # nobody votes with a known weight: the search says so, the curves fall back on the majority
        return
    everything = np.ones((1, len(samples)), dtype=bool)
    credit = {right: vote(answers, weights, [float(a == right) for a in answers], everything)[0] for right in {a for a in answers if a is not None}}
    assert credit[answers[chosen]] == max(credit.values())  # type: ignore[index]
    assert sum(credit.values()) == pytest.approx(1.0)


def test_misuse_is_refused() -> None:
    with pytest.raises(InputError, match=r"1\.\.2"):
        bon_exact([0.1, 0.2], [1.0, 0.0], 3)
    with pytest.raises(InputError, match="correctness must be known"):
        bon_exact([0.1, 0.2], [1.0, NAN], 1)
    with pytest.raises(InputError, match="n_correct=3"):
        pass_at_k(2, 3, 1)
