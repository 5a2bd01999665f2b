"""Step labels: unlabelled is not zero, three meanings are kept apart, counts give intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stepward.core import Count, CountMismatch, InputError, StepLabels, first_bad


def test_certain_labels_have_values_one_and_zero() -> None:
    labels = StepLabels.from_hard([True, False, None], semantics="local", reason="not seen", first_error=1)
    assert labels.values[:2].tolist() == [1.0, 0.0]
    assert math.isnan(labels.values[2])
    assert labels.reasons == (None, None, "not seen")
    assert labels.hard == (True, False, None)
    assert (len(labels), labels.n_unlabelled, labels.first_error) == (3, 1, 1)


def test_counts_give_values_hard_labels_and_the_first_error() -> None:
    labels = StepLabels.from_counts([Count(4, 4), Count(1, 4), Count(0, 4), Count(2, 4)])
    assert labels.values.tolist() == [1.0, 0.25, 0.0, 0.5]
    assert labels.hard == (True, True, False, True)
    assert labels.first_error == 2
    assert labels.semantics == "value"
    assert StepLabels.from_counts([Count(4, 4), Count(1, 4)], threshold=0.25).first_error == 1


def test_a_count_without_rollouts_is_unlabelled_and_hides_the_first_error_after_it() -> None:
    labels = StepLabels.from_counts([Count(1, 1), Count(0, 0, unscored=4), Count(0, 4)])
    assert labels.reasons == (None, "no completion was graded", None)
    assert labels.hard[1] is None
    assert labels.first_error is None


def test_a_missing_count_keeps_its_own_reason() -> None:
    assert StepLabels.from_counts([None], reasons=["server down"]).reasons == ("server down",)


@settings(deadline=None)
@given(st.lists(st.none() | st.booleans(), max_size=8))
def test_first_bad_is_the_first_false_unless_hidden(hard: list[bool | None]) -> None:
    found = first_bad(hard)
    if found is None:
        assert None in hard[: hard.index(False)] if False in hard else None in hard
    elif found == -1:
        assert all(good is True for good in hard)
    else:
        assert hard[found] is False
        assert all(good is True for good in hard[:found])


@pytest.mark.parametrize(("successes", "rollouts"), [(0, 4), (4, 4), (3, 8), (50, 100)])
def test_the_interval_is_wilsons(successes: int, rollouts: int) -> None:
    expected = stats.binomtest(successes, rollouts).proportion_ci(method="wilson")
    assert Count(successes, rollouts).interval() == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_rollouts_leave_everything_open() -> None:
    assert Count(0, 0).interval() == (0.0, 1.0)
    assert math.isnan(Count(0, 0).value)
    assert StepLabels.from_counts([Count(1, 2), None], reasons=[None, "x"]).intervals()[1] is None


@pytest.mark.parametrize("bad", [(-1, 2, 0), (3, 2, 0), (1, 2, -1)])
def test_impossible_counts_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="0 <= successes <= rollouts"):
        Count(*bad)


def test_values_are_a_read_only_copy() -> None:
    given_values = np.array([0.5, 0.25])
    labels = StepLabels(given_values, "value")
    given_values[0] = 0.0
    assert labels.values.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="read-only"):
        labels.values[0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"values": [0.5], "semantics": "truth"}, InputError, "must be 'value', 'local' or 'prefix', got 'truth'"),
        ({"values": [1.5], "semantics": "value"}, InputError, r"must lie in \[0, 1\], got \[1.5\]"),
        ({"values": [math.nan], "semantics": "value"}, InputError, "step 0 is .*nan.* exactly the unscored"),
        ({"values": [0.5], "semantics": "value", "reasons": ("why",)}, InputError, "exactly the unscored"),
        ({"values": [math.inf], "semantics": "value"}, InputError, "step 0 is infinite"),
        ({"values": [0.5], "semantics": "value", "hard": (True, False)}, CountMismatch, "1 values but 2 hard"),
        ({"values": [0.5], "semantics": "value", "reasons": (None, None)}, CountMismatch, "1 values but 2 reasons"),
        ({"values": [0.5], "semantics": "value", "first_error": 1}, InputError, r"must lie in -1..0, got 1"),
        ({"values": [[0.5]], "semantics": "value"}, InputError, r"shape \(1, 1\)"),
    ],
)
def test_contradictions_are_refused_with_the_value(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        StepLabels(**arguments)  # type: ignore[arg-type]


def test_equality_is_of_content() -> None:
    assert StepLabels.from_hard([True, None], semantics="local") == StepLabels.from_hard([True, None], semantics="local")
    assert StepLabels.from_hard([True], semantics="local") != StepLabels.from_hard([True], semantics="prefix")
    assert StepLabels.from_hard([True], semantics="local") != "labels"
    with pytest.raises(TypeError, match="unhashable"):
        hash(StepLabels.from_hard([True], semantics="local"))


def test_unlabelled_says_why_at_every_step() -> None:
    labels = StepLabels.unlabelled(2, "budget spent", semantics="value")
    assert labels.reasons == ("budget spent", "budget spent")
    assert labels.n_unlabelled == 2
