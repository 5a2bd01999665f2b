"""The adaptive labeler on scripted policies with exact values: its promises, its costs, its coverage, and its place beside fixed Monte-Carlo and bisection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from tests.labeling.chains import Ends, Ladder, by_length, chain

from stepward.core import Count, Floats, InputError, Labeler, Outcome, Policy, RequestFailed, Sampling, StepLabels, StepScores, Trajectory, Until
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.adaptive import DEFAULT_PRIOR, Adaptive, EValue, FirstSuccess, HalfWidth, Prior, Sprt, Witness, fit_prior
from stepward.labeling.adaptive.stopping import StopRule
from stepward.labeling.completer import Completer, RolloutBank
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler

WORLD = GradeSchool(max_operations=8)
REPAIRS = ScriptedSolver()
NEVER = ScriptedSolver(notice=0.0, lucky=0.0)


@cache
def cases(solver: ScriptedSolver, n: int, seed: int = 0) -> tuple[Trajectory, ...]:
    async def run() -> list[Trajectory]:
        return [(await solve(solver, WORLD, problem, 1, sampling=Sampling(seed=seed + 100)))[0] for problem in WORLD.problems(seed, n)]

    return tuple(asyncio.run(run()))


def labelled(trajectories: Sequence[Trajectory], labeler: Labeler) -> list[StepLabels]:
    async def run() -> list[StepLabels]:
        return list(await asyncio.gather(*(labeler.label(case) for case in trajectories)))

    return asyncio.run(run())


def completer(solver: Policy) -> Completer:
    return Completer(policy=solver, environment=WORLD)


@cache
def fitted(solver: ScriptedSolver) -> Prior:
    return asyncio.run(fit_prior(cases(solver, 60, seed=9), completer(solver), rounds=8))


def truth(trajectories: Sequence[Trajectory]) -> list[int]:
    return [WORLD.judge(case).first_error for case in trajectories]


def accuracy(labels: Sequence[StepLabels], trajectories: Sequence[Trajectory]) -> float:
    return float(np.mean([label.first_error == first for label, first in zip(labels, truth(trajectories), strict=True)]))


def tokens(labels: Sequence[StepLabels]) -> float:
    return float(np.mean([label.usage.policy_tokens for label in labels]))


def test_the_labelers_keep_their_promises() -> None:
    some = cases(REPAIRS, 3)
    check_labeler(Adaptive(completer=completer(REPAIRS), max_rollouts=20), some, any_text=True)
    check_labeler(Adaptive(completer=completer(REPAIRS), target="value", rule=HalfWidth(0.2)), some, any_text=True)


def test_the_cost_is_that_of_the_rollouts_and_a_second_run_gives_the_same_labels() -> None:
    labeler = Adaptive(completer=completer(REPAIRS))
    once, again = labelled(cases(REPAIRS, 12), labeler), labelled(cases(REPAIRS, 12)[::-1], labeler)[::-1]
    assert once == again

    async def counted() -> int:
        bank = RolloutBank(completer(REPAIRS))
        for t, count in enumerate(once[5].counts):
            if count is not None:
                await bank.draw(cases(REPAIRS, 12)[5].prefix(t + 1), count.rollouts)
        return bank.n_tokens

    drawn_at_root = once[5].source["rollouts"] - sum(count.rollouts for count in once[5].counts if count)
    from_steps = asyncio.run(counted())
    assert once[5].usage.policy_tokens >= from_steps
    assert drawn_at_root > 0 or once[5].usage.policy_tokens == from_steps


def test_no_rollout_is_drawn_where_the_outcome_settles_everything() -> None:
    """Without repairs and luck a right outcome leaves no room for an error."""
    prior = replace(fitted(NEVER), noise=0.0)
    right = [case for case in cases(NEVER, 60) if case.outcome is not None and case.outcome.correct]
    given = labelled(right, Adaptive(completer=completer(NEVER), prior=prior, error=0.1))
    assert accuracy(given, right) == 1.0
    assert np.mean([label.source["rollouts"] for label in given]) < 3


def test_confidence_and_posterior_are_told() -> None:
    case = next(case for case in cases(REPAIRS, 20) if len(case) > 4)
    labels = labelled([case], Adaptive(completer=completer(REPAIRS)))[0]
    assert labels.semantics == "prefix"
    chances = [note["probability"] for notes in labels.evidence for note in notes if note["kind"] == "first error"]
    assert sum(chances) + labels.source["no_error"] == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(labels.values, 1 - np.cumsum(chances), atol=1e-4)
    expected = [value if good else 1 - value for value, good in zip(labels.values, labels.hard, strict=True)]
    np.testing.assert_allclose(labels.confidence, expected)
    assert labels.source["stopped"] in ("settled", "nothing left worth its tokens", "max_rollouts reached")


def bisection(case: Trajectory, bank: RolloutBank, n: int) -> int:
    """OmegaPRM's search with first-success probes, the cheapest form: -1 for a right outcome."""
    if case.outcome is not None and case.outcome.correct:
        return -1
    low, high = 1, len(case)
    while low < high:
        middle = (low + high) // 2
        prefix = case.prefix(middle)
        for _ in range(n):
            asyncio.run(bank.draw(prefix, 1))
            if bank.at(prefix)[-1].success:
                break
        low, high = (middle + 1, high) if bank.at(prefix)[-1].success else (low, middle)
    return low - 1


