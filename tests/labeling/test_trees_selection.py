"""Selection formulas: their exact values, and what they prefer."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from stepward.labeling.trees.selection import first_best, most_wins, omega_exploration, omega_quality, puct, uct


def test_omega_quality_by_hand() -> None:
    assert omega_quality(1.0, 0.0) == 1.0
    assert omega_quality(0.0, 500.0) == pytest.approx(0.5 * 0.9)
    assert omega_quality(0.25, 125.0, alpha=0.3, beta=0.8, scale=50.0) == pytest.approx(0.3**0.75 * 0.8**2.5)


def test_omega_quality_rises_with_the_share_of_right_rollouts_and_falls_with_length() -> None:
    shares, lengths = [k / 8 for k in range(9)], [10.0 * k for k in range(20)]
    for length in lengths:
        rising = [omega_quality(share, length) for share in shares]
        assert all(a < b for a, b in pairwise(rising))
    for share in shares:
        falling = [omega_quality(share, length) for length in lengths]
        assert all(a > b for a, b in pairwise(falling))


def test_with_alpha_and_beta_one_only_visits_decide() -> None:
    rng = random.Random(0)
    for _ in range(50):
        visits = [rng.randrange(5) for _ in range(6)]
        scores = [omega_quality(rng.random(), rng.uniform(1, 900), alpha=1.0, beta=1.0) + omega_exploration(n, sum(visits), c_puct=0.125) for n in visits]
        assert visits[first_best(scores)] == min(visits) or sum(visits) == 0


def test_omega_exploration_by_hand() -> None:
    assert omega_exploration(0, 0) == 0.0
    assert omega_exploration(3, 16, c_puct=0.5) == pytest.approx(0.5 * 4 / 4)


def test_uct_and_puct_by_hand() -> None:
    assert uct(0.2, 0, 5, c=1.0) == math.inf
    assert uct(0.2, 4, 9, c=2.0) == pytest.approx(0.2 + 2 * math.sqrt(math.log(9) / 4))
    assert puct(0.2, 0.5, 3, 16, c=2.0) == pytest.approx(0.2 + 2 * 0.5 * 4 / 4)


def test_ties_go_to_the_first() -> None:
    assert first_best([1.0, 2.0, 2.0]) == 1


def test_counting_wins_gives_back_any_transitive_order() -> None:
    for seed in range(20):
        strength = random.Random(seed).sample(range(100), 7)
        order = most_wins(7, lambda i, j: strength[i] > strength[j])  # noqa: B023
        assert [strength[i] for i in order] == sorted(strength, reverse=True)
