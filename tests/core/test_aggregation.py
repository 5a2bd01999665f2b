"""Aggregations against their formulas and the order that theory gives them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepward.core import AGGREGATIONS, InputError, aggregate

probabilities = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)
interior = st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=12)
NAMES = sorted(AGGREGATIONS)
VALUES = [0.9, 0.5, 0.8]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("last", 0.8),
        ("min", 0.5),
        ("max", 0.9),
        ("mean", 2.2 / 3),
        ("product", 0.36),
        ("geometric", 0.36 ** (1 / 3)),
        ("softmin", sum(v * math.exp(-v / 0.1) for v in VALUES) / sum(math.exp(-v / 0.1) for v in VALUES)),
        ("mean_logit", 1 / (1 + math.exp(-(math.log(9) + 0 + math.log(4)) / 3))),
    ],
)
def test_formula(how: str, expected: float) -> None:
    assert aggregate(VALUES, how) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(probabilities)
def test_product_min_geometric_mean_max_are_ordered(values: list[float]) -> None:
    product, least, geometric, mean, most = (aggregate(values, how) for how in ("product", "min", "geometric", "mean", "max"))
    slack = 1e-9
    assert product <= max(least, 1e-12) + slack
    assert least <= geometric + slack
    assert geometric <= mean + slack
    assert mean <= most + slack


@settings(max_examples=50, deadline=None)
@given(probabilities)
def test_softmin_lies_between_min_and_mean(values: list[float]) -> None:
    assert aggregate(values, "min") - 1e-12 <= aggregate(values, "softmin") <= aggregate(values, "mean") + 1e-12


@settings(max_examples=50, deadline=None)
@given(interior)
def test_mean_logit_lies_between_min_and_max(values: list[float]) -> None:
    assert min(values) - 1e-9 <= aggregate(values, "mean_logit") <= max(values) + 1e-9


@pytest.mark.parametrize("how", NAMES)
@settings(max_examples=50, deadline=None)
@given(value=st.floats(1e-9, 1 - 1e-9))
def test_one_step_aggregates_to_its_own_value(how: str, value: float) -> None:
    assert aggregate([value], how) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("how", [name for name in NAMES if name != "last"])
@settings(max_examples=50, deadline=None)
@given(values=interior, seed=st.integers(0, 99))
def test_the_order_of_steps_does_not_matter_but_for_last(how: str, values: list[float], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    assert aggregate(shuffled, how) == pytest.approx(aggregate(values, how), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("how", [name for name in NAMES if name != "softmin"])
@settings(max_examples=50, deadline=None)
@given(values=interior, index=st.integers(0, 11), up=st.floats(0.0, 1.0))
def test_a_better_step_never_lowers_the_aggregate(how: str, values: list[float], index: int, up: float) -> None:
    """Softmin is excluded on purpose: it is not monotone."""
    better = list(values)
    better[index % len(values)] += up * (1 - 1e-6 - better[index % len(values)])
    assert aggregate(better, how) >= aggregate(values, how) - 1e-9


def test_softmin_is_not_monotone() -> None:
    assert aggregate([0.1, 0.3], "softmin") > aggregate([0.1, 0.6], "softmin")


@pytest.mark.parametrize("how", NAMES)
def test_nothing_is_unscored_not_zero(how: str) -> None:
    assert math.isnan(aggregate([], how))
    assert math.isnan(aggregate([math.nan], how, unscored="skip"))
    assert math.isnan(aggregate([0.5, math.nan], how))
    assert aggregate([0.5, math.nan], how, unscored="skip") == pytest.approx(0.5)


def test_products_and_logits_of_extreme_probabilities_stay_finite() -> None:
    for how in ("product", "geometric", "mean_logit"):
        assert 0.0 <= aggregate([0.0, 1.0], how) <= 1.0
        assert aggregate([0.0] * 300, how) >= 0.0


@pytest.mark.parametrize("how", ["product", "geometric", "mean_logit"])
@pytest.mark.parametrize("values", [[-0.5, 0.2], [0.5, 1.5]])
def test_formulas_on_probabilities_refuse_other_values(how: str, values: list[float]) -> None:
    with pytest.raises(InputError, match=r"needs probabilities in \[0, 1\].*use min, mean or last"):
        aggregate(values, how)
    assert not math.isnan(aggregate(values, "mean"))


def test_errors_name_the_value_and_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown aggregation 'median'; choose one of last, min"):
        aggregate([0.5], "median")
    with pytest.raises(InputError, match=r"shape \[S\].*\(1, 2\)"):
        aggregate([[0.5, 0.5]], "min")