@pytest.mark.parametrize(("n", "error", "least_gain"), [(8, 0.05, 0.01), (16, 0.01, 0.002)])
def test_where_errors_are_never_repaired_it_beats_bisection_at_fewer_tokens(n: int, error: float, least_gain: float) -> None:
    """120 solutions; the pilot is not counted (docs/adaptive.md has totals). Fewer tokens, and accuracy no lower than one hit in a hundred."""
    some = cases(NEVER, 120)
    ours = labelled(some, Adaptive(completer=completer(NEVER), prior=fitted(NEVER), error=error, least_gain=least_gain))
    found, cost = [], []
    for case in some:
        bank = RolloutBank(completer(NEVER))
        found.append(bisection(case, bank, n))
        cost.append(bank.n_tokens)
    theirs = float(np.mean(np.array(found) == np.array(truth(some))))
    assert accuracy(ours, some) >= theirs - 0.01, f"ours {accuracy(ours, some):.3f}, bisection with {n} {theirs:.3f}"
    assert tokens(ours) < np.mean(cost)


def test_where_errors_can_be_repaired_it_beats_fixed_monte_carlo_at_a_quarter_of_the_tokens() -> None:
    """120 solutions against eight rollouts at every step and the best threshold in hindsight. Difference beyond 3 paired standard errors."""
    some, n = cases(REPAIRS, 120), 8

    async def pools() -> list[list[tuple[float, int]]]:
        made = [[await completer(REPAIRS).rollouts(case.prefix(t), n) for t in range(1, len(case))] for case in some]
        return [[(float(np.mean([r.success is True for r in pool])), sum(r.n_tokens for r in pool)) for pool in row] for row in made]

    counted, right = asyncio.run(pools()), np.array(truth(some))
    cost = float(np.mean([sum(spent for _, spent in row) for row in counted]))

    def first_bad(row: list[tuple[float, int]], case: Trajectory, threshold: float) -> int:
        hard = [value > threshold for value, _ in row] + [bool(case.outcome and case.outcome.correct)]
        return next((t for t, good in enumerate(hard) if not good), -1)

    hits = [np.array([first_bad(row, case, threshold) for row, case in zip(counted, some, strict=True)]) == right for threshold in np.arange(0, 0.5, 0.05)]
    best = max(hits, key=np.mean)
    ours = labelled(some, Adaptive(completer=completer(REPAIRS), prior=fitted(REPAIRS), error=0.15, least_gain=0.03))
    mine = np.array([label.first_error for label in ours]) == right
    difference = mine.astype(float) - best.astype(float)
    assert tokens(ours) <= cost / 4, f"{tokens(ours):.0f} tokens against {cost:.0f}"
    assert difference.mean() > 3 * difference.std() / math.sqrt(len(some)), f"ours {mine.mean():.3f}, best fixed {best.mean():.3f}"


def test_stated_confidence_is_earned_with_a_fitted_prior() -> None:
    """150 solutions: mean stated chance of the decoded first error against the share that is right, within 3 standard errors."""
    some = cases(REPAIRS, 150, seed=3)
    given = labelled(some, Adaptive(completer=completer(REPAIRS), prior=fitted(REPAIRS), error=0.1, least_gain=0.02))
    stated = np.array([max([label.source["no_error"], *(note["probability"] for notes in label.evidence for note in notes[:1])]) for label in given])
    error = math.sqrt((stated * (1 - stated)).sum()) / len(stated)
    assert abs(accuracy(given, some) - stated.mean()) < 3 * error, f"stated {stated.mean():.3f}, right {accuracy(given, some):.3f}"


def exact(case: Trajectory, solver: ScriptedSolver = REPAIRS) -> Floats:
    return np.array([solver.value(case.prefix(t)) for t in range(1, len(case) + 1)])


