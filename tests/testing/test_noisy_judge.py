"""NoisyJudge: its error rates are the stated ones, independent or shared as stated, and it is a conformant reward model."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from stepward.core import InputError, Sampling, StepScores, Trajectory, metered
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_reward_model
from stepward.testing.noisy_judge import NoisyJudge

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0))


@pytest.fixture(scope="module")
def solutions() -> list[Trajectory]:
    async def run() -> list[Trajectory]:
        return [(await solve(SOLVER, WORLD, problem, 1, sampling=Sampling(seed=3)))[0] for problem in WORLD.problems(3, 250)]

    return asyncio.run(run())


def scored(judge: NoisyJudge, solutions: list[Trajectory]) -> list[StepScores]:
    return [asyncio.run(judge.score(solution)) for solution in solutions]


def errors(judge: NoisyJudge, solutions: list[Trajectory]) -> dict[bool, np.ndarray]:
    """Whether each verdict of a judge with k = 1 was wrong, by the truth of the step."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for solution, scores in zip(solutions, scored(judge, solutions), strict=True):
        for value, good in zip(scores.values, WORLD.labels(solution, judge.semantics).hard, strict=True):
            found[bool(good)].append(bool(value) != good)
    return {good: np.array(rows) for good, rows in found.items()}


@pytest.mark.parametrize("semantics", ["prefix", "local"])
def test_rates_are_the_stated_ones(solutions: list[Trajectory], semantics: str) -> None:
    wrong = errors(NoisyJudge(WORLD, false_alarm=0.1, miss=0.3, seed=5, semantics=semantics), solutions)  # type: ignore[arg-type]
    for good, rate in ((True, 0.1), (False, 0.3)):
        standard_error = math.sqrt(rate * (1 - rate) / len(wrong[good]))
        assert abs(wrong[good].mean() - rate) < 3 * standard_error, (good, wrong[good].mean(), standard_error)


def test_judges_err_independently_unless_their_noise_is_shared(solutions: list[Trajectory]) -> None:
    one, other = NoisyJudge(WORLD, false_alarm=0.2, seed=1), NoisyJudge(WORLD, false_alarm=0.2, seed=2)
    for shared, low, high in ((0.0, -0.08, 0.08), (0.5, 0.4, 0.6), (1.0, 0.999, 1.0)):
        a, b = (errors(replace(judge, shared=shared), solutions)[True].astype(float) for judge in (one, other))
        assert low <= np.corrcoef(a, b)[0, 1] <= high + 1e-9


def test_verdicts_are_named_by_trajectory_step_and_draw(solutions: list[Trajectory]) -> None:
    judge = NoisyJudge(WORLD, seed=4)
    again = scored(NoisyJudge(WORLD, seed=4), solutions[:40])
    assert [list(scores.values) for scores in scored(judge, solutions[:40])] == [list(scores.values) for scores in again]
    drawn = [judge.variant(str(draw)) for draw in range(2)]
    assert any(list(a.values) != list(b.values) for a, b in zip(*(scored(each, solutions[:40]) for each in drawn), strict=True))
    assert len({judge.fingerprint, *(each.fingerprint for each in drawn), replace(judge, miss=0.2).fingerprint}) == 4


def test_votes_and_abstentions(solutions: list[Trajectory]) -> None:
    judge = NoisyJudge(WORLD, false_alarm=0.2, miss=0.2, abstain=0.5, k=3, seed=6)
    rows = [(value, n, reason) for s in scored(judge, solutions) for value, n, reason in zip(s.values, s.aspects["votes"], s.reasons, strict=True)]
    silent = [reason for value, _, reason in rows if math.isnan(value)]
    assert abs(len(silent) / len(rows) - 0.125) < 3 * math.sqrt(0.125 * 0.875 / len(rows))
    assert all(reason is not None and reason.startswith("abstained") for reason in silent)
    assert all(round(value * n, 9).is_integer() for value, n, _ in rows if n)


def test_cost_is_charged_per_verdict(solutions: list[Trajectory]) -> None:
    with metered() as ledger:
        scores = asyncio.run(NoisyJudge(WORLD, k=2, words_per_step=10).score(solutions[0]))
    assert ledger.usage == scores.usage
    assert ledger.usage.reward_written == 20 * len(solutions[0])


def test_conformant_and_picky(solutions: list[Trajectory]) -> None:
    assert check_reward_model(NoisyJudge(WORLD, abstain=0.2, k=3), solutions[:3], causal=False)
    with pytest.raises(InputError, match="miss"):
        NoisyJudge(WORLD, miss=1.5)
    with pytest.raises(InputError, match="k must be"):
        NoisyJudge(WORLD, k=0)
