"""Relative progress: sizes by pass@1, the ratio rule and its invariances."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from tests.labeling.chains import WORLD, Ladder, by_length, chain, label, label_all, many

from stepward.core import Count, InputError
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.maps import ratios
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.relative_progress import RelativeProgress
from stepward.policies.scripted import ErrorRates, ScriptedSolver

LENGTH = 6
HALF = Count(50, 100)


def labeler(values: list[float], **settings: object) -> RelativeProgress:
    return RelativeProgress(policy=Ladder(by_length(values), len(values)), environment=WORLD, **settings)  # type: ignore[arg-type]


def test_the_rule_by_hand() -> None:
    """Exact chances of 0 and 1 make every share exact: V_0 = .5 by the known count, 1, 1, 0, then nothing more is drawn."""
    labels = label(labeler([0.5, 1.0, 1.0, 0.0, 1.0, 1.0], sizes=((1.0, 4),)), chain(LENGTH), root=HALF)
    assert labels.values.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert labels.hard == (True, True, False, False, False, False)
    assert labels.first_error == 2
    assert [count is not None for count in labels.counts] == [True, True, True, False, False, False]
    assert labels.usage.policy_tokens == 4 * (5 + 4 + 3)
    assert labels.evidence[0][-1] == {"before": 0.5, "root": 0.5}


@pytest.mark.parametrize(("root", "n"), [(Count(1, 20), 128), (Count(2, 20), 64), (Count(10, 20), 64), (Count(18, 20), 32), (Count(19, 20), 32)])
def test_hard_problems_get_more_rollouts(root: Count, n: int) -> None:
    labels = label(labeler([1.0] * 3), chain(3), root=root)
    assert [count.rollouts for count in labels.counts if count is not None] == [n, n]


@pytest.mark.parametrize("root", [Count(0, 30), Count(30, 30)])
def test_problems_that_are_never_or_always_solved_are_left_out(root: Count) -> None:
    labels = label(labeler([1.0] * 3), chain(3), root=root)
    assert labels.usage.policy_tokens == 0
    assert all((reason or "").startswith("abstained") for reason in labels.reasons)


def test_a_bar_close_to_zero_is_hard_estimation_with_the_first_zero() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    cases = [asyncio.run(solve(solver, world, problem))[0] for problem in world.problems(2, 25)]
    tiny = RelativeProgress(policy=solver, environment=world, bar=1e-9, sizes=((1.0, 8),))
    given = label_all(tiny, cases, [HALF] * len(cases))
    hard = label_all(MonteCarlo(policy=solver, environment=world, n=8), cases)
    assert [labels.first_error for labels in given] == [labels.first_error for labels in hard]
    assert any(labels.first_error not in (None, -1) for labels in given)


def test_exact_ratios_have_mean_one_along_the_policys_own_steps() -> None:
    """V is a martingale: E[V_t / V_{t-1} | prefix] = 1, over the exact law of the next step."""
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))
    for problem in world.problems(4, 10):
        (case,) = asyncio.run(solve(solver, world, problem))
        for depth in range(len(case)):
            prefix = case.prefix(depth)
            law = solver.step_law(prefix).items()
            after = [ratios([solver.value(prefix.extend(solver.step(prefix, move)))], solver.value(prefix))[0] for move, _ in law]
            assert math.fsum(chance * ratio for (_, chance), ratio in zip(law, after, strict=True)) == pytest.approx(1.0, abs=1e-9)


def test_the_difference_form() -> None:
    values = [0.5, 1.0, 0.7, 0.7, 0.0, 0.0]
    found = label(labeler(values, form="difference", bar=-0.55, sizes=((1.0, 400),)), chain(LENGTH), root=HALF)
    assert found.hard == (True, True, True, False, False, False), "a zero ends it, though later differences are 0"
    strict = label(labeler(values, form="difference", bar=-0.2, sizes=((1.0, 400),)), chain(LENGTH), root=HALF)
    assert strict.first_error == 1


def test_stopping_at_a_number_of_successes_keeps_ratios_as_exact_where_values_are_small() -> None:
    """At V = .1 the ratio of two shares of 32 is off by more than half; with 8 successes each it is not, and values stay unbiased."""
    values = [0.1, 0.1, 0.1]
    fixed, stopping = labeler(values, sizes=((1.0, 32),)), labeler(values, sizes=((1.0, 300),), stop_after=8)
    spreads = []
    for method in (fixed, stopping):
        found = label_all(method, [chain(3, problem=problem) for problem in many(70)], [Count(10, 100)] * 70)
        first = np.array([labels.values[0] for labels in found])
        assert abs(first.mean() - 0.1) < 3 * first.std() / math.sqrt(len(first))
        spreads.append(np.nanstd([labels.values[1] / labels.values[0] if labels.values[0] else math.nan for labels in found]))
    assert spreads[0] > 0.5
    assert spreads[1] == pytest.approx(math.sqrt(2 * 0.9 / 8), rel=0.35)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="rising bounds"):
        labeler([1.0], sizes=((0.5, 8),))
    with pytest.raises(InputError, match="form"):
        labeler([1.0], form="quotient")
    with pytest.raises(InputError, match="stop_after"):
        labeler([1.0], stop_after=1)
