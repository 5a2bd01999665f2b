"""Outcome labels weighted by solvability."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.labeling.chains import WORLD, Ladder, by_length, chain, label, label_all, many

from stepward.core import Count, InputError
from stepward.labeling.solvability import SolvableOutcome


def labeler(value: float, n_options: int = 4, n_root: int = 16) -> SolvableOutcome:
    return SolvableOutcome(policy=Ladder(by_length([value] * 3), 3), environment=WORLD, n_options=n_options, n_root=n_root)


def test_a_right_solution_is_good_with_solvability_as_its_confidence() -> None:
    labels = label(labeler(0.5), chain(3, "right"), root=Count(7, 16))
    assert labels.hard == (True, True, True)
    assert labels.confidence.tolist() == pytest.approx([stats.beta(8, 10).sf(0.25)] * 3)
    assert labels.usage.policy_tokens == 0


def test_of_a_wrong_solution_only_the_end_is_known() -> None:
    labels = label(labeler(0.5), chain(3))
    assert labels.hard == (None, None, False)
    assert labels.reasons[0] == "abstained: the outcome does not say where the error is"
    assert labels.first_error is None
    assert labels.confidence[-1] == 1.0


def test_guesses_weigh_about_half_and_real_solutions_grow_to_one() -> None:
    def mean_weight(value: float, n: int) -> float:
        cases = [chain(3, "right", problem=problem) for problem in many(60)]
        return float(np.mean([labels.confidence[0] for labels in label_all(labeler(value, n_root=n), cases)]))

    assert mean_weight(0.25, 16) == pytest.approx(0.5, abs=0.15)
    assert mean_weight(0.25, 64) == pytest.approx(0.5, abs=0.15)
    assert mean_weight(0.6, 64) > 0.98


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="n_options"):
        labeler(0.5, n_options=1)