def test_value_intervals_cover_and_estimates_are_unbiased() -> None:
    """250 solutions, more than 1,000 rolled-out steps: 95 % intervals cover in at least 94 %, each at most 0.4 wide; mean error within 3 standard errors by
    solution (its steps share rollouts); fewer rollouts are drawn than counted."""
    some = cases(REPAIRS, 250, seed=5)
    given = labelled(some, Adaptive(completer=completer(REPAIRS), target="value", rule=HalfWidth(0.2)))
    covered, errors, counted, drawn = [], [], 0, 0
    for case, labels in zip(some, given, strict=True):
        values, open_steps = exact(case), [t for t, count in enumerate(labels.counts) if count is not None]
        bounds = [labels.bounds[t] for t in open_steps]
        covered += [low <= values[t] <= high for t, (low, high) in zip(open_steps, (pair for pair in bounds if pair), strict=True)]
        assert all(pair is not None and pair[1] - pair[0] <= 0.4 + 1e-9 for pair in bounds)
        errors.append(float(np.sum([labels.values[t] - values[t] for t in open_steps])))
        counted += sum(count.rollouts for count in labels.counts if count)
        drawn += labels.source["rollouts"]
    assert len(covered) > 1000
    assert np.mean(covered) >= 0.94, f"coverage {np.mean(covered):.4f} of {len(covered)}"
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(len(errors))
    assert drawn < 0.7 * counted, "rollouts that pass through later steps are counted there too"


def test_value_labels_take_the_graded_last_step_as_it_is() -> None:
    case = cases(REPAIRS, 1)[0]
    labels = labelled([case], Adaptive(completer=completer(REPAIRS), target="value", rule=HalfWidth(0.2)))[0]
    assert case.outcome is not None
    assert labels.values[-1] == case.outcome.value
    assert labels.bounds[-1] == (case.outcome.value, case.outcome.value)
    assert labels.counts[-1] is None
    assert labels.confidence[-1] == 1.0


def test_classification_against_a_threshold_errs_no_more_than_it_says() -> None:
    """The e-value rule at threshold 0.3, error 5 %: wrong verdicts among all steps."""
    some = cases(REPAIRS, 60, seed=6)
    given = labelled(some, Adaptive(completer=completer(REPAIRS), target="value", rule=EValue(0.3, 0.05, limit=120), threshold=0.3))
    wrong = [
        good != (value > 0.3) and notes[0]["rule"] in ("good", "bad")
        for case, labels in zip(some, given, strict=True)
        for good, value, notes in zip(labels.hard[:-1], exact(case), labels.evidence[:-1], strict=False)
    ]
    assert np.mean(wrong) <= 0.05


