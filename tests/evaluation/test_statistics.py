"""Claims about intervals and tests, checked on simulated data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from stepward.core import InputError
from stepward.evaluation import (
    bootstrap,
    cluster_standard_error,
    difference_estimate,
    mcnemar_exact,
    mean_estimate,
    mean_estimates,
    paired_bootstrap,
    wilson,
)
from stepward.evaluation.first_error import f1_of_totals


def clustered(rng: np.random.Generator, n_clusters: int, per_cluster: int) -> tuple[np.ndarray, list[int]]:
    """0/1 items whose chance differs between clusters; the true mean is 2/3."""
    chances = rng.beta(2.0, 1.0, size=n_clusters)
    values = (rng.random((n_clusters, per_cluster)) < chances[:, None]).astype(float)
    return values.ravel(), [cluster for cluster in range(n_clusters) for _ in range(per_cluster)]


@pytest.mark.parametrize(("n_clusters", "per_cluster"), [(40, 4), (150, 3)])
def test_cluster_intervals_cover_the_truth_in_92_to_98_percent_of_data_sets(n_clusters: int, per_cluster: int) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(1000):
        values, clusters = clustered(rng, n_clusters, per_cluster)
        estimate = mean_estimate(values, clusters, resamples=400, seed=trial)
        covered += estimate.low <= 2 / 3 <= estimate.high
    assert 920 <= covered <= 980


def test_ignoring_clusters_makes_intervals_too_narrow() -> None:
    values, clusters = clustered(np.random.default_rng(2), 100, 10)
    with_clusters, without = mean_estimate(values, clusters), mean_estimate(values)
    assert with_clusters.high - with_clusters.low > 1.3 * (without.high - without.low)


def test_f1_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = 2 * 0.4 * 0.9 / 1.3 * 100
    covered = 0
    for trial in range(500):
        error = rng.random(200) < 0.5
        right = rng.random(200) < np.where(error, 0.4, 0.9)
        columns = np.stack([right & error, error, right & ~error, ~error], axis=1).astype(float)
        estimate = bootstrap(columns, lambda totals: f1_of_totals(totals)[..., 2], resamples=400, seed=trial)
        covered += estimate.low <= truth <= estimate.high
    assert 460 <= covered <= 490


def test_an_interval_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    values, clusters = clustered(np.random.default_rng(4), 120, 2)
    assert mean_estimate(values, clusters, seed=5) == mean_estimate(values, clusters, seed=5)
    assert mean_estimate(values, clusters, seed=5) != mean_estimate(values, clusters, seed=6)


def test_the_percentile_bootstrap_agrees_with_the_normal_interval_for_large_samples() -> None:
    values = np.random.default_rng(5).normal(size=2000)
    estimate = mean_estimate(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(2000)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bca_agrees_with_scipy() -> None:
    values = np.random.default_rng(6).exponential(size=30)
    ours = mean_estimate(values, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert "BCa" in ours.method
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_unknown_values_are_left_out_and_counted_out() -> None:
    known = mean_estimate([1.0, 0.0, 1.0, 1.0])
    assert mean_estimate([1.0, math.nan, 0.0, 1.0, math.nan, 1.0]).value == known.value
    assert mean_estimate([1.0, math.nan, 0.0, 1.0]).n == 3
    nothing = mean_estimate([math.nan, math.nan])
    assert math.isnan(nothing.value)
    assert nothing.n == 0
    assert nothing.to_json()["value"] is None


def test_no_failures_in_n_gets_the_rule_of_three() -> None:
    assert (mean_estimate(np.ones(60)).low, mean_estimate(np.ones(60)).high) == (0.95, 1.0)
    assert (mean_estimate(np.zeros(60)).low, mean_estimate(np.zeros(60)).high) == (0.0, 0.05)


def test_one_cluster_has_no_interval() -> None:
    estimate = mean_estimate([0.2, 0.4], ["a", "a"])
    assert estimate.value == pytest.approx(0.3)
    assert math.isnan(estimate.low)


def test_a_difference_of_equals_is_exactly_zero() -> None:
    values, clusters = clustered(np.random.default_rng(7), 120, 2)
    difference = difference_estimate(values, values, clusters)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    columns = np.stack([values, np.ones_like(values)], axis=1)
    paired = paired_bootstrap(columns, columns, lambda t: t[..., 0] / t[..., 1], clusters)
    assert (paired.value, paired.low, paired.high) == (0.0, 0.0, 0.0)


def test_pairing_cancels_what_both_share() -> None:
    rng = np.random.default_rng(8)
    hardness = rng.random(400)
    better, worse = hardness + 0.05 + 0.01 * rng.normal(size=400), hardness
    assert difference_estimate(better, worse).low > 0.04
    assert mean_estimate(better).low < mean_estimate(worse).high


def test_columns_estimated_together_equal_columns_estimated_alone() -> None:
    matrix = np.random.default_rng(9).random((150, 3))
    matrix[:7, 1] = math.nan
    together = mean_estimates(matrix)
    assert together == [mean_estimate(matrix[:, column]) for column in range(3)]


def test_the_cluster_standard_error_is_that_of_cluster_means() -> None:
    rng = np.random.default_rng(10)
    groups = rng.normal(size=(50, 4)) + rng.normal(size=(50, 1))
    clusters = [row for row in range(50) for _ in range(4)]
    assert cluster_standard_error(groups.ravel(), clusters) == pytest.approx(groups.mean(axis=1).std(ddof=1) / math.sqrt(50))
    singles = rng.normal(size=80)
    assert cluster_standard_error(singles) == pytest.approx(singles.std(ddof=1) / math.sqrt(80))


def test_mcnemar_is_the_sign_test_on_the_discordant_pairs() -> None:
    rng = np.random.default_rng(11)
    first, second = rng.random(80) < 0.7, rng.random(80) < 0.5
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    assert mcnemar_exact(first, second) == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue)
    assert mcnemar_exact(first, first) == 1.0


def test_wilson_agrees_with_scipy() -> None:
    theirs = stats.binomtest(7, 20).proportion_ci(method="wilson")
    ours = wilson(7, 20)
    assert (ours.value, ours.low, ours.high) == pytest.approx((0.35, theirs.low, theirs.high))


def test_misfits_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="3 items but 2 keys"):
        mean_estimate([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(InputError, match="same items"):
        difference_estimate([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="must be finite"):
        bootstrap([[math.nan]], lambda totals: totals[..., 0])
