"""Progress under a prover: closed forms, telescoping, and which provers help."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from tests.labeling.chains import WORLD, Ladder, by_length, chain, label, label_all, many

from stepward.core import Count, InputError
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.estimators import best_of_value
from stepward.labeling.prover_progress import ProverProgress, progress_of
from stepward.policies.scripted import ErrorRates, ScriptedSolver

VALUES = [0.3, 0.5, 0.2, 0.6]


def test_progress_adds_up_to_the_outcome_less_the_value_of_the_problem() -> None:
    for end, outcome in (("wrong", 0.0), ("right", 1.0)):
        labels = label(ProverProgress(policy=Ladder(by_length(VALUES), 4), environment=WORLD, n=12), chain(4, end))
        progress = progress_of(labels)
        root = labels.evidence[0][-1]["root"]
        assert progress.sum() == pytest.approx(outcome - root)
        assert progress[1:] == pytest.approx(np.diff(labels.values))
        assert labels.values[-1] == outcome


def test_progress_of_a_best_of_k_prover_is_the_closed_form() -> None:
    """A_t = (1 - V_{t-1})^k - (1 - V_t)^k, within 3 standard errors over 250 problems; putting shares into the formula misses it."""
    k = 4
    prover = ProverProgress(policy=Ladder(by_length(VALUES), 4), environment=WORLD, n=6, best_of=k)
    found = label_all(prover, [chain(4, problem=problem) for problem in many(250)])
    progress = np.array([progress_of(labels) for labels in found])
    exact = [(1 - VALUES[t - 1]) ** k - (1 - VALUES[t]) ** k for t in (1, 2, 3)]
    error = progress[:, :3].std(axis=0) / math.sqrt(len(found))
    assert (np.abs(progress[:, :3].mean(axis=0) - exact) < 3 * error).all()
    plugged = np.array([[best_of_value(count.value, k) for count in labels.counts[:3] if count is not None] for labels in found])
    exact_values = np.array([best_of_value(value, k) for value in VALUES[1:]])
    missed = exact_values - plugged.mean(axis=0)
    assert (missed > 3 * plugged.std(axis=0) / math.sqrt(len(found))).all(), "the plugged-in share is biased downwards"


def test_the_best_of_four_is_what_four_rollouts_do() -> None:
    """Against simulation: the share of groups of 4 rollouts with a right one."""
    rng = np.random.default_rng(0)
    simulated = (rng.random((200_000, 4)) < 0.3).any(axis=1).mean()
    assert simulated == pytest.approx(best_of_value(0.3, 4), abs=3 * math.sqrt(0.25 / 200_000))


def test_very_strong_and_very_weak_provers_see_no_progress() -> None:
    """A step that halves the chance of success: the best of 4 tells it from a harmless one better than the best of 64 and than one rollout."""

    def variance(policy: float, k: int) -> float:
        good, bad = best_of_value(policy, k), best_of_value(policy / 2, k)
        before = (good + bad) / 2
        return ((good - before) ** 2 + (bad - before) ** 2) / 2

    assert variance(0.3, 4) > variance(0.3, 64)
    assert variance(0.3, 4) > variance(0.3, 1)
    assert variance(0.001, 4) < variance(0.3, 4) / 100, "almost never right: nothing to compare"


def test_in_grade_school_a_weak_prover_tells_a_strong_policys_steps_apart_and_a_very_strong_one_does_not() -> None:
    """Exact variance of progress over the strong policy's own next steps, best of 4 against best of 1024 of a weak solver; E[A_mu A_pi] >= 0.

    Over steps that do not end the solution: a wrong answer has lost everything under any prover.
    """
    world = GradeSchool()
    strong = ScriptedSolver(rates=ErrorRates.scaled(0.7), notice=0.5)
    weak = ScriptedSolver(rates=ErrorRates.scaled(2.5), notice=0.1)
    variance: dict[int, list[float]] = {4: [], 1024: []}
    aligned: list[float] = []
    for problem in world.problems(8, 12):
        (case,) = asyncio.run(solve(strong, world, problem))
        for depth in range(len(case)):
            prefix = case.prefix(depth)
            steps = [(chance, prefix.extend(strong.step(prefix, move))) for move, chance in strong.step_law(prefix).items() if "answer" not in move]
            if not steps:
                continue
            law = np.array([chance for chance, _ in steps]) / sum(chance for chance, _ in steps)
            own = np.array([strong.value(after) - strong.value(prefix) for _, after in steps])
            for k, found in variance.items():
                gains = np.array([best_of_value(weak.value(after), k) - best_of_value(weak.value(prefix), k) for _, after in steps])
                found.append(float(law @ (gains - law @ gains) ** 2))
                if k == 4:
                    aligned.append(float(law @ (gains * own)))
    assert np.mean(variance[4]) > 10 * np.mean(variance[1024])
    assert np.mean(aligned) > 0


def test_hard_labels_allow_for_noise_and_bounds_hold_the_exact_value() -> None:
    prover = ProverProgress(policy=Ladder(by_length(VALUES), 4), environment=WORLD, n=8, best_of=4, margin=0.3)
    found = label_all(prover, [chain(4, problem=problem) for problem in many(80)])
    for labels in found:
        assert labels.hard == tuple(bool(gain >= -0.3) for gain in progress_of(labels))
    held = [low <= best_of_value(VALUES[t + 1], 4) <= high for labels in found for t, (low, high) in enumerate(filter(None, labels.bounds[:3]))]
    assert np.mean(held) >= 0.95


def test_too_few_graded_rollouts_are_no_value() -> None:
    labels = label(ProverProgress(policy=Ladder(by_length([0.5] * 3), 3, lost=0.7), environment=WORLD, n=4, best_of=4), chain(3), root=Count(5, 9))
    lost = [step for step, count in enumerate(labels.counts) if count is not None and count.rollouts < 4]
    assert lost
    assert all("best of 4" in (labels.reasons[step] or "") or "cannot grade" in (labels.reasons[step] or "") for step in lost)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="best_of <= n"):
        ProverProgress(policy=Ladder(by_length([1.0]), 1), environment=WORLD, n=2, best_of=4)