def test_support_and_martingale_facts_hold_exactly() -> None:
    """What the model rests on: V > 0 at a prefix implies V > 0 at all before it; the mean of V over the next step is V."""
    for case in cases(NEVER, 40):
        values = [NEVER.value(case.prefix(t)) for t in range(len(case) + 1)]
        assert all(earlier > 0 for t, value in enumerate(values) if value > 0 for earlier in values[:t])
    for case in cases(REPAIRS, 15):
        prefix = case.prefix(len(case) // 2)
        law = REPAIRS.step_law(prefix)
        mean = sum(chance * REPAIRS.value(prefix.extend(REPAIRS.step(prefix, move), finished=False)) for move, chance in law.items())
        assert mean == pytest.approx(REPAIRS.value(prefix), abs=1e-9)


@dataclass(frozen=True)
class Judge:
    """A judge that marks the true first error and all after it."""

    fingerprint: str = "judge"
    granularity: str = "step"
    scale: str = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        first = WORLD.judge(trajectory).first_error
        return StepScores(np.array([0.9 if first < 0 or t < first else 0.1 for t in range(len(trajectory))]))


def test_a_cheap_trusted_witness_takes_the_place_of_rollouts() -> None:
    some = cases(REPAIRS, 30)
    alone = Adaptive(completer=completer(REPAIRS), prior=fitted(REPAIRS))
    helped = replace(alone, witnesses=(Witness(model=Judge(), before=0.02, at=0.95, after=0.95, tokens=5.0),))
    a, b = labelled(some, alone), labelled(some, helped)
    assert tokens(b) < 0.3 * tokens(a)
    assert accuracy(b, some) >= accuracy(a, some)
    assert any(note["kind"] == "verdict" for label in b for notes in label.evidence for note in notes)
    dear = replace(alone, witnesses=(Witness(model=Judge(), before=0.02, at=0.95, after=0.95, tokens=1e9),))
    assert tokens(labelled(some[:5], dear)) == tokens(labelled(some[:5], alone)), "a witness that costs a fortune is not asked"


def test_solutions_sampled_before_are_free_evidence() -> None:
    case = next(case for case in cases(REPAIRS, 20) if len(case) > 5 and case.outcome is not None and not case.outcome.correct)
    told = Adaptive(completer=completer(REPAIRS), pools={case.problem.key: Count(40, 40)}, max_rollouts=0)
    silent = replace(told, pools={})
    a, b = labelled([case], told)[0], labelled([case], silent)[0]
    assert a.usage.policy_tokens == b.usage.policy_tokens == 0
    assert not np.allclose(a.values, b.values)
    assert told.fingerprint != silent.fingerprint


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail."""

    fingerprint: str = "failing"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        raise RequestFailed("the server is gone")


def test_failures_are_unlabelled_steps_with_their_reason_and_never_zeros() -> None:
    case = next(case for case in cases(REPAIRS, 10) if len(case) > 3)
    values = labelled([case], Adaptive(completer=completer(Failing()), target="value", rule=HalfWidth(0.2)))[0]
    assert np.isnan(values.values[:-1]).all()
    assert all("the server is gone" in (reason or "") for reason in values.reasons[:-1])
    assert values.first_error is None or values.first_error == 0
    open_case = case.prefix(2)
    unknown = labelled([open_case], Adaptive(completer=completer(Failing())))[0]
    assert unknown.n_unlabelled == 2
    assert "the server is gone" in (unknown.reasons[0] or "")
    ended = labelled([case], Adaptive(completer=completer(Failing())))[0]
    assert ended.source["stopped"] == "nothing left worth its tokens"
    assert ended.confidence.max() <= 1.0


@dataclass(frozen=True)
class Ungraded:
    """Grade-school with a grader that never knows."""

    interactive: bool = False
    fingerprint: str = "ungraded"

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return WORLD.is_finished(trajectory)

    def answer(self, trajectory: Trajectory) -> str | None:
        return None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome.unscored("no reference answer")


def test_rollouts_that_cannot_be_graded_end_the_search() -> None:
    case = replace(cases(REPAIRS, 1)[0], outcome=None)
    blind = Completer(policy=REPAIRS, environment=Ungraded())
    values = labelled([case], Adaptive(completer=blind, target="value", rule=HalfWidth(0.2)))[0]
    assert values.n_unlabelled == len(case)
    assert "no reference answer" in (values.reasons[0] or "")
    prefix = labelled([case], Adaptive(completer=blind))[0]
    assert prefix.n_unlabelled == len(case)


def test_a_rollout_that_was_lost_does_not_lose_the_step() -> None:
    """With 30 % of rollouts without a grade every step still gets its value; where nine of ten have none it says so."""
    rough = Ladder(by_length([0.5] * 7), 7, lost=0.3)
    labels = labelled([chain(7)], Adaptive(completer=Completer(policy=rough, environment=Ends()), target="value", rule=HalfWidth(0.2)))[0]
    assert labels.n_unlabelled == 0
    assert all(bounds is not None and bounds[1] - bounds[0] <= 0.4 + 1e-9 for bounds in labels.bounds)
    hopeless = replace(rough, lost=0.9)
    lost = labelled([chain(7)], Adaptive(completer=Completer(policy=hopeless, environment=Ends()), target="value", rule=HalfWidth(0.2)))[0]
    assert lost.n_unlabelled == 6


def test_confidence_is_about_the_threshold_of_the_rule_that_decided() -> None:
    low = Completer(policy=Ladder(by_length([0.3] * 6), 6), environment=Ends())

    def made(rule: StopRule) -> StepLabels:
        return labelled([chain(6)], Adaptive(completer=low, target="value", rule=rule, threshold=0.5))[0]

    first = made(FirstSuccess(40))
    assert first.hard[:-1] == (True,) * 5
    assert first.confidence[:-1].tolist() == [1.0] * 5, "a success proves V > 0, whatever V > 0.5 may be"
    decided = made(EValue(0.05, 0.05, limit=120))
    assert decided.hard[0]
    assert decided.confidence[0] > 0.9, "V > 0.05 is sure, V > 0.5 is not what was decided"
    assert np.isnan(made(Sprt(0.05, 0.2)).confidence[:-1]).all(), "a test of two hypotheses has no one threshold"


def test_mistakes_are_named_and_parameters_change_the_fingerprint() -> None:
    base = Adaptive(completer=completer(REPAIRS))
    changed = [
        replace(base, target="value"),
        replace(base, error=0.1),
        replace(base, batch=4),
        replace(base, prior=replace(DEFAULT_PRIOR, hazard=0.2)),
        replace(base, completer=completer(ScriptedSolver(rates=ErrorRates.scaled(2.0)))),
        replace(base, target="value", rule=HalfWidth(0.2)),
    ]
    assert len({labeler.fingerprint for labeler in (base, *changed)}) == len(changed) + 1
    for wrong in ({"error": 0.0}, {"batch": 0}, {"level": 1.0}, {"target": "local"}):
        with pytest.raises(InputError):
            replace(base, **wrong)
    with pytest.raises(InputError, match="infallible"):
        Witness(model=Judge(), before=0.0, at=1.0, after=1.0)
