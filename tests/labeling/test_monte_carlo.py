"""Monte-Carlo labels against exact values."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.labeling.chains import WORLD as STAIRS
from tests.labeling.chains import Ladder, by_length, chain, label_all, many

from stepward.core import Count, InputError, Outcome, Policy, RequestFailed, Sampling, StepLabels, Trajectory, Until
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling import ExactValue, MonteCarlo, OracleLabels
from stepward.labeling.binomial import draws_to_first_success, error_of_any
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(1.5), notice=0.2, lucky=0.05)


def trajectories(n: int, seed: int = 0) -> list[Trajectory]:
    async def run() -> list[Trajectory]:
        return [(await solve(SOLVER, WORLD, problem, 1, sampling=Sampling(seed=seed)))[0] for problem in WORLD.problems(seed, n)]

    return asyncio.run(run())


def labelled(cases: list[Trajectory], labeler: MonteCarlo | ExactValue | OracleLabels) -> list[StepLabels]:
    async def run() -> list[StepLabels]:
        return list(await asyncio.gather(*(labeler.label(case) for case in cases)))

    return asyncio.run(run())


def test_soft_labels_are_unbiased_and_binomial() -> None:
    """E[successes / n] = V and Var = V (1 - V) / n: signed error within 3 standard errors of zero, variance within 5 % of the binomial one.

    The ratio of variances has itself a standard error of about sqrt(2 / rows): 5,500 rows make 5 % more than two and a half of them.
    """
    cases, n = [case for seed in range(3) for case in trajectories(400, seed)], 4
    given = labelled(cases, MonteCarlo(policy=SOLVER, environment=WORLD, n=n))
    exact = labelled(cases, ExactValue(SOLVER))
    rows = [
        (label.values[t] - truth.values[t], truth.values[t])
        for label, truth in zip(given, exact, strict=True)
        for t, count in enumerate(label.counts)
        if count is not None
    ]
    error, value = np.array(rows).T
    binomial = value * (1 - value) / n
    standard_error = math.sqrt(binomial.sum()) / len(rows)
    assert abs(error.mean()) < 3 * standard_error, f"mean signed error {error.mean():.5f}, standard error {standard_error:.5f}"
    assert 0.95 < (error**2).sum() / binomial.sum() < 1.05


def test_hard_labels_are_good_with_the_chance_of_one_success() -> None:
    """P(hard label good) = 1 - (1 - V)^n: the over-estimation of hard estimation, exactly."""
    cases, n = trajectories(300, seed=1), 4
    given = labelled(cases, MonteCarlo(policy=SOLVER, environment=WORLD, n=n))
    exact = labelled(cases, ExactValue(SOLVER))
    pairs = [(bool(label.hard[t]), 1 - (1 - truth.values[t]) ** n) for label, truth in zip(given, exact, strict=True) for t in range(len(label) - 1)]
    good, chance = np.array(pairs, dtype=float).T
    assert abs((good - chance).mean()) < 3 * math.sqrt((chance * (1 - chance)).sum()) / len(pairs)


def test_the_last_step_is_graded_and_costs_nothing() -> None:
    case = trajectories(1)[0]
    labels = labelled([case.prefix(len(case))], MonteCarlo(policy=SOLVER, environment=WORLD, n=4))[0]
    assert case.outcome is not None
    assert labels.values[-1] == case.outcome.value
    assert labels.counts[-1] is None
    one_step = Trajectory.from_texts(case.problem, [case.steps[-1].text])
    alone = labelled([one_step], MonteCarlo(policy=SOLVER, environment=WORLD, n=4))[0]
    assert alone.usage.policy_tokens == 0


def test_an_open_trajectory_is_rolled_out_from_its_last_step_too() -> None:
    case = next(case for case in trajectories(5) if len(case) > 2)
    labels = labelled([case.prefix(2)], MonteCarlo(policy=SOLVER, environment=WORLD, n=4))[0]
    assert [count is not None for count in labels.counts] == [True, True]


def test_a_trajectory_that_was_cut_off_is_unlabelled_at_its_end() -> None:
    case = trajectories(1)[0]
    cut = replace(case.prefix(1), truncated=True)
    labels = labelled([cut], MonteCarlo(policy=SOLVER, environment=WORLD, n=4))[0]
    assert labels.hard == (None,)
    assert labels.reasons[0]


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail from the second step on."""

    policy: Policy

    @property
    def fingerprint(self) -> str:
        return "failing"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if len(prefix) == 2:
            raise RequestFailed("the server is gone")
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_a_failed_request_leaves_one_step_unlabelled_and_the_rest_labelled() -> None:
    case = next(case for case in trajectories(20) if len(case) > 4)
    labels = labelled([case], MonteCarlo(policy=Failing(SOLVER), environment=WORLD, n=4))[0]
    assert math.isnan(labels.values[1])
    assert "the server is gone" in (labels.reasons[1] or "")
    assert labels.n_unlabelled == 1
    assert labels.first_error is None or labels.first_error <= 0, "an unlabelled step must hide a later first error"


@dataclass(frozen=True)
class Ungraded:
    """Grade-school with a grader that never knows."""

    world: GradeSchool
    interactive: bool = False
    fingerprint: str = "ungraded"

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return self.world.is_finished(trajectory)

    def answer(self, trajectory: Trajectory) -> str | None:
        return None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome.unscored("no reference answer")


def test_ungraded_rollouts_are_neither_successes_nor_failures() -> None:
    case = replace(trajectories(1)[0], outcome=None)
    labels = labelled([case], MonteCarlo(policy=SOLVER, environment=Ungraded(WORLD), n=3))[0]
    assert labels.n_unlabelled == len(case)
    assert all(count == Count(0, 0, 3) for count in labels.counts[:-1])
    assert "no reference answer" in (labels.reasons[0] or "")


