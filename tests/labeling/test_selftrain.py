"""Self-training and distillation: thresholds that mean what they say, and majorities that are right as often as they should be."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tests.labeling.chains import Ends, Failing

from stepward.core import Example, InputError, Outcome, Problem, RewardModel, Sampling, Step, StepLabels, StepScores, Trajectory, Until
from stepward.engine.noise import uniforms
from stepward.labeling.distil import Distilled, majority_of
from stepward.labeling.selftrain import PseudoLabels, SelfTraining, balanced
from stepward.testing import check_labeler


def place(text: str) -> float:
    """A step's one feature, a number in (0, 1) that its text names."""
    return float(uniforms(0, text, 0, 0)[0])


@dataclass(frozen=True)
class Curve:
    """score = 1 / (1 + exp(-(w x + b))) of a step's feature x; calibrated where truth is drawn with this chance."""

    w: float
    b: float
    seen: int = 0
    granularity: str = "step"
    scale: str = "probability"

    @property
    def fingerprint(self) -> str:
        return f"curve {self.w} {self.b} {self.seen}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        x = np.array([place(step.text) for step in trajectory.steps])
        return StepScores(1.0 / (1.0 + np.exp(-(self.w * x + self.b))))


TRUTH = Curve(8.0, -4.0)


def solutions(n: int, start: int = 0) -> list[Trajectory]:
    return [Trajectory.from_texts(f"problem {index}", [f"{index} {step}" for step in range(4)]) for index in range(start, start + n)]


def true_hard(trajectory: Trajectory) -> tuple[bool, ...]:
    """Good with the chance that `TRUTH` says."""
    chances = asyncio.run(TRUTH.score(trajectory)).values
    return tuple(bool(uniforms(1, step.text, 0, 0)[0] < chance) for step, chance in zip(trajectory.steps, chances, strict=True))


def labelled(n: int, start: int = 0) -> list[Example]:
    made = solutions(n, start)
    return [Example(case, StepLabels.from_hard(true_hard(case), semantics="local")) for case in made]


@dataclass
class Linear:
    """Logistic regression on the feature by gradient descent; remembers what it was shown."""

    shown: list[Sequence[Example]] = field(default_factory=list)

    async def fit(self, examples: Sequence[Example]) -> RewardModel:
        self.shown.append(examples)
        rows = [
            (place(step.text), float(good))
            for example in examples
            if example.labels is not None
            for step, good in zip(example.trajectory.steps, example.labels.hard, strict=True)
            if good is not None
        ]
        x, y = np.array(rows).T
        w = b = 0.0
        for _ in range(3000):
            residual = 1.0 / (1.0 + np.exp(-(w * x + b))) - y
            w, b = w - 2.0 * float((residual * x).mean()), b - 2.0 * float(residual.mean())
        return Curve(w, b, len(rows))  # type: ignore[return-value]


def run(training: SelfTraining, known: Sequence[Example], unknown: Sequence[Trajectory]):  # type: ignore[no-untyped-def]
    return asyncio.run(training.train(known, unknown))


def test_tau_one_is_supervised_only() -> None:
    known = labelled(10)
    alone = asyncio.run(Linear().fit(known))
    result = run(SelfTraining(learner=Linear(), tau=1.0), known, solutions(50, 10))
    assert result.model == alone
    assert result.rounds == ()
    certain = Curve(1e6, 0.0)
    assert asyncio.run(PseudoLabels(judge=certain, tau=1.0).label(solutions(1)[0])).n_unlabelled == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("tau", [0.6, 0.8, 0.9, 0.95])
def test_the_error_of_what_a_calibrated_model_keeps_is_at_most_one_minus_tau(tau: float) -> None:
    cases = solutions(500)
    kept, wrong = 0, 0
    for case in cases:
        labels = asyncio.run(PseudoLabels(judge=TRUTH, tau=tau).label(case))  # type: ignore[arg-type]
        for mine, true in zip(labels.hard, true_hard(case), strict=True):
            kept += mine is not None
            wrong += mine is not None and mine != true
    assert kept > 250
    assert wrong / kept < 1 - tau + 3 * math.sqrt(tau * (1 - tau) / kept), (wrong / kept, tau)


def test_an_overconfident_model_keeps_more_errors_than_it_admits() -> None:
    """The same curve four times as steep claims 90 % and is wrong far more often: calibrate first."""
    steep = Curve(32.0, -16.0)
    kept = [
        (mine, true)
        for case in solutions(500)
        for mine, true in zip(asyncio.run(PseudoLabels(judge=steep, tau=0.9).label(case)).hard, true_hard(case), strict=True)  # type: ignore[arg-type]
        if mine is not None
    ]
    error = sum(mine != true for mine, true in kept) / len(kept)
    assert error > 0.1 + 3 * math.sqrt(0.09 / len(kept))


def test_confidence_is_that_of_the_label_where_the_threshold_is_not_one_half() -> None:
    @dataclass(frozen=True)
    class Strict:
        fingerprint: str = "strict"
        granularity: str = "step"
        scale: str = "probability"

        async def score(self, trajectory: Trajectory) -> StepScores:
            return StepScores(np.array([0.35, 0.9, 0.1]), threshold=0.3)

    judge: Any = Strict()
    labels = asyncio.run(PseudoLabels(judge=judge, tau=0.6).label(Trajectory.from_texts("p", ["a", "b", "c"])))
    assert labels.hard == (None, True, False), "good with chance 0.35 is not sure"
    assert labels.confidence[1:].tolist() == [0.9, 0.9]


