"""Claims about calibration fits, against brute force, scipy, and planted truths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, linprog, minimize, minimize_scalar

from stepward.core import InputError
from stepward.rewards.calibration import (
    Beta,
    Isotonic,
    Logits,
    Platt,
    Quantiles,
    Temperature,
    cross_calibrated,
    fit,
    fit_beta,
    fit_isotonic,
    fit_platt,
    fit_quantiles,
    fit_temperature,
    pinball,
)
from stepward.rewards.calibration.isotonic import pool_adjacent_violators
from stepward.rewards.calibration.quantile import increasing_quantiles, quantile
from stepward.training.metrics import auroc

METHODS = ("temperature", "platt", "beta", "isotonic", "quantile")


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def planted(n: int, *, slope: float = 1.0, intercept: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and outcomes whose chance is sigmoid(slope z + intercept) of the score's logit z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.3, 1.5, size=n)
    return sigmoid(z), (rng.random(n) < sigmoid(slope * z + intercept)).astype(float)


def cross_entropy(z: np.ndarray, y: np.ndarray, w: np.ndarray | float = 1.0) -> float:
    return float(np.sum(w * (np.logaddexp(0.0, z) - y * z)))


# --- temperature


@pytest.mark.parametrize("seed", range(4))
def test_temperature_is_the_minimum_that_scipy_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = planted(300, slope=0.4 + seed, seed=seed)
    targets = targets if seed % 2 else np.clip(targets * 0.8 + 0.1, 0, 1)  # hard and soft
    weights = rng.random(300) + 0.1
    mapping = fit_temperature(scores, targets, weights).map
    assert isinstance(mapping, Temperature)

    def loss(log_tau: float) -> float:
        return cross_entropy(logit(scores) / math.exp(log_tau), targets, weights)

    found = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert mapping.tau == pytest.approx(math.exp(found.x), rel=1e-5)


def test_temperature_never_changes_the_order() -> None:
    scores, targets = planted(500, slope=0.3)
    calibrated = fit_temperature(scores, targets)(scores)
    assert auroc(calibrated, targets == 1.0) == auroc(scores, targets == 1.0)
    np.testing.assert_array_equal(np.argsort(calibrated, kind="stable"), np.argsort(scores, kind="stable"))
    assert (calibrated >= 0.5).tolist() == (scores >= 0.5).tolist(), "one half stays one half"


def test_temperature_recovers_a_planted_one_within_its_standard_error() -> None:
    scores, targets = planted(4000, slope=1 / 2.5)
    z = logit(scores)
    mapping = fit_temperature(scores, targets).map
    assert isinstance(mapping, Temperature)
    p = sigmoid(z / 2.5)
    error = 1 / math.sqrt(float((p * (1 - p) * z**2).sum()))  # of 1 / tau
    assert abs(1 / mapping.tau - 1 / 2.5) < 3 * error


def test_scores_that_separate_the_classes_or_tell_nothing_end_at_the_bounds() -> None:
    for targets, bound in (([0, 0, 1, 1], 0.01), ([1, 1, 0, 0], 100.0)):
        mapping = fit_temperature([0.1, 0.4, 0.6, 0.9], targets).map
        assert isinstance(mapping, Temperature)
        assert mapping.tau == pytest.approx(bound)


# --- Platt and beta


def test_platt_recovers_a_planted_affine_map_within_its_standard_errors() -> None:
    slope, intercept = 0.6, -0.8
    scores, targets = planted(5000, slope=slope, intercept=intercept)
    z = logit(scores)
    mapping = fit_platt(scores, targets).map
    assert isinstance(mapping, Platt)
    p = sigmoid(slope * z + intercept)
    design = np.stack([z, np.ones_like(z)], axis=1)
    covariance = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    z_scores = np.array([mapping.slope - slope, mapping.intercept - intercept]) / np.sqrt(np.diag(covariance))
    assert (np.abs(z_scores) < 3).all(), z_scores


@pytest.mark.parametrize("scale", ["probability", "logit"])
def test_platt_and_beta_are_the_minimum_that_scipy_finds(scale: str) -> None:
    rng = np.random.default_rng(1)
    scores, targets = planted(400, slope=2.0, intercept=0.5, seed=1)
    weights = rng.random(400) * 3 + 0.1
    good, bad = float(weights @ targets), float(weights @ (1 - targets))
    soft = targets * (good + 1) / (good + 2) + (1 - targets) / (bad + 2)
    z = logit(scores)
    platt = fit_platt(scores if scale == "probability" else z, targets, weights, scale=scale).map  # type: ignore[arg-type]
    assert isinstance(platt, Platt)
    found = minimize(lambda c: cross_entropy(c[0] * z + c[1], soft, weights), [1.0, 0.0], tol=1e-12).x
    np.testing.assert_allclose([platt.slope, platt.intercept], found, rtol=1e-4, atol=1e-4)
    if scale == "probability":
        beta = fit_beta(scores, targets, weights).map
        assert isinstance(beta, Beta)
        a, b, c = minimize(lambda c: cross_entropy(c[0] * np.log(scores) - c[1] * np.log1p(-scores) + c[2], soft, weights), [1.0, 1.0, 0.0], tol=1e-12).x
        np.testing.assert_allclose([beta.a, beta.b, beta.c], [a, b, c], rtol=1e-3, atol=1e-3)


def test_beta_holds_platt_and_never_falls() -> None:
    scores, targets = planted(2000, slope=0.5, intercept=-0.4)
    grid = np.linspace(0.001, 0.999, 400)
    assert (np.diff(fit_beta(scores, targets)(grid)) >= 0).all()
    beta = fit_beta(scores, targets).map
    assert isinstance(beta, Beta)
    assert beta.a == pytest.approx(beta.b, abs=0.15), "the truth has equal ends"
    rng = np.random.default_rng(2)
    one_sided = rng.random(3000)
    chance = np.where(one_sided < 0.5, 2 * one_sided, 1.2 - 0.4 * one_sided)  # rises, then falls a little
    targets = (rng.random(3000) < chance).astype(float)
    mapped = fit_beta(one_sided, targets).map
    assert isinstance(mapped, Beta)
    assert min(mapped.a, mapped.b) == 0.0, "a coefficient that would fall is dropped"


def test_platt_stays_finite_where_scores_separate_the_classes_and_refuses_what_falls() -> None:
    mapping = fit_platt([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert (np.diff(mapping(np.array([0.1, 0.2, 0.8, 0.9]))) > 0).all()
    assert 0.0 < mapping(np.array([0.1]))[0] < 0.5 < mapping(np.array([0.9]))[0] < 1.0
    for fitted in (fit_platt, fit_beta):
        with pytest.raises(InputError, match="no higher for good steps"):
            fitted([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])
        with pytest.raises(InputError, match="all 3 scores are equal"):
            fitted([0.4, 0.4, 0.4], [1, 0, 1])


# --- isotonic


def brute_isotonic(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The best increasing fit over every way to cut the sequence into blocks of means."""
    best, loss = y, math.inf
    for cuts in itertools.product([0, 1], repeat=len(y) - 1):
        block = np.concatenate([[0], np.cumsum(cuts)])
        means = np.array([np.average(y[block == b], weights=w[block == b]) for b in range(block[-1] + 1)])
        if (np.diff(means) >= 0).all() and (error := float(w @ (y - means[block]) ** 2)) < loss - 1e-12:
            best, loss = means[block], error
    return best


