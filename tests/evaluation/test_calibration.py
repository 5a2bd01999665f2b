"""Claims about calibration metrics."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stepward.core import InputError
from stepward.evaluation import calibration


def test_exact_values_are_perfectly_calibrated() -> None:
    values = np.random.default_rng(0).random(500)
    result = calibration(values, values)
    assert (result.brier.value, result.positive_brier.value, result.bias.value, result.ece) == (0.0, 0.0, 0.0, 0.0)


def test_the_calibration_error_of_true_chances_vanishes_with_n_and_that_of_doubled_odds_does_not() -> None:
    rng = np.random.default_rng(1)
    chances = rng.random(8_000)
    outcomes = (rng.random(8_000) < chances).astype(float)
    logits = np.log(chances / (1 - chances))
    assert calibration(chances, outcomes).ece < 0.03
    overconfident = calibration(1 / (1 + np.exp(-2 * logits)), outcomes)
    assert overconfident.ece > 0.05
    assert overconfident.auroc == pytest.approx(calibration(chances, outcomes).auroc), "an increasing map keeps the order"


def test_brier_of_outcomes_by_hand() -> None:
    result = calibration([0.8, 0.4, math.nan], [1.0, 0.0, 1.0])
    assert result.brier.value == pytest.approx((0.04 + 0.16) / 2)
    assert result.positive_brier.value == pytest.approx(0.16 / 2)
    assert (result.n, result.n_skipped) == (2, 1)
    assert result.auroc == 1.0
    json.dumps(result.to_json(), allow_nan=False)


def test_bins_hold_equal_numbers_and_equal_predictions_share_one() -> None:
    rng = np.random.default_rng(2)
    assert {row.n for row in calibration(rng.random(1000), rng.random(1000)).bins} == {100}
    tied = calibration(np.repeat([0.2, 0.9], 500), rng.random(1000)).bins
    assert [(row.low, row.high, row.n) for row in tied] == [(0.2, 0.2, 500), (0.9, 0.9, 500)]


def test_auroc_is_the_share_of_ordered_pairs_and_unknown_for_one_kind_or_soft_targets() -> None:
    rng = np.random.default_rng(3)
    scores, positive = np.round(rng.random(60), 1), rng.random(60) < 0.4
    pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in scores[positive] for q in scores[~positive]]
    assert calibration(scores, positive).auroc == pytest.approx(np.mean(pairs))
    assert math.isnan(calibration([0.1, 0.2], [1.0, 1.0]).auroc)
    assert math.isnan(calibration([0.1, 0.2], [0.4, 1.0]).auroc)


def test_values_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="predictions in \\[0, 1\\]"):
        calibration([1.2, 0.4], [1.0, 0.0])
