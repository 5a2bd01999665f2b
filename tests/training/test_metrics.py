"""Metrics against definitions that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stepward.training.metrics import auroc, balanced_accuracy, expected_calibration_error, first_error_f1


def test_auroc_is_the_share_of_ordered_pairs_with_ties_half() -> None:
    random = np.random.default_rng(0)
    scores, good = random.integers(0, 6, 60) / 5.0, random.random(60) < 0.6
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[good] for b in scores[~good]]
    assert auroc(scores, good) == pytest.approx(np.mean(pairs))
    assert math.isnan(auroc(scores, np.ones(60, dtype=bool)))


def test_balanced_accuracy_of_a_constant_is_one_half() -> None:
    good = np.array([True] * 9 + [False])
    assert balanced_accuracy(np.ones(10, dtype=bool), good) == 0.5
    assert math.isnan(balanced_accuracy(good[:9], good[:9]))


def test_first_error_f1_is_the_harmonic_mean_over_both_kinds() -> None:
    assert first_error_f1([0, 2, -1, -1], [0, 1, -1, -1]) == pytest.approx(2 * 0.5 * 1.0 / 1.5)
    assert first_error_f1([-1, 1], [0, -1]) == 0.0
    assert math.isnan(first_error_f1([1], [1]))


def test_calibration_error_is_zero_for_the_truth_and_the_gap_for_an_offset() -> None:
    targets = np.linspace(0.0, 0.8, 101)
    assert expected_calibration_error(targets, targets) == 0.0
    assert expected_calibration_error(targets + 0.1, targets) == pytest.approx(0.1)