@pytest.mark.parametrize("n", range(2, 7))
def test_pooling_adjacent_violators_equals_brute_force(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(60):
        y, w = rng.integers(0, 5, size=n) / 4, rng.integers(1, 4, size=n).astype(float)
        if y.min() == y.max() and y[0] in (0.0, 1.0):
            continue
        scores = np.arange(n) / n
        np.testing.assert_allclose(fit_isotonic(scores, y, w)(scores), brute_isotonic(y, w), atol=1e-12)


def test_isotonic_agrees_with_scipy_on_many_tied_scores() -> None:
    rng = np.random.default_rng(0)
    scores, targets, weights = np.round(rng.random(3000), 2), rng.random(3000), rng.random(3000) + 0.1
    targets = (targets < scores).astype(float)
    levels = np.unique(scores)
    mass = np.array([weights[scores == level].sum() for level in levels])
    means = np.array([np.average(targets[scores == level], weights=weights[scores == level]) for level in levels])
    expected = isotonic_regression(means, weights=mass).x
    np.testing.assert_allclose(fit_isotonic(scores, targets, weights)(levels), expected, atol=1e-12)


def test_equal_scores_are_pooled_and_get_one_value_whatever_their_order() -> None:
    for order in itertools.permutations([(0.2, 0.0), (0.5, 1.0), (0.5, 0.0), (0.9, 1.0)]):
        scores, targets = zip(*order, strict=True)
        np.testing.assert_allclose(fit_isotonic(scores, targets)([0.2, 0.5, 0.9]), [0.0, 0.5, 1.0])


def test_the_step_function_is_continuous_from_the_right_and_the_line_between_blocks_is_one() -> None:
    mapping = Isotonic((0.2, 0.6), (0.4, 0.8), (0.1, 0.9))
    np.testing.assert_array_equal(mapping(np.array([0.0, 0.2, 0.4, 0.5, np.nextafter(0.6, 0), 0.6, 0.9])), [0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9])
    line = Isotonic((0.2, 0.6), (0.4, 0.8), (0.1, 0.9), "linear")
    np.testing.assert_allclose(line(np.array([0.0, 0.3, 0.4, 0.5, 0.6, 0.9])), [0.1, 0.1, 0.1, 0.5, 0.9, 0.9])


def test_the_fit_keeps_the_mean_of_the_targets() -> None:
    scores, targets = planted(700)
    assert fit_isotonic(scores, targets)(scores).mean() == pytest.approx(targets.mean())
    starts, values = pool_adjacent_violators(np.array([0.5, 0.5, 0.2]), np.ones(3))
    assert (starts.tolist(), values.tolist()) == ([0], [pytest.approx(0.4)])


# --- quantiles


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_minimiser_of_the_pinball_loss_is_the_empirical_quantile(level: float) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 50):
        y, w = rng.random(n), rng.integers(1, 4, size=n).astype(float)
        losses = [float(w @ pinball(y, candidate, level)) for candidate in y]
        assert float(w @ pinball(y, quantile(y, w, level), level)) == pytest.approx(min(losses), abs=1e-12)
    uniform = np.arange(1, 1001) / 1000
    assert quantile(uniform, np.ones(1000), level) == pytest.approx(level)