def test_the_labelers_keep_their_promises() -> None:
    cases = trajectories(3)
    check_labeler(MonteCarlo(policy=SOLVER, environment=WORLD, n=2), cases)
    check_labeler(OracleLabels(WORLD), cases)
    check_labeler(OracleLabels(WORLD, "local"), cases)
    check_labeler(ExactValue(SOLVER), cases)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        MonteCarlo(policy=SOLVER, environment=WORLD, n=0)
    with pytest.raises(InputError, match="threshold"):
        MonteCarlo(policy=SOLVER, environment=WORLD, threshold=1.0)


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("batch", [1, 3])
def test_curtailed_hard_labels_are_the_same_path_by_path_and_cheaper(threshold: float, batch: int) -> None:
    cases = trajectories(60, seed=2)
    fixed = MonteCarlo(policy=SOLVER, environment=WORLD, n=8, estimate="hard", threshold=threshold)
    curtailed = replace(fixed, batch=batch)
    full, short = labelled(cases, fixed), labelled(cases, curtailed)
    assert [labels.hard for labels in short] == [labels.hard for labels in full]
    assert [labels.values.tolist() for labels in short] == [labels.values.tolist() for labels in full]
    saved = 1 - sum(labels.usage.policy_tokens for labels in short) / sum(labels.usage.policy_tokens for labels in full)
    assert saved > (0.4 if threshold == 0.0 else 0.1), "one success settles much; more than 30 % of eight takes three"
    assert full[0].values.tolist() == [float(bool(good)) for good in full[0].hard], "hard estimation has values 1 and 0"


def test_curtailed_drawing_costs_what_the_formula_says() -> None:
    """Mean number of rollouts until the first success of at most n: (1 - (1 - V)^n) / V, within 3 standard errors."""
    n = 8
    for value in (0.0, 0.2, 0.5, 0.9):
        labeler = MonteCarlo(policy=Ladder(by_length([value, value]), 2), environment=STAIRS, n=n, estimate="hard", batch=1)
        labels = label_all(labeler, [chain(2, problem=problem) for problem in many(250)])
        drawn = np.array([count.rollouts for label in labels for count in label.counts if count is not None], dtype=float)
        expected = draws_to_first_success(value, n)
        assert abs(drawn.mean() - expected) <= 3 * drawn.std() / math.sqrt(len(drawn)) + 1e-12, (value, drawn.mean(), expected)
        assert [label.usage.policy_tokens for label in labels] == drawn.tolist(), "one token a rollout here"


def test_soft_values_that_stop_at_a_number_of_successes_are_unbiased_and_the_share_is_not() -> None:
    value, wanted = 0.35, 3
    labeler = MonteCarlo(policy=Ladder(by_length([value, value]), 2), environment=STAIRS, n=16, stop_after=wanted)
    labels = label_all(labeler, [chain(2, problem=problem) for problem in many(800)])
    given = np.array([label.values[0] for label in labels])
    shares = np.array([label.counts[0].value for label in labels if label.counts[0] is not None])
    error = given.std() / math.sqrt(len(given))
    assert abs(given.mean() - value) < 3 * error
    assert shares.mean() - value > 3 * error, "the plain share is biased upwards"
    covered = [bounds[0] <= value <= bounds[1] for label in labels if (bounds := label.bounds[0]) is not None]
    assert np.mean(covered) >= 0.95


def test_soft_labels_carry_intervals_that_cover_the_exact_value() -> None:
    cases = trajectories(120, seed=4)
    given = labelled(cases, MonteCarlo(policy=SOLVER, environment=WORLD, n=8))
    exact = labelled(cases, ExactValue(SOLVER))
    covered = [low <= truth.values[t] <= high for label, truth in zip(given, exact, strict=True) for t, (low, high) in enumerate(filter(None, label.bounds))]
    assert len(covered) > 500
    assert np.mean(covered) >= 0.95


def test_stopping_early_and_soft_values_do_not_go_together_unasked() -> None:
    with pytest.raises(InputError, match="biases soft values"):
        MonteCarlo(policy=SOLVER, environment=WORLD, batch=1)
    with pytest.raises(InputError, match="stop_after"):
        MonteCarlo(policy=SOLVER, environment=WORLD, stop_after=1)
    with pytest.raises(InputError, match="estimate"):
        MonteCarlo(policy=SOLVER, environment=WORLD, estimate="mean")  # type: ignore[arg-type]


def test_more_rollouts_make_hard_labels_worse_where_errors_are_repaired() -> None:
    """Error of "any of n" labels, half of the steps before an error: the closed form within 3 standard errors, rising after 4 rollouts."""
    before, after, seen = 0.5, 0.05, {}
    policy = Ladder(lambda prefix: before if len(prefix) == 1 else after, 3)
    cases = [chain(3, problem=problem) for problem in many(400)]
    for n in (1, 4, 16):
        labels = label_all(MonteCarlo(policy=policy, environment=STAIRS, n=n, estimate="hard", batch=1), cases)
        wrong = [label.hard[0] is False for label in labels] + [label.hard[1] is True for label in labels]
        expected = error_of_any(n, before=before, after=after, share=0.5)
        assert abs(np.mean(wrong) - expected) < 3 * math.sqrt(expected * (1 - expected) / len(wrong))
        seen[n] = np.mean(wrong)
    assert seen[4] < seen[1]
    assert seen[4] < seen[16]
