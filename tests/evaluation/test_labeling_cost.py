"""Labels against their price, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stepward.core import Count, CountMismatch, InputError, StepLabels, Usage
from stepward.evaluation.labeling_cost import labeling_cost, tokens_to_reach


def prefix_labels(first: int, n: int, sure: float, tokens: int) -> StepLabels:
    hard = tuple(first < 0 or step < first for step in range(n))
    values = np.array([sure if good else 1 - sure for good in hard])
    return StepLabels(values, "prefix", hard, first, confidence=np.full(n, sure), usage=Usage(policy_tokens=tokens, reward_tokens=3, reward_written=6))


def test_first_errors_steps_confidence_and_tokens_are_counted() -> None:
    labels = [prefix_labels(1, 4, 0.9, 100), prefix_labels(2, 4, 0.7, 300), StepLabels.unlabelled(2, "failed", semantics="prefix")]
    cost = labeling_cost(labels, [1, 1, -1], ["a", "b", "c"], resamples=200)
    assert cost.first_error_accuracy.value == pytest.approx(1 / 3)
    assert cost.step_accuracy == pytest.approx(7 / 8)
    assert cost.stated == pytest.approx(0.8)
    assert cost.earned == pytest.approx(7 / 8)
    assert cost.tokens == pytest.approx(400 / 3)
    assert cost.reward_tokens == pytest.approx(18 / 3)
    assert (cost.named, cost.first_error_precision.value) == (pytest.approx(2 / 3), pytest.approx(1 / 2)), "the third is unlabelled"
    assert cost.n_unlabelled == 2
    assert math.isnan(cost.width)
    assert cost.to_json()["value_rmse"] is None


def test_values_and_their_intervals_are_compared_where_they_were_rolled_out() -> None:
    labels = [
        StepLabels(
            np.array([0.5, 0.2, 1.0]),
            "value",
            (True, True, True),
            -1,
            counts=(Count(4, 8), Count(1, 5), None),
            bounds=((0.3, 0.7), (0.1, 0.3), (1.0, 1.0)),
        )
    ]
    cost = labeling_cost(labels, [-1], ["a"], exact=[np.array([0.6, 0.5, 1.0])], resamples=200)
    assert cost.coverage.value == pytest.approx(0.5)
    assert cost.width == pytest.approx(0.3)
    assert cost.value_rmse == pytest.approx(math.sqrt((0.1**2 + 0.3**2) / 2))
    assert math.isnan(cost.stated), "a value's hard label is about the value, not about errors"


def test_tokens_to_reach_reads_the_frontier() -> None:
    points = [(100.0, 0.5), (400.0, 0.7), (200.0, 0.4), (1600.0, 0.7)]
    assert tokens_to_reach(points, 0.4) == 100.0
    assert tokens_to_reach(points, 0.6) == pytest.approx(200.0)
    assert tokens_to_reach(points, 0.7) == pytest.approx(400.0)
    assert math.isnan(tokens_to_reach(points, 0.71))
    with pytest.raises(InputError, match="positive"):
        tokens_to_reach([(0.0, 0.5)], 0.4)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="at least one"):
        labeling_cost([], [], [])
    with pytest.raises(CountMismatch):
        labeling_cost([prefix_labels(1, 3, 0.9, 1)], [1, 2], ["a"])
