"""Claims about accuracy against compute, on banks of samples drawn from a known world."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stepward.core import CountMismatch, InputError, Outcome, Problem, Step, StepScores, Trajectory, Usage
from stepward.evaluation import METHODS, ProblemSamples, best_of_n


def bank(n_problems: int, n: int, *, seed: int = 0, signal: float = 2.0, reward_tokens: float = 50.0) -> list[ProblemSamples]:
    """Right answer "r" with a chance of its own per problem, else one of two wrong ones; scores separate right from wrong by `signal`."""
    rng = np.random.default_rng(seed)
    problems = []
    for index in range(n_problems):
        right = rng.random(n) < rng.beta(2, 2)
        answers = tuple("r" if good else str(rng.integers(2)) for good in right)
        scores = 1.0 / (1.0 + np.exp(-(signal * (right - 0.5) + rng.normal(size=n))))
        problems.append(
            ProblemSamples(
                problem_id=f"p{index}",
                answers=answers,
                correct=right.astype(float),
                scores=scores,
                policy_tokens=np.full(n, 100.0),
                reward_tokens=np.full(n, reward_tokens),
            )
        )
    return problems


def test_one_sample_is_one_sample_by_every_method() -> None:
    curves = best_of_n(bank(40, 6))
    values = {round(curves.point(method, 1).estimate.value, 9) for method in METHODS}
    assert len(values) == 1


def test_the_oracle_is_the_ceiling_and_grows_with_k() -> None:
    curves = best_of_n(bank(60, 8))
    ceiling = curves.per_problem["oracle_pass"]
    assert (np.diff(ceiling, axis=1) >= -1e-12).all()
    for method in METHODS:
        assert (curves.per_problem[method] <= ceiling + 1e-9).all(), method


def test_a_good_reward_beats_the_vote_and_a_useless_one_does_not() -> None:
    good, useless = best_of_n(bank(300, 16, signal=4.0)), best_of_n(bank(300, 16, signal=0.0))
    assert good.difference("best_of", "majority", 16).above_zero
    assert good.difference("weighted", "majority", 16).above_zero
    assert not useless.difference("best_of", "majority", 16).above_zero
    assert abs(useless.point("best_of", 16).estimate.value - useless.point("single", 1).estimate.value) < 0.06


def test_the_summary_has_the_promised_keys_and_fields() -> None:
    summary = best_of_n(bank(30, 16)).summary(16)
    assert list(summary) == ["pass@1", "majority@16", "best_of_16", "weighted_16", "oracle_pass@16"]
    for entry in summary.values():
        assert set(entry) == {"value", "low", "high", "n", "policy_tokens", "reward_tokens"}
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert entry["n"] == 30
    assert (summary["pass@1"]["policy_tokens"], summary["majority@16"]["policy_tokens"]) == (100.0, 1600.0)
    assert (summary["majority@16"]["reward_tokens"], summary["best_of_16"]["reward_tokens"]) == (0.0, 800.0)
    json.dumps(summary, allow_nan=False)


def test_equal_compute_gives_the_vote_the_samples_that_the_reward_model_costs() -> None:
    curves = best_of_n(bank(200, 16, reward_tokens=100.0), reward_cost=1.0)
    equal = curves.difference_at_equal_compute("best_of", "majority", 4)
    by_hand = curves.per_problem["best_of"][:, 3] - curves.per_problem["majority"][:, 7]
    assert equal.value == pytest.approx(by_hand.mean())
    assert curves.cost("best_of", 4) == curves.cost("majority", 8) == 800.0


def test_equal_compute_interpolates_between_whole_samples_and_is_unknown_beyond_the_bank() -> None:
    curves = best_of_n(bank(200, 16, reward_tokens=50.0))
    majority = curves.per_problem["majority"]
    by_hand = curves.per_problem["best_of"][:, 2] - (0.5 * majority[:, 3] + 0.5 * majority[:, 4])
    assert curves.difference_at_equal_compute("best_of", "majority", 3).value == pytest.approx(by_hand.mean())
    beyond = curves.difference_at_equal_compute("best_of", "majority", 16)
    assert math.isnan(beyond.value)
    assert "24.0 samples" in beyond.method


def test_a_free_reward_model_makes_equal_compute_equal_k() -> None:
    curves = best_of_n(bank(50, 8), reward_cost=0.0)
    assert curves.difference_at_equal_compute("best_of", "majority", 8) == curves.difference("best_of", "majority", 8)


def test_ungraded_samples_are_left_out_and_unscored_ones_lose_and_both_are_counted() -> None:
    sample = ProblemSamples(
        problem_id="p",
        answers=("1", "2", "2"),
        correct=np.array([1.0, 0.0, math.nan]),
        scores=np.array([0.1, math.nan, 0.9]),
        policy_tokens=np.ones(3),
        reward_tokens=np.ones(3),
    )
    curves = best_of_n([sample])
    assert (curves.n_ungraded, curves.n_unscored) == (1, 1)
    assert curves.per_problem["best_of"][0, :2].tolist() == [0.5, 1.0]
    assert math.isnan(curves.per_problem["best_of"][0, 2])
    assert curves.point("best_of", 3).estimate.n == 0


def test_samples_come_from_graded_trajectories_and_their_scores() -> None:
    problem = Problem("What is 1 + 1?", "2")
    right = Trajectory(problem, (Step("1 + 1 = 2.", n_tokens=7), Step("2", n_tokens=2)), finished=True, outcome=Outcome(1.0, "2"))
    unknown = Trajectory(problem, (Step("?", n_tokens=1),), finished=True, outcome=Outcome.unscored("grader timed out"))
    scores = [
        StepScores(np.array([math.nan, 0.8]), ("abstained: no claim", None), usage=Usage(reward_tokens=9)),
        StepScores.unscored(1, "server error"),
    ]
    samples = ProblemSamples.from_trajectories([right, unknown], scores)
    assert samples.answers == ("2", None)
    assert samples.correct[0] == 1.0
    assert math.isnan(samples.correct[1])
    assert samples.scores[0] == 0.8
    assert math.isnan(samples.scores[1])
    assert samples.policy_tokens.tolist() == [9.0, 1.0]
    assert samples.reward_tokens.tolist() == [9.0, 0.0]
    with pytest.raises(CountMismatch):
        ProblemSamples.from_trajectories([right], [])


def test_misuse_is_refused() -> None:
    with pytest.raises(InputError, match="at least one problem"):
        best_of_n([])
    curves = best_of_n(bank(3, 4))
    with pytest.raises(InputError, match=r"1\.\.4"):
        curves.point("majority", 5)
    with pytest.raises(InputError, match="unknown method 'best'"):
        curves.point("best", 1)  # type: ignore[arg-type]