@pytest.mark.parametrize("seed", range(5))
def test_the_increasing_quantile_fit_is_the_optimum_of_its_linear_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 25
    y, w = rng.random(n), rng.integers(1, 4, size=n).astype(float)
    for level in (0.1, 0.5, 0.9):
        found = np.array(increasing_quantiles(y, w, list(range(n)), level))
        cost = np.concatenate([np.zeros(n), level * w, (1 - level) * w])  # f, positive and negative parts of y - f
        equal = np.hstack([np.eye(n), np.eye(n), -np.eye(n)])
        increasing = np.hstack([np.eye(n)[:-1] - np.eye(n)[1:], np.zeros((n - 1, 2 * n))])
        best = linprog(cost, A_ub=increasing, b_ub=np.zeros(n - 1), A_eq=equal, b_eq=y, bounds=[(None, None)] * n + [(0, None)] * 2 * n).fun
        assert float(w @ pinball(y, found, level)) == pytest.approx(best, abs=1e-9)
        assert (np.diff(found) >= 0).all()


def test_levels_never_cross_and_rise_with_the_score() -> None:
    rng = np.random.default_rng(4)
    scores, targets = rng.random(400), rng.random(400)
    for smallest in (1, 7, 50):
        fitted = fit_quantiles(scores, targets, smallest=smallest)
        grid = np.linspace(0, 1, 300)
        low, mid, high = fitted.bounds(grid)["low"], fitted(grid), fitted.bounds(grid)["high"]
        assert (low <= mid).all()
        assert (mid <= high).all()
        for row in (low, mid, high):
            assert (np.diff(row) >= 0).all()


