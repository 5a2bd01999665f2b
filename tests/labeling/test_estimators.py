"""Estimators and intervals against exact expectations over every way in which rollouts can come out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from stepward.core import Count, InputError
from stepward.labeling.binomial import at_least, at_most, best_n_for_any, draws_to_first_success, error_of_any, exactly, interval
from stepward.labeling.estimators import (
    best_of,
    best_of_value,
    beta_mean,
    beta_variance,
    chance_above,
    entropic,
    logprob_weighted,
    share,
    solvability,
    unbiased,
)

VALUES = (0.0, 0.03, 0.1, 0.4, 0.5, 0.77, 1.0)


def ends(stop: int, n: int, batch: int, value: float) -> Iterator[tuple[Count, int, float]]:
    """Every end of drawing in requests of `batch` until `stop` successes or n rollouts: its count, its last request and its chance."""
    open_counts = {(0, 0): 1.0}
    while open_counts:
        going: dict[tuple[int, int], float] = {}
        for (successes, drawn), chance in open_counts.items():
            size = min(batch, n - drawn)
            for more in range(size + 1):
                here = chance * exactly(more, size, value)
                if successes + more >= stop or drawn + size == n:
                    yield Count(successes + more, drawn + size), size, here
                else:
                    key = (successes + more, drawn + size)
                    going[key] = going.get(key, 0.0) + here
        open_counts = going


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_unbiased_value_is_unbiased_under_early_stopping_and_the_share_is_not(stop: int, batch: int) -> None:
    for value in VALUES:
        found = list(ends(stop, 8, batch, value))
        assert math.fsum(chance for *_, chance in found) == pytest.approx(1.0)
        mean = math.fsum(chance * unbiased(count, stop=stop, last=last) for count, last, chance in found)
        naive = math.fsum(chance * share(count) for count, _, chance in found)
        assert mean == pytest.approx(value, abs=1e-12)
        if 0.0 < value < 1.0 and batch < 8:
            assert naive > value + 1e-6, f"the plain share should be biased upwards at {value}, got {naive}"


def test_the_bias_of_the_share_at_the_first_success() -> None:
    """Mean share when stopping at the first success of at most 8: .226 at V = .1 and .609 at V = .4."""
    for value, expected in ((0.1, 0.226), (0.4, 0.609)):
        naive = math.fsum(chance * count.value for count, _, chance in ends(1, 8, 1, value))
        assert naive == pytest.approx(expected, abs=1e-3)


def test_the_unbiased_value_in_closed_form() -> None:
    assert unbiased(Count(3, 9), stop=3) == pytest.approx(2 / 8)
    assert unbiased(Count(3, 3), stop=3) == 1.0
    assert unbiased(Count(2, 16), stop=3) == pytest.approx(2 / 16), "at the cap it is the share"
    assert unbiased(Count(1, 1), stop=1) == 1.0
    assert unbiased(Count(1, 5), stop=1) == 0.0, "at stop 1 only the first rollout counts"
    assert unbiased(Count(3, 9, unscored=4), stop=3) == unbiased(Count(3, 9), stop=3), "ungraded rollouts say nothing"
    assert math.isnan(unbiased(Count(0, 0), stop=3))
    with pytest.raises(InputError, match="last"):
        unbiased(Count(3, 4), stop=2, last=5)


def test_the_relative_error_of_inverse_binomial_values_is_about_one_over_the_root_of_r() -> None:
    """Mean .1003 is .1, and the standard deviation at V = .1, r = 3, at most 16 is .088."""
    found = list(ends(3, 16, 1, 0.1))
    spread = math.fsum(chance * (unbiased(count, stop=3, last=last) - 0.1) ** 2 for count, last, chance in found)
    assert math.sqrt(spread) == pytest.approx(0.088, abs=2e-3)
    for value in (0.02, 0.1, 0.3):
        found = list(ends(25, 4000, 1, value)) if value == 0.3 else []
        spread = math.fsum(chance * (unbiased(count, stop=25, last=1) - value) ** 2 for count, _, chance in found)
        if found:
            assert math.sqrt(spread) / value == pytest.approx(math.sqrt((1 - value) / 25), rel=0.1)


@pytest.mark.parametrize("k", [1, 4, 8])
def test_best_of_k_is_unbiased_where_the_plugged_in_share_is_not(k: int) -> None:
    for value in VALUES:
        chances = [(Count(s, 8), exactly(s, 8, value)) for s in range(9)]
        mean = math.fsum(chance * best_of(count, k) for count, chance in chances)
        assert mean == pytest.approx(1 - (1 - value) ** k, abs=1e-12)
        if k > 1 and 0.0 < value < 1.0:
            plugged = math.fsum(chance * best_of_value(count.value, k) for count, chance in chances)
            assert plugged < mean - 1e-4
    assert math.isnan(best_of(Count(1, 3), 4)), "three rollouts cannot show the best of four"


def test_weights_by_log_probability() -> None:
    assert logprob_weighted([True, False, False, True], [-1.0] * 4) == pytest.approx(0.5)
    assert logprob_weighted([True, False], [0.0, math.log(0.5)]) == pytest.approx(1 / 1.5)
    assert logprob_weighted([True, False], [-5000.0, -5000.0]) == pytest.approx(0.5), "weights that underflow are still compared"
    assert logprob_weighted([True, None, False], [-1.0, None, -1.0]) == pytest.approx(0.5), "ungraded rollouts count in neither sum"
    assert math.isnan(logprob_weighted([True, False], [-1.0, None]))
    assert math.isnan(logprob_weighted([None], [-1.0]))


def test_entropic_values_have_their_four_limits() -> None:
    for value in VALUES:
        assert entropic(value, 0.0) == value
        assert entropic(value, 1e-7) == pytest.approx(value, abs=1e-6), "eta to 0: the share"
        assert entropic(value, math.inf) == float(value > 0), "eta to infinity: any"
        assert entropic(value, -math.inf) == float(value == 1), "eta to minus infinity: all"
        assert entropic(value, 5000.0) == pytest.approx(float(value > 0), abs=1e-3)
        assert entropic(value, -5000.0) == pytest.approx(float(value == 1), abs=1e-3)
    assert math.isnan(entropic(math.nan, 1.0))


@pytest.mark.parametrize("eta", [-30.0, -2.0, -0.3, 0.3, 1.0, 2.0, 30.0])
def test_entropic_values_are_the_formula_and_keep_the_order(eta: float) -> None:
    grid = np.linspace(0, 1, 101).tolist()
    found = [entropic(value, eta) for value in grid]
    assert found[:-1] == pytest.approx([math.log1p(value * math.expm1(eta)) / eta for value in grid[:-1]], abs=1e-12)
    assert found[0] == 0.0
    assert found[-1] == 1.0
    assert all(np.diff(found) > 0)


def test_a_plugged_in_entropic_value_is_biased_as_the_curvature_says() -> None:
    value, n, eta = 0.4, 64, 2.0
    mean = math.fsum(exactly(s, n, value) * entropic(s / n, eta) for s in range(n + 1))
    c = math.expm1(eta)
    curvature = -((c / (1 + value * c)) ** 2) / eta
    assert mean - entropic(value, eta) == pytest.approx(curvature * value * (1 - value) / (2 * n), rel=0.05)
    assert mean < entropic(value, eta)


def test_fixed_intervals_are_those_of_clopper_and_pearson() -> None:
    for s, n in ((0, 8), (3, 8), (8, 8), (1, 1), (10, 50)):
        low = 0.0 if s == 0 else stats.beta.ppf(0.025, s, n - s + 1)
        high = 1.0 if s == n else stats.beta.ppf(0.975, s + 1, n - s)
        assert interval(Count(s, n)) == pytest.approx((low, high), abs=1e-9)
    assert interval(Count(0, 0)) == (0.0, 1.0)


@pytest.mark.parametrize(("stop", "batch"), [(1, 1), (2, 1), (3, 1), (2, 3), (1, 4)])
def test_intervals_cover_the_value_whatever_it_is_also_under_early_stopping(stop: int, batch: int) -> None:
    """Exact chance, over all ends of drawing, of missing a value on either side: at most 2.5 % each, for every value on a grid."""
    grid = np.linspace(0.005, 0.995, 199).tolist()
    below, above, width, fixed_below, fixed_width = (np.zeros(len(grid)) for _ in range(5))
    for at, value in enumerate(grid):
        for count, last, chance in ends(stop, 10, batch, value):
            low, high = interval(count, stop=stop, last=last)
            fixed_low, fixed_high = interval(count)
            below[at] += chance * (low > value)
            above[at] += chance * (high < value)
            fixed_below[at] += chance * (fixed_low > value)
            width[at] += chance * (high - low)
            fixed_width[at] += chance * (fixed_high - fixed_low)
    assert below.max() <= 0.025 + 1e-9
    assert above.max() <= 0.025 + 1e-9
    if batch == 1:
        assert (width <= fixed_width).all(), "one at a time, knowing the stopping rule only narrows the interval for fixed numbers"
    elif stop == 2:
        assert fixed_below.max() > 0.025, "in batches, pretending that the number was fixed misses too often"


def test_binomial_tails_agree_with_an_independent_implementation() -> None:
    for n, s, p in ((8, 3, 0.3), (1, 0, 0.999), (300, 290, 0.95), (5, 6, 0.5), (5, -1, 0.5)):
        assert at_most(s, n, p) == pytest.approx(stats.binom.cdf(s, n, p), abs=1e-12)
        assert at_least(s, n, p) == pytest.approx(stats.binom.sf(s - 1, n, p), abs=1e-12)


def test_more_rollouts_make_the_label_any_worse_where_errors_are_repaired() -> None:
    """q1 = .5, q0 = .05, half of the prefixes before the error: best at 4.06 rollouts; 12.4 % wrong at 4, 17 % at 8, 28 % at 16, 40 % at 32."""
    world = {"before": 0.5, "after": 0.05, "share": 0.5}
    assert [round(100 * error_of_any(n, **world), 1) for n in (4, 8, 16, 32)] == pytest.approx([12.4, 17.0, 28.0, 40.3], abs=0.05)
    best = best_n_for_any(**world)
    assert best == pytest.approx(4.06, abs=0.005)
    errors = {n: error_of_any(n, **world) for n in range(1, 40)}
    assert min(errors, key=errors.__getitem__) in (math.floor(best), math.ceil(best))
    assert best_n_for_any(before=0.5, after=0.0, share=0.5) == math.inf
    with pytest.raises(InputError, match="after < before"):
        best_n_for_any(before=0.1, after=0.5, share=0.5)


def test_the_cost_of_stopping_at_the_first_success() -> None:
    """V = .5 costs 1.99 of 8 rollouts, .2 4.16, 0 all 8."""
    for value, expected in ((0.5, 1.99), (0.2, 4.16), (0.0, 8.0)):
        assert draws_to_first_success(value, 8) == pytest.approx(expected, abs=5e-3)
        assert math.fsum(chance * count.rollouts for count, _, chance in ends(1, 8, 1, value)) == pytest.approx(draws_to_first_success(value, 8))


def test_posteriors_are_beta() -> None:
    count, prior = Count(3, 8), (2.0, 1.5)
    posterior = stats.beta(prior[0] + 3, prior[1] + 5)
    assert beta_mean(count, prior) == pytest.approx(posterior.mean())
    assert beta_variance(count, prior) == pytest.approx(posterior.var())
    for bar in (0.1, 0.25, 0.9):
        assert chance_above(count, bar) == pytest.approx(stats.beta(4, 6).sf(bar), abs=1e-12)


def test_solvability_of_a_guesser_stays_undecided_and_of_a_solver_grows_to_one() -> None:
    guesser = {n: math.fsum(exactly(s, n, 0.25) * solvability(Count(s, n), 4) for s in range(n + 1)) for n in (16, 64, 256)}
    solver = {n: math.fsum(exactly(s, n, 0.45) * solvability(Count(s, n), 4) for s in range(n + 1)) for n in (16, 64, 256)}
    assert all(0.45 < mean < 0.65 for mean in guesser.values()), guesser
    assert guesser[16] > guesser[64] > guesser[256], "it comes down to one half and does not grow"
    assert solver[16] < solver[64] < solver[256]
    assert solver[256] > 0.999
    assert solvability(Count(0, 0), 4) == pytest.approx(0.75), "without samples: the prior"
    with pytest.raises(InputError, match="n_options"):
        solvability(Count(1, 2), 1)