def test_every_round_labels_everything_anew_and_ends_when_nothing_changes() -> None:
    learner = Linear()
    result = run(SelfTraining(learner=learner, tau=0.8, rounds=5), labelled(10), solutions(60, 10))
    assert 1 <= len(result.rounds) <= 5
    assert len(learner.shown) == len(result.rounds) + 1
    for shown, made in zip(learner.shown[1:], result.rounds, strict=True):
        assert [example.id for example in shown] == [example.id for example in learner.shown[0]] + [example.id for example in made.pseudo]
    if len(result.rounds) > 1:
        first, second = result.rounds[:2]
        assert first.model.fingerprint != second.model.fingerprint


def test_balance_leaves_as_many_good_as_bad_and_the_surest() -> None:
    result = run(SelfTraining(learner=Linear(), tau=0.7, rounds=1), labelled(10), solutions(80, 10))
    assert result.rounds[0].n_good == result.rounds[0].n_bad > 0
    free = run(SelfTraining(learner=Linear(), tau=0.7, rounds=1, balance="none"), labelled(10), solutions(80, 10))
    assert free.rounds[0].n_good + free.rounds[0].n_bad > 2 * result.rounds[0].n_good
    labels = StepLabels(np.array([0.9, 0.8, 0.95, 0.1]), "local", (True, True, True, False), -1 + 4, confidence=np.array([0.9, 0.8, 0.95, 0.9]))
    (kept,) = balanced([labels])
    assert kept.hard == (None, None, True, False)


def test_calibration_is_asked_for_each_model() -> None:
    seen: list[str] = []

    def calibrate(model: RewardModel, examples: Sequence[Example]) -> RewardModel:
        seen.append(f"{model.fingerprint} {len(examples)}")
        return model

    result = run(SelfTraining(learner=Linear(), tau=0.8, rounds=2, calibrate=calibrate), labelled(10), solutions(40, 10))
    assert len(seen) == len(result.rounds) + 1
    assert all(line.endswith(" 10") for line in seen)


def test_self_training_options_and_conformance() -> None:
    check_labeler(PseudoLabels(judge=TRUTH, tau=0.8), solutions(2))  # type: ignore[arg-type]
    for wrong in ({"tau": 0.3}, {"rounds": 0}, {"balance": "scales"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            SelfTraining(learner=Linear(), **wrong)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Teacher:
    """Answers "right" with chance `accuracy`, else one of `wrong`, evenly."""

    accuracy: float
    wrong: tuple[str, ...] = ("a", "b", "c", "d")
    fingerprint: str = "teacher"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        made = []
        for index in range(n):
            luck, which = uniforms(sampling.seed, prefix.key, draw + index, 0, 2)
            answer = "right" if luck < self.accuracy else self.wrong[int(which * len(self.wrong))]
            made.append(prefix.extend(Step(answer, n_tokens=1), finished=True))
        return made


def problems(n: int) -> list[Problem]:
    return [Problem(f"problem {index}") for index in range(n)]


def share_right(teacher: Teacher, n: int, questions: int = 400) -> float:
    labeler = Distilled(policy=teacher, environment=Ends(), n=n)
    found = [asyncio.run(labeler.majority(problem)) for problem in problems(questions)]
    return sum(made.answer == "right" for made in found) / questions


def test_a_dispersed_teacher_is_right_almost_always_given_enough_answers() -> None:
    """Accuracy .55 with errors spread over four answers: the share of right pseudo-references goes to 1."""
    shares = [share_right(Teacher(0.55), n) for n in (1, 9, 33)]
    assert shares == sorted(shares)
    assert abs(shares[0] - 0.55) < 3 * math.sqrt(0.55 * 0.45 / 400)
    assert shares[-1] > 0.99


def test_a_teacher_with_one_favourite_error_is_followed_into_it() -> None:
    assert share_right(Teacher(0.35, ("a",)), 33, 100) < 0.1
    labeler = Distilled(policy=Teacher(0.1, ("a",)), environment=Ends(), n=33)
    right = Trajectory.from_texts("problem 0", ["think", "right"], outcome=Outcome(1.0))
    labels = asyncio.run(labeler.label(right))
    assert labels.hard == (None, False), "a right solution is called wrong"
    assert labels.evidence[1][0]["pseudo_reference"] == "a"


def test_labels_compare_answers_and_weigh_by_the_share() -> None:
    labeler = Distilled(policy=Teacher(0.8), environment=Ends(), n=16)
    right, wrong = (Trajectory.from_texts("problem 1", ["think", answer]) for answer in ("right", "wrong"))
    good, bad = (asyncio.run(labeler.label(case)) for case in (right, wrong))
    assert (good.hard, bad.hard) == ((None, True), (None, False))
    found = asyncio.run(labeler.majority(right.problem))
    assert found.n == 16
    assert good.confidence[1] == found.share
    assert good.usage.policy_tokens == 0, "this teacher charges nothing"
    assert asyncio.run(labeler.label(right.prefix(1))).n_unlabelled == 1


def test_ties_and_failures_label_nothing() -> None:
    assert majority_of(["a", "b"]).answer is None
    assert majority_of([]).reason == "no solution of the teacher states an answer"
    assert majority_of(["a", "b", "a"]).share == 2 / 3
    case = Trajectory.from_texts("problem 1", ["right"])
    broken = Distilled(policy=Failing(Teacher(0.8), frozenset({0})), environment=Ends())
    assert asyncio.run(broken.label(case)).reasons == ("the teacher failed: the server is gone",)
    with pytest.raises(InputError, match="n >= 1"):
        Distilled(policy=Teacher(0.8), environment=Ends(), n=0)
    check_labeler(Distilled(policy=Teacher(0.8), environment=Ends()), [case])
