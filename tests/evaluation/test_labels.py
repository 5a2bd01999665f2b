"""Claims about label quality, on Monte-Carlo labels of known values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stepward.core import Count, InputError, StepLabels
from stepward.evaluation import label_quality


def world(n: int, rollouts: int, *, seed: int = 0, shift: float = 0.0) -> tuple[list[StepLabels], list[StepLabels], list[str]]:
    """n trajectories of 4 steps, exact values and their Monte-Carlo labels; the rolled-out chance is `shift` above the exact one."""
    rng = np.random.default_rng(seed)
    labels, exact = [], []
    for _ in range(n):
        values = rng.uniform(0.05, 0.9, size=4)
        exact.append(StepLabels(values, "value", first_error=int(rng.integers(-1, 4))))
        labels.append(StepLabels.from_counts([Count(int(rng.binomial(rollouts, v + shift)), rollouts) for v in values]))
    return labels, exact, [f"p{index // 2}" for index in range(n)]


def test_monte_carlo_labels_are_unbiased_with_binomial_noise_and_honest_intervals() -> None:
    quality = label_quality(*world(2400, 8))
    assert abs(quality.bias.value) < 3 * quality.bias_se
    assert quality.variance_ratio == pytest.approx(1.0, abs=0.05)
    assert 0.92 < quality.coverage.value < 0.98


def test_a_shift_of_the_completer_shows_as_bias() -> None:
    quality = label_quality(*world(1500, 16, shift=0.05))
    assert quality.bias.low <= 0.05 <= quality.bias.high
    assert quality.bias.value > 3 * quality.bias_se
    assert quality.variance_ratio > 1.1


def test_more_rollouts_bring_labels_nearer() -> None:
    errors = [label_quality(*world(400, rollouts)).mean_abs_error.value for rollouts in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]


def test_exact_labels_are_exact() -> None:
    exact = [StepLabels.from_hard([True, False, False], semantics="prefix", first_error=1), StepLabels.from_hard([True], semantics="prefix", first_error=-1)]
    quality = label_quality(exact, exact, ["a", "b"])
    assert (quality.bias.value, quality.mean_abs_error.value, quality.first_error_accuracy.value) == (0.0, 0.0, 1.0)
    assert quality.confusion == {"true_good": 2, "false_good": 0, "true_bad": 2, "false_bad": 0}
    assert math.isnan(quality.variance_ratio)


def test_errors_by_hand_by_position_with_unlabelled_steps_counted() -> None:
    given = [
        StepLabels(np.array([0.5, np.nan, 0.0]), "value", (True, None, False), None, (None, "server error", None)),
        StepLabels(np.array([1.0]), "value", (True,), -1),
    ]
    exact = [StepLabels(np.array([0.75, 0.5, 0.0]), "value", first_error=2), StepLabels(np.array([0.5]), "value", first_error=0)]
    quality = label_quality(given, exact, ["a", "b"])
    assert (quality.n_steps, quality.n_skipped) == (3, 1)
    assert quality.bias.value == pytest.approx((-0.25 + 0.0 + 0.5) / 3)
    assert quality.mean_abs_error.value == pytest.approx(0.25)
    assert quality.confusion == {"true_good": 1, "false_good": 1, "true_bad": 1, "false_bad": 0}
    assert quality.first_error_accuracy.value == 0.0
    assert [(row.n, row.bias) for row in quality.by_position if row.n] == [(2, 0.125), (1, 0.0)]
    json.dumps(quality.to_json(), allow_nan=False)


def test_values_are_not_compared_with_correctness() -> None:
    labels, _, problems = world(2, 4)
    with pytest.raises(InputError, match="'value' but the exact ones 'prefix'"):
        label_quality(labels, [StepLabels.from_hard([True] * 4, semantics="prefix")] * 2, problems)
