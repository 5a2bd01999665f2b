"""Step scores: one value a step or a reason; abstaining is not failing, and neither is zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from tests.strategies import step_scores

from stepward.core import CountMismatch, InputError, StepScores

NAN = math.nan


def test_the_first_error_is_the_first_value_below_the_threshold() -> None:
    scores = StepScores([0.9, 0.5, 0.4])  # type: ignore[arg-type]
    assert scores.first_error() == 2
    assert scores.first_error(0.95) == 0
    assert scores.first_error(0.1) == -1


def test_abstentions_are_passed_over_and_failures_hide_what_follows() -> None:
    assert StepScores([NAN, 0.1], ("abstained: no claim", None)).first_error() == 1  # type: ignore[arg-type]
    assert StepScores([NAN, 0.1], ("server down", None)).first_error() is None  # type: ignore[arg-type]
    assert StepScores([0.1, NAN], (None, "server down")).first_error() == 0  # type: ignore[arg-type]
    assert StepScores([NAN], ("abstained",)).first_error() == -1  # type: ignore[arg-type]
    mixed = StepScores([NAN, NAN, 0.5], ("abstained", "too long", None))  # type: ignore[arg-type]
    assert (mixed.n_unscored, mixed.n_failed) == (2, 1)


def test_unscored_scores_have_no_aggregate() -> None:
    scores = StepScores.unscored(3, "too long")
    assert math.isnan(scores.aggregate("mean"))
    assert len(scores) == scores.n_failed == 3
    assert StepScores([0.5, NAN], (None, "x")).aggregate("min", unscored="skip") == 0.5  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(step_scores())
def test_exactly_the_unscored_steps_carry_a_reason(scores: StepScores) -> None:
    assert [math.isnan(value) for value in scores.values] == [reason is not None for reason in scores.reasons]
    assert scores.n_failed <= scores.n_unscored <= len(scores)


def test_probabilities_outside_the_unit_interval_are_refused_but_logits_are_not() -> None:
    with pytest.raises(InputError, match=r"probability scale must lie in \[0, 1\]"):
        StepScores([1.2])  # type: ignore[arg-type]
    assert StepScores([-3.0], scale="logit", threshold=0.0).first_error() == 0  # type: ignore[arg-type]


def test_numbers_of_reasons_and_rationales_must_match() -> None:
    with pytest.raises(CountMismatch, match="1 values but 2 reasons"):
        StepScores([0.5], (None, None))  # type: ignore[arg-type]
    with pytest.raises(CountMismatch, match="1 values but 2 rationales"):
        StepScores([0.5], rationales=("a", "b"))  # type: ignore[arg-type]


def test_no_steps_are_fine() -> None:
    assert StepScores([]).first_error() == -1  # type: ignore[arg-type]
    assert StepScores([]) == StepScores([])  # type: ignore[arg-type]


def test_the_overall_number_passes_over_abstentions_and_not_over_failures() -> None:
    assert StepScores([0.9, math.nan, 0.4], (None, "abstained: nothing to check", None)).overall("min") == 0.4
    assert math.isnan(StepScores([0.9, math.nan, 0.4], (None, "time-out", None)).overall("min"))
    assert math.isnan(StepScores([math.nan], ("abstained",)).overall("min"))
