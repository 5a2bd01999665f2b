"""Label maps and decoders of the first error, by hand and by brute force."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from stepward.core import InputError
from stepward.labeling.decoders import first_zero, propagate_negative, propagate_positive, up_to, vote_cut
from stepward.labeling.maps import advantages, at_least, discount_to_go, effective_rewards, min_max, ratios, signed, soften, threshold

NAN = math.nan


def test_thresholds_are_strict_or_not_and_keep_the_unknown() -> None:
    assert threshold([0.5, 0.2, NAN], 0.2) == (True, False, None)
    assert at_least([0.5, 0.2, NAN], 0.2) == (True, True, None)


def test_ratios_by_hand() -> None:
    """0 / 0 has failed already; V > 0 after 0 is as good as can be; the unknown spreads to the step after it only."""
    assert ratios([0.4, 0.0, 0.0, 0.5], 0.5).tolist() == [0.8, 0.0, 0.0, math.inf]
    assert ratios([0.4, NAN, 0.2, 0.1], 0.5).tolist() == pytest.approx([0.8, NAN, NAN, 0.5], nan_ok=True)
    assert ratios([0.4, 0.2], 0.5, "root").tolist() == pytest.approx([0.8, 0.4])
    assert len(ratios([], 0.5)) == 0


def test_ratios_do_not_change_when_all_values_are_scaled() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, root = rng.uniform(0.01, 1, 6), rng.uniform(0.01, 1)
        assert ratios(values * 0.37, root * 0.37) == pytest.approx(ratios(values, root))


def test_progress_adds_up() -> None:
    values = [0.3, 0.9, 0.1, 1.0]
    assert advantages(values, 0.4).sum() == pytest.approx(1.0 - 0.4)
    assert advantages(values, 0.4, "root").tolist() == pytest.approx([-0.1, 0.5, -0.3, 0.6])
    assert effective_rewards([0.5, 0.5], [0.2, -0.4], 0.5).tolist() == pytest.approx([0.6, 0.3])


def test_under_the_policy_itself_as_prover_the_return_is_the_outcome_again() -> None:
    """outcome + alpha * sum A = (1 + alpha) outcome - alpha V_0 for every chain: no new information, the reason for another prover."""
    rng, alpha, root = np.random.default_rng(1), 3.0, 0.4
    for outcome in (0.0, 1.0):
        values = [*rng.uniform(0, 1, 5), outcome]
        assert outcome + alpha * advantages(values, root).sum() == pytest.approx((1 + alpha) * outcome - alpha * root)


def test_targets_are_softened_before_the_error_only() -> None:
    shares = [1.0, 0.5, 0.25, 0.75, 0.0, 0.9]
    assert soften(4, shares, 0.8).tolist() == pytest.approx([1, 1, 0.25 / 0.8, 0.75 / 0.8, 0])
    assert soften(4, shares, 0.5, depth=3).tolist() == pytest.approx([1, 1.0, 0.5, 1.0, 0]), "more than the confidence is 1"
    assert soften(0, shares, 0.8).tolist() == [0.0]
    assert soften(1, shares, 1.0).tolist() == [1.0, 0.0]
    half = [0.5 * share for share in shares]
    assert soften(4, half, 0.4) == pytest.approx(soften(4, shares, 0.8)), "halving rollouts' shares and confidence changes nothing"
    with pytest.raises(InputError, match="confidence"):
        soften(4, shares, 0.0)


def test_the_simple_maps() -> None:
    assert signed([0.0, 0.5, 1.0]).tolist() == [-1.0, 0.0, 1.0]
    assert min_max([2.0, 4.0, NAN, 3.0]).tolist() == pytest.approx([0.0, 1.0, NAN, 0.5], nan_ok=True)
    assert min_max([0.3, 0.3]).tolist() == [0.0, 0.0]
    assert discount_to_go([0.5, 0.5, 1.0], 0.9).tolist() == pytest.approx([0.405, 0.45, 1.0])
    assert discount_to_go([0.5, 0.7], 1.0).tolist() == [0.5, 0.7], "without discount nothing changes"
    with pytest.raises(InputError, match="gamma"):
        discount_to_go([0.5], 0.0)


def test_first_zero_is_unknown_after_an_unknown_label() -> None:
    assert first_zero([True, False, None]) == 1
    assert first_zero([True, None, False]) is None
    assert first_zero([True, True]) == -1


def test_propagation_only_raises_before_and_lowers_after() -> None:
    for hard in itertools.product((True, False, None), repeat=5):
        up, down = propagate_positive(hard), propagate_negative(hard)
        assert all(new is True for new, old in zip(up, hard, strict=True) if old), "never from good to bad"
        assert all(new is False for new, old in zip(down, hard, strict=True) if old is False)
        known = [good for good in up if good is not None]
        assert known == sorted(known, reverse=True), "labels are non-increasing"
        assert propagate_positive(up) == up


def test_labels_of_a_known_first_error() -> None:
    assert up_to(2, 4) == (True, True, False, False)
    assert up_to(-1, 2) == (True, True)
    assert up_to(None, 2) == (None, None)


def test_the_vote_finds_the_cut_that_agrees_most_by_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(300):
        n = rng.randint(1, 7)
        hard = [rng.choice([True, False, None]) for _ in range(n)]
        weights = [rng.choice([0.5, 1.0, 2.0]) for _ in range(n)]
        agreement = [sum(w for t, (y, w) in enumerate(zip(hard, weights, strict=True)) if y is not None and y == (t < k)) for k in range(n + 1)]
        best = max(k for k, score in enumerate(agreement) if score == max(agreement))
        expected = None if all(y is None for y in hard) else -1 if best == n else best
        assert vote_cut(hard, weights) == expected, (hard, weights)


def test_one_wrong_label_does_not_move_the_vote() -> None:
    assert vote_cut([True, True, False, True, True, False, False]) == 5
    assert first_zero([True, True, False, True, True, False, False]) == 2
    assert vote_cut([False, True, True]) == -1
    with pytest.raises(InputError, match="one weight"):
        vote_cut([True, False], [1.0])
