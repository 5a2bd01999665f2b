"""Consensus of two labelers: what is kept, the precision it reaches with independent errors and does not reach with shared ones, and fallbacks."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from tests.labeling.judged import SOLVER, WORLD, label, label_all, solution, solved, truths

from stepward.core import InputError, RewardModel, StepLabels, Trajectory, metered
from stepward.labeling import MonteCarlo, OracleLabels
from stepward.labeling.consensus import Consensus, FallBack, Level, agreed, as_prefix, independent_error
from stepward.labeling.judges import JudgedMonteCarlo, JudgeLabels
from stepward.labeling.precision import Precision, consensus_precision, kept_shares, precision
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.noisy_judge import NoisyJudge

T, F, N = True, False, None


def hard(*goods: bool | None, semantics: str = "prefix", confidence: float = math.nan) -> StepLabels:
    return StepLabels.from_hard(goods, semantics=semantics, confidence=np.full(len(goods), confidence), source={"method": "given"})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Given:
    labels: StepLabels
    fingerprint: str = "given"

    @property
    def semantics(self) -> str:
        return self.labels.semantics

    async def label(self, trajectory: Trajectory) -> StepLabels:
        return self.labels


@pytest.mark.parametrize(
    ("level", "disagreement", "expected"),
    [
        ("step", "drop", (T, N, F, N)),
        ("step", "keep", (T, T, F, F)),
        ("step", "soften", (T, N, F, F)),
        ("first_error", "drop", (N, N, N, N)),
        ("first_error", "keep", (T, T, F, F)),
        ("response", "drop", (N, N, N, N)),
    ],
)
def test_levels_and_what_becomes_of_disagreements(level: Level, disagreement: str, expected: tuple[bool | None, ...]) -> None:
    a, b = hard(T, T, F, F), hard(T, F, F, N)
    made = agreed(a, b, level=level, on_disagreement=disagreement)  # type: ignore[arg-type]
    assert made.hard == expected
    if disagreement == "soften":
        assert made.values.tolist() == [1.0, 0.5, 0.0, 0.0], "both values count; where one is silent the other's does"
    assert all((reason is not None) == math.isnan(value) for reason, value in zip(made.reasons, made.values, strict=True))
    assert made.evidence[1][-1] == {"a": True, "b": False}


def test_agreement_on_the_first_error_keeps_up_to_it() -> None:
    made = agreed(hard(T, F, T, semantics="local"), hard(T, F, F, semantics="local"), level="first_error")
    assert made.hard == (T, F, N)
    assert made.first_error == 1
    assert made.reasons[2] == "abstained: after the first error"
    assert agreed(hard(T, F, T, semantics="local"), hard(T, F, F, semantics="local"), level="response").hard == (T, F, F), "read as prefix labels they agree"
    assert agreed(hard(T, T), hard(T, T), level="first_error").first_error == -1
    assert agreed(hard(T, N), hard(T, N), level="first_error").n_unlabelled == 2, "two unknowns are no agreement"


def test_different_meanings_are_read_as_prefix_before_they_are_compared() -> None:
    local, value = hard(T, F, T, semantics="local"), hard(T, F, F, semantics="value")
    assert agreed(local, value, level="step").semantics == "prefix"
    assert agreed(local, value, level="step").hard == (T, F, F)
    assert Consensus(a=Given(local), b=Given(value), level="step").semantics == "prefix"
    assert Consensus(a=Given(local), b=Given(local), level="step").semantics == "local"
    for goods in product((T, F, N), repeat=4):
        shown = as_prefix(hard(*goods, semantics="value")).hard
        known = [good for good in shown if good is not None]
        assert known == sorted(known, reverse=True), "no error so far never turns from bad to good"
        for step, good in enumerate(shown):
            assert (good is True) == all(other is True for other in goods[: step + 1])
            assert (good is False) == any(other is False for other in goods[: step + 1])


def test_confidence_of_two_that_agree() -> None:
    made = agreed(hard(T, F, confidence=0.8), hard(T, F, confidence=0.8), level="step")
    assert np.allclose(made.confidence, 0.64 / 0.68)
    assert np.isnan(agreed(hard(T, confidence=0.8), hard(F, confidence=0.8), level="step", on_disagreement="keep").confidence).all()


def test_confidence_in_no_error_so_far_is_not_that_of_a_step_or_an_outcome() -> None:
    assert np.allclose(as_prefix(hard(T, T, F, T, semantics="local", confidence=0.9)).confidence, [0.9, 0.81, 0.9, 0.9])
    assert np.isnan(as_prefix(hard(T, T, semantics="value", confidence=1.0)).confidence).all(), "a right end does not rule out errors on the way"


def judged(rate: float, *, seed: int, shared: float = 0.0) -> JudgeLabels:
    return JudgeLabels(judge=NoisyJudge(WORLD, false_alarm=rate, miss=rate, seed=seed, shared=shared, semantics="local"), semantics="local")


@pytest.mark.parametrize(("one", "other"), [(0.2, 0.2), (0.3, 0.1)])
def test_the_error_of_agreed_labels_is_the_formulas_when_errors_are_independent(one: float, other: float) -> None:
    """e1 e2 / (e1 e2 + (1 - e1)(1 - e2)), .059 for two judges with 20 % errors, of whose labels .68 are kept."""
    cases = solved(200)
    found = asyncio.run(consensus_precision(cases, truths(cases, "local"), judged(one, seed=1), judged(other, seed=2), level="step"))["consensus"]
    for count, expected in ((found.steps, 1 - independent_error(one, other)), (found.kept, one * other + (1 - one) * (1 - other))):
        assert abs(count.value - expected) < 3 * math.sqrt(expected * (1 - expected) / count.rollouts), (count, expected)


def test_shared_noise_breaks_the_formula() -> None:
    """Judges with 20 % errors, half of the noise shared: agreed labels are wrong with chance (e/2 + e^2/2) / (1 - e(1 - e)), .143 and not .059."""
    cases = solved(200)
    made = asyncio.run(consensus_precision(cases, truths(cases, "local"), judged(0.2, seed=1, shared=0.5), judged(0.2, seed=2, shared=0.5), level="step"))
    low, high = made["consensus"].steps.interval(z=3.0)
    assert low < 1 - 0.12 / 0.84 < high < 1 - independent_error(0.2, 0.2)
    same = asyncio.run(consensus_precision(cases, truths(cases, "local"), judged(0.2, seed=1, shared=1.0), judged(0.2, seed=2, shared=1.0), level="step"))
    assert same["consensus"].kept.value == 1.0
    assert same["consensus"].steps == same["a"].steps, "judges that err together lose nothing and gain nothing"


def filtered(notice: float) -> dict[str, Precision]:
    """Hard labels of 8 rollouts by a policy that notices an error with this chance a step, a judge with 10 % false alarms and 20 % misses, and the Lessons'
    filter of the one by the other."""
    cases = solved(200)
    solver = ScriptedSolver(rates=ErrorRates.scaled(0.7), notice=notice)
    rollouts = MonteCarlo(policy=solver, environment=WORLD, n=8, estimate="hard", batch=8)
    judge = JudgeLabels(judge=NoisyJudge(WORLD, false_alarm=0.1, miss=0.2, semantics="local", seed=3))
    return asyncio.run(consensus_precision(cases, truths(cases), rollouts, judge))


def test_filtering_monte_carlo_by_a_judge_raises_precision() -> None:
    """The Lessons' filter in miniature. Where the completing policy does not repair errors, the first errors that are kept are right far more often than
    either source, beyond 95 % intervals, and so are the step labels; about half of the solutions are the price."""
    found = filtered(notice=0.0)
    a, b, both = found["a"], found["b"], found["consensus"]
    assert both.first_errors.interval()[0] > max(a.first_errors.interval()[1], b.first_errors.interval()[1]), found
    assert both.steps.interval()[0] > max(a.steps.interval()[1], b.steps.interval()[1]), found
    assert 0.4 < both.solutions.value < 0.6


def test_filtering_by_monte_carlo_that_misses_errors_helps_it_and_not_the_judge() -> None:
    """Where the completing policy repairs errors, "one success is enough" overlooks most of them. What is kept is then above Monte-Carlo's precision, but no
    longer above the judge's: agreement that there is no error selects the judge's own misses."""
    found = filtered(notice=0.2)
    a, b, both = found["a"], found["b"], found["consensus"]
    assert both.first_errors.interval()[0] > a.first_errors.interval()[1], found
    assert both.first_errors.value < b.first_errors.value, found


def test_what_a_filter_keeps_is_told_by_type_and_place() -> None:
    """True first errors that the filter still labels bad. A judge that errs alike on all types keeps about the same share of each place."""
    cases = solved(200)
    true = truths(cases)
    made = label_all(Consensus(a=judged(0.1, seed=1), b=judged(0.1, seed=2), level="step"), cases)
    shares = kept_shares(made, truths(cases, "local"))
    places = [shares[place] for place in ("first third", "middle third", "last third")]
    assert sum(count.rollouts for count in places) == sum((truth.first_error or 0) >= 0 for truth in true)
    assert sum(count.rollouts for name, count in shares.items() if "third" not in name) == sum(count.rollouts for count in places)
    assert all(count.interval(z=3.0)[0] < 0.81 < count.interval(z=3.0)[1] for count in places), places


def test_judged_monte_carlo_is_the_consensus_of_its_parts() -> None:
    cases = solved(10)
    noisy: RewardModel = NoisyJudge(WORLD)
    whole = JudgedMonteCarlo(policy=SOLVER, environment=WORLD, judge=noisy, n=4, threshold=0.25)
    rollouts = MonteCarlo(policy=SOLVER, environment=WORLD, n=4, threshold=0.25, estimate="hard")
    for case, mine in zip(cases, label_all(whole, cases), strict=True):
        assert mine.hard == agreed(label(rollouts, case), label(JudgeLabels(judge=noisy), case)).hard
    check_labeler(whole, list(cases[:2]), any_text=False)
    assert replace(whole, level="step").fingerprint != whole.fingerprint


def test_cost_is_that_of_both() -> None:
    case = solved(1)[0]
    one, other = judged(0.1, seed=1), judged(0.1, seed=2)
    with metered() as ledger:
        made = label(Consensus(a=one, b=other), case)
    assert made.usage == ledger.usage == label(one, case).usage + label(other, case).usage
    check_labeler(Consensus(a=one, b=other, level="step"), [case], any_text=False)


def test_fall_back_takes_the_first_that_says_something() -> None:
    first, second = hard(T, N, N, semantics="local"), hard(F, F, N, semantics="local")
    made = label(FallBack(labelers=(Given(first), Given(second, "second"))), solution("a", "b", "c"))
    assert made.hard == (T, F, N)
    assert made.first_error == 1
    assert made.evidence[1][-1] == {"labelled by": "second"}
    with pytest.raises(InputError, match="one semantics"):
        FallBack(labelers=(Given(first), Given(hard(T))))
    oracle = OracleLabels(WORLD, "local")
    assert label(FallBack(labelers=(oracle, judged(0.5, seed=1))), solved(1)[0]).usage.calls == 0, "nobody asks the judge where nothing is open"


def test_precision_counts() -> None:
    found = precision([hard(T, F, N), hard(T, T)], [hard(T, T, F), hard(F, F)])
    assert (found.steps.successes, found.steps.rollouts) == (1, 4)
    assert (found.bad.successes, found.bad.rollouts) == (0, 1)
    assert (found.kept.successes, found.kept.rollouts) == (4, 5)
    with pytest.raises(InputError, match="true ones"):
        precision([], [hard(T)])


def test_options_are_checked() -> None:
    a = judged(0.1, seed=1)
    with pytest.raises(InputError, match="level"):
        Consensus(a=a, b=a, level="word")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_disagreement"):
        Consensus(a=a, b=a, on_disagreement="cry")  # type: ignore[arg-type]