def test_bounds_cover_new_targets_as_often_as_they_say() -> None:
    """Success rates of 8 rollouts around a chance that the score knows up to noise."""

    def world(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        chance = rng.beta(2, 2, size=n)
        return sigmoid(1.8 * logit(chance) + rng.normal(0, 0.7, size=n)), chance

    fitted = fit_quantiles(*world(4000, 0))
    scores, targets = world(4000, 1)
    bounds = fitted.bounds(scores)
    covered = float(np.mean((bounds["low"] <= targets) & (targets <= bounds["high"])))
    assert covered == pytest.approx(0.8, abs=3 * math.sqrt(2 * 0.8 * 0.2 / 4000) + 0.01)
    for name, level in (("low", 0.1), ("high", 0.9)):
        assert float(np.mean(targets <= bounds[name])) == pytest.approx(level, abs=0.03)
    overconfident = np.stack([scores - 0.01, scores + 0.01])
    assert float(np.mean((overconfident[0] <= targets) & (targets <= overconfident[1]))) < 0.3, "the raw scores themselves say much less"


def test_groups_hold_at_least_the_smallest_number_and_never_split_equal_scores() -> None:
    scores = np.repeat(np.arange(10) / 10, [1, 5, 5, 40, 2, 2, 2, 30, 1, 1])
    mapping = fit_quantiles(scores, np.linspace(0, 1, len(scores)), smallest=10).map
    assert isinstance(mapping, Quantiles)
    members = np.diff([*np.searchsorted(scores, mapping.lows), len(scores)])
    assert (members >= 10).all()
    assert mapping.lows == (0.0, 0.3, 0.4)


def test_levels_are_checked() -> None:
    for levels in ([0.1, 0.9], [0.5, 0.1, 0.9], [0.0, 0.5, 1.0]):
        with pytest.raises(InputError, match="levels must be three"):
            fit_quantiles([0.1, 0.9], [0.0, 1.0], levels=levels)
    with pytest.raises(InputError, match="smallest"):
        fit_quantiles([0.1, 0.9], [0.0, 1.0], smallest=0)


# --- what all share


@pytest.mark.parametrize("method", METHODS)
def test_every_map_is_increasing_takes_any_probability_and_keeps_unknowns(method: str) -> None:
    scores, targets = planted(400, slope=0.7)
    calibration = fit(method, scores, targets)
    grid = np.array([0.0, 1e-300, 1e-9, *np.linspace(0.01, 0.99, 50), 1 - 1e-9, 1.0])
    values = calibration(grid)
    assert (np.diff(values) >= -1e-15).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert np.isnan(calibration([0.2, math.nan])).tolist() == [False, True]
    assert calibration(np.zeros((2, 0))).shape == (2, 0)
    with pytest.raises(InputError, match="takes probabilities"):
        calibration([1.5])


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_is_as_many_equal_pairs_and_unknown_pairs_are_left_out_and_counted(method: str) -> None:
    scores, targets = planted(120, slope=0.7)
    weights = np.random.default_rng(0).integers(0, 4, size=120)
    repeated = fit(method, np.repeat(scores, weights), np.repeat(targets, weights), **({"smallest": 1} if method == "quantile" else {}))
    weighted = fit(method, scores, targets, weights, **({"smallest": 1} if method == "quantile" else {}))
    grid = np.linspace(0.01, 0.99, 60)
    np.testing.assert_allclose(weighted(grid), repeated(grid), atol=1e-6)
    holes = fit(method, [*scores, math.nan, 0.4], [*targets, 1.0, math.nan])
    np.testing.assert_array_equal(holes(grid), fit(method, scores, targets)(grid))
    assert (holes.n, holes.n_skipped) == (120, 2)


@pytest.mark.parametrize("method", METHODS)
def test_unusable_pairs_are_refused_with_the_reason(method: str) -> None:
    for scores, targets, weights, message in [
        ([0.5], [1.0], None, "good and bad"),
        ([0.5, 0.6], [1.0, 1.0], None, "all of them good"),
        ([0.5, 0.6], [0.0, 0.0], None, "all of them bad"),
        ([0.5, 0.6], [0.0, 2.0], None, "targets in"),
        ([0.5, 1.6], [0.0, 1.0], None, "name their scale"),
        ([0.5, 0.6], [1.0], None, "shapes"),
        ([0.5, 0.6], [0.0, 1.0], [1.0, -1.0], "weights"),
        ([], [], None, "0 labelled scores"),
    ]:
        with pytest.raises(InputError, match=message):
            fit(method, scores, targets, weights)
    with pytest.raises(InputError, match="unknown calibration method 'magic'"):
        fit("magic", [0.1, 0.9], [0.0, 1.0])


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic", "quantile"])
def test_scores_on_other_scales_are_calibrated_as_they_are(method: str) -> None:
    scores, targets = planted(300, slope=1.5, intercept=0.3)
    np.testing.assert_allclose(fit(method, logit(scores), targets, scale="logit")(logit(scores)), fit(method, scores, targets)(scores), atol=1e-9)
    with pytest.raises(InputError, match="beta calibration takes probabilities"):
        fit("beta", logit(scores), targets, scale="logit")


def test_rounded_probabilities_get_a_logit_between_one_and_the_next_score() -> None:
    scores = np.array([0.5, 1 - 2**-8, 1.0, 0.25, 0.0])
    logits = Logits.of(scores, "probability")
    assert (logits.low, logits.high) == (0.125, 1 - 2**-9)
    assert np.isfinite(logits(scores)).all()
    plain = Logits.of(np.array([0.2, 0.999]), "probability")
    assert (plain.low, 1 - plain.high) == (1e-12, pytest.approx(1e-12, rel=1e-3))
    assert Logits.of(np.array([0.0, 1.0]), "probability")(np.array([0.0, 0.3, 1.0])).tolist() == sorted(Logits()(np.array([0.0, 0.3, 1.0])).tolist())


def test_cross_calibration_never_uses_a_groups_own_targets() -> None:
    scores, targets = planted(200, slope=0.5)
    groups = [str(i // 4) for i in range(200)]
    base = cross_calibrated("isotonic", scores, targets, groups)
    changed = targets.copy()
    changed[:4] = 1 - changed[:4]
    again = cross_calibrated("isotonic", scores, changed, groups)
    np.testing.assert_array_equal(again[:4], base[:4])
    assert (again[4:] != base[4:]).any()
    with pytest.raises(InputError, match="2 groups"):
        cross_calibrated("platt", scores, targets, ["one"] * 200)


def test_cross_calibrated_errors_are_those_of_new_data_and_refitted_ones_flatter() -> None:
    from stepward.evaluation import calibration

    scores, targets = planted(150, slope=0.2)
    groups = list(range(150))
    inside = calibration(fit_isotonic(scores, targets)(scores), targets, resamples=100).brier.value
    outside = calibration(cross_calibrated("isotonic", scores, targets, groups), targets, resamples=100).brier.value
    new_scores, new_targets = planted(20_000, slope=0.2, seed=9)
    truth = calibration(fit_isotonic(scores, targets)(new_scores), new_targets, resamples=100).brier.value
    assert inside < truth
    assert abs(outside - truth) < 0.05


def test_scores_whose_logits_are_all_alike_are_refused_not_divided_by() -> None:
    for method in ("platt", "beta"):
        with pytest.raises(InputError, match="nothing to fit"):
            fit(method, [1.0 - 1e-13, 1.0 - 1e-14], [0.0, 1.0])
    with pytest.raises(InputError, match="no temperature changes"):
        fit("temperature", [0.5, 0.5], [0.0, 1.0])
