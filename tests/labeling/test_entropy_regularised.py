"""Entropy-regularised values: limits, order and the soft Bellman equation, exactly."""

from __future__ import annotations

import asyncio
import math
from functools import cache

import numpy as np
import pytest
from tests.labeling.chains import label_all

from stepward.core import InputError
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.entropy_regularised import EntropyRegularised
from stepward.labeling.estimators import entropic
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.policies.scripted import ErrorRates, ScriptedSolver

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.2)
CASES = [asyncio.run(solve(SOLVER, WORLD, problem))[0] for problem in WORLD.problems(1, 12)]


@cache
def labels_at(eta: float) -> list[list[float]]:
    return [labels.values.tolist() for labels in label_all(EntropyRegularised(policy=SOLVER, environment=WORLD, n=8, eta=eta), CASES)]


def test_it_lies_between_soft_and_hard_estimation_on_the_same_rollouts() -> None:
    soft = label_all(MonteCarlo(policy=SOLVER, environment=WORLD, n=8), CASES)
    hard = label_all(MonteCarlo(policy=SOLVER, environment=WORLD, n=8, estimate="hard"), CASES)
    assert labels_at(0.0) == [labels.values.tolist() for labels in soft]
    assert labels_at(math.inf) == [labels.values.tolist() for labels in hard]
    assert labels_at(-math.inf) == [[float(value == 1) for value in labels.values] for labels in soft]
    for low, middle, high in zip(labels_at(0.0), labels_at(3.0), labels_at(math.inf), strict=True):
        assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


@pytest.mark.parametrize("eta", [-2.0, 1.0, 5.0])
def test_it_ranks_steps_as_soft_estimation_does(eta: float) -> None:
    soft = np.concatenate(labels_at(0.0))
    mapped = np.concatenate(labels_at(eta))
    for one in range(0, len(soft), 7):
        assert np.array_equal(np.sign(soft - soft[one]), np.sign(np.round(mapped - mapped[one], 12)))


def test_its_bounds_hold_the_mapped_exact_value() -> None:
    eta, held = 2.0, []
    for case, labels in zip(CASES, label_all(EntropyRegularised(policy=SOLVER, environment=WORLD, n=8, eta=eta), CASES), strict=True):
        for step, bounds in enumerate(labels.bounds[:-1]):
            assert bounds is not None
            held.append(bounds[0] <= entropic(SOLVER.value(case.prefix(step + 1)), eta) <= bounds[1])
    assert np.mean(held) >= 0.95


@pytest.mark.parametrize("eta", [-3.0, 0.5, 1.0, 4.0])
def test_exact_values_satisfy_the_soft_bellman_equation(eta: float) -> None:
    """f(V_{t-1}) = (1 / eta) ln E_a[exp(eta f(V_t))] over the solver's own law of steps; at eta 0 this is the martingale of values."""
    checked = 0
    for case in CASES[:10]:
        for depth in range(len(case)):
            prefix = case.prefix(depth)
            law = SOLVER.step_law(prefix)
            after = [(chance, SOLVER.value(prefix.extend(SOLVER.step(prefix, move)))) for move, chance in law.items()]
            assert math.fsum(chance * value for chance, value in after) == pytest.approx(SOLVER.value(prefix), abs=1e-9)
            soft = math.log(math.fsum(chance * math.exp(eta * entropic(value, eta)) for chance, value in after)) / eta
            assert soft == pytest.approx(entropic(SOLVER.value(prefix), eta), abs=1e-9)
            checked += 1
    assert checked > 40


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        EntropyRegularised(policy=SOLVER, environment=WORLD, eta=math.nan)
