"""Self-denoising annotation: the confidence filter, the forward search and the softened targets."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.labeling.chains import WORLD, Ladder, by_length, chain, label, label_all, many

from stepward.core import Count, InputError, StepLabels, Trajectory
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.scan import Scan

LENGTH = 8
SURE = Count(100, 125)  # a self-confidence of .8, known from the solutions of the problem


def test_targets_by_hand() -> None:
    """Shares come from the counts; the two steps before the error are softened by the confidence; what follows the error is left out."""
    values = [0.8, 1.0, 1.0, 0.6, 0.5, 0.0, 0.0, 0.0]
    labels = label(Scan(policy=Ladder(by_length(values), LENGTH), environment=WORLD), chain(LENGTH), root=SURE)
    assert labels.first_error == 4, "the fifth step is the first after which nothing comes right"
    shares = [count.value for count in labels.counts[:5] if count is not None]
    expected = [1.0, 1.0, min(1.0, shares[2] / 0.8), min(1.0, shares[3] / 0.8), 0.0]
    assert labels.values[:5].tolist() == pytest.approx(expected)
    assert labels.hard == (True, True, True, True, False, None, None, None)
    assert all(reason == "abstained: after the first error" for reason in labels.reasons[5:])
    assert labels.semantics == "prefix"


def test_the_cost_is_eight_rollouts_of_every_step_up_to_the_error() -> None:
    """c_t = remaining steps, one token each: 8 * sum_{t <= error} c_t, and nothing for a right solution."""
    for values, error in (([1.0] * 6 + [0.0] * 2, 5), ([1.0, 0.0] + [0.0] * 6, 0), ([1.0] * 8, 7)):
        labels = label(Scan(policy=Ladder(by_length(values), LENGTH), environment=WORLD, n=8), chain(LENGTH), root=SURE)
        assert labels.first_error == error
        probed = range(1, min(error + 1, LENGTH - 1) + 1)
        assert labels.usage.policy_tokens == 8 * sum(LENGTH - steps for steps in probed)
    right = label(Scan(policy=Ladder(by_length([0.0] * 8), LENGTH), environment=WORLD), chain(LENGTH, "right"), root=SURE)
    assert right.usage.policy_tokens == 0
    assert right.first_error == -1


def test_problems_of_which_the_policy_is_not_sure_are_left_out() -> None:
    labels = label(Scan(policy=Ladder(by_length([0.5] * 8), LENGTH), environment=WORLD, n_root=40), chain(LENGTH))
    assert all((reason or "").startswith("abstained: self-confidence") for reason in labels.reasons)
    assert labels.usage.policy_tokens == 40 * LENGTH, "only the confidence was paid for"
    kept = label(Scan(policy=Ladder(by_length([0.9] * 8), LENGTH), environment=WORLD, n_root=40), chain(LENGTH))
    assert kept.n_unlabelled == 0


def test_halving_every_chance_changes_a_target_no_more_than_noise() -> None:
    """share / confidence estimates V_t / V_0, which scaling leaves alone: two worlds, one with half of the other's values."""
    means = []
    for scale in (1.0, 0.5):
        values = [scale * v for v in (0.9, 0.9, 0.45, 0.0, 0.0)]
        scan = Scan(policy=Ladder(by_length(values), 5), environment=WORLD, n=16, min_confidence=0.4)
        found = label_all(scan, [chain(5, problem=problem) for problem in many(80)], [Count(round(900 * scale), 1000)] * 80)
        means.append([float(np.mean([labels.values[1] for labels in found if labels.first_error == 2]))])
    assert means[0][0] == pytest.approx(0.5, abs=0.06)
    assert means[0][0] == pytest.approx(means[1][0], abs=0.06)


@cache
def repairing_world() -> tuple[list[int], list[float], list[StepLabels], list[StepLabels]]:
    """Wrong solutions of 8 steps with the error anywhere; half of the levels before it are sure ones, levels after it, by repair, are from Beta(1, 12).

    The true first errors, the levels before them, what this method says of all solutions, and what plain estimation says.
    """
    rng, n = np.random.default_rng(0), 220
    levels = np.where(rng.random(n) < 0.5, rng.uniform(0.75, 1.0, n), 0.75 * rng.beta(2, 2, n))
    true, before, after = rng.integers(0, LENGTH, n).tolist(), levels.tolist(), rng.beta(1, 12, n).tolist()

    def value(prefix: Trajectory) -> float:
        at = int(prefix.problem.prompt.split()[-1])
        return before[at] if len(prefix) <= true[at] else after[at]

    policy, cases = Ladder(value, LENGTH), [chain(LENGTH, problem=problem) for problem in many(n)]
    every = Scan(policy=policy, environment=WORLD, min_confidence=1e-9)
    given = label_all(every, cases, [Count(max(1, round(1000 * level)), 1000) for level in before])
    return true, before, given, label_all(MonteCarlo(policy=policy, environment=WORLD), cases)


def test_on_wrong_solutions_it_finds_what_plain_estimation_finds_for_fewer_rollouts() -> None:
    """Path by path the same first error; the steps after it are never rolled out."""
    _, _, given, plain = repairing_world()
    assert [labels.first_error for labels in given] == [labels.first_error for labels in plain]
    tokens = [sum(labels.usage.policy_tokens for labels in found) for found in (given, plain)]
    assert tokens[0] < 0.85 * tokens[1]


def test_errors_found_too_early_are_those_of_unsure_problems_and_errors_found_late_remain() -> None:
    """The reason for the filter, and for softening: predicted minus true leans to the positive where the policy is sure."""
    true, before, given, _ = repairing_world()
    shift = np.array([(labels.first_error or 0) - error for labels, error in zip(given, true, strict=True)])
    sure = np.array(before) >= 0.75
    assert (shift[sure] < 0).mean() < 0.005
    assert (shift[~sure] < 0).mean() > 0.05
    assert (shift[sure] == 0).mean() > (shift == 0).mean()
    assert (shift[sure] > 0).mean() > 0.2
    near = (shift[sure & (shift > 0)] <= 2).mean()
    assert near > 0.6, "most late finds are near misses, which softening the two steps before reaches"


def test_softened_targets_tell_wrong_steps_that_were_taken_for_good_from_good_ones() -> None:
    true, before, given, _ = repairing_world()
    good, missed = [], []
    for labels, error, level in zip(given, true, before, strict=True):
        for step in range(max(0, (labels.first_error or 0) - 2), labels.first_error or 0):
            if level >= 0.75:
                (missed if step >= error else good).append(labels.values[step])
    assert np.mean(good) > 0.9
    assert np.mean(missed) < 0.3
    assert min(len(good), len(missed)) > 12


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="min_confidence"):
        Scan(policy=Ladder(by_length([1.0]), 1), environment=WORLD, min_confidence=0.0)
    with pytest.raises(InputError, match="depth"):
        Scan(policy=Ladder(by_length([1.0]), 1), environment=WORLD, depth=-1)
