"""GroundedPRM: verdicts and returns fused; what is kept and what is dropped."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from stepward.core import InputError, RequestFailed, StepLabels, StepScores, Trajectory
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.trees import GroundedPRM, StepJudge
from stepward.labeling.trees.grounded import recovery
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.testing import check_labeler
from stepward.testing.ladder import Climber, Ladder

LADDER = Ladder()


@dataclass(frozen=True)
class Verdict:
    """Right up to the first slip, wrong after it (`prefix`); the end by its text. `odd`: these steps get the given verdict instead."""

    odd: tuple[tuple[int, int], ...] = ()
    fingerprint: str = "verdict"

    async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
        texts = [step.text for step in trajectory.steps]
        verdicts = [-1 if any(text.startswith("slip") for text in texts[: t + 1]) or text == "no" else 1 for t, text in enumerate(texts)]
        for t, value in self.odd:
            if t < len(verdicts):
                verdicts[t] = value
        return verdicts


def label(labeler: GroundedPRM, case: Trajectory) -> StepLabels:
    return asyncio.run(labeler.label(case))


CLEAN = Climber(clean=0.95)
CASE = LADDER.wrong_solution(LADDER.problem(6), 3)


def test_verdicts_that_agree_with_the_returns_are_kept() -> None:
    labels = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=Verdict()), CASE)
    assert labels.hard == (True, True, True, False, False, False)
    assert labels.first_error == 3
    assert labels.semantics == "local"
    assert [items[0]["verdict"] for items in labels.evidence] == [1, 1, 1, -1, -1, -1]


def test_a_value_is_the_sum_of_returns_on_a_scale_from_certainly_wrong_to_certainly_right() -> None:
    """A policy that never fails before the slip and never succeeds after it, with a judge that is always right: all returns at their bounds."""
    labels = label(GroundedPRM(policy=Climber(clean=1.0), environment=LADDER, judge=Verdict()), CASE)
    assert labels.values.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    blind = label(GroundedPRM(policy=Climber(clean=1.0), environment=LADDER, judge=Verdict(odd=tuple((t, 0) for t in range(6)))), CASE)
    for t in range(5):
        n_inner = 6 - (t + 1) - 1
        bound = (n_inner + 1) / (2 * n_inner) + 1 / n_inner if n_inner else 1.0
        alone = (1 / n_inner if n_inner else 1.0) / bound  # undecided verdicts leave F/N
        assert blind.values[t] == pytest.approx((1 + (alone if t < 3 else -alone)) / 2)


def test_one_disagreement_drops_the_solution_or_the_step() -> None:
    judge = Verdict(odd=((1, -1),))
    whole = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=judge), CASE)
    assert whole.n_unlabelled == 6
    assert all((reason or "").startswith("abstained") for reason in whole.reasons)
    assert whole.first_error is None
    one = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=judge, consensus="step"), CASE)
    assert one.hard == (True, None, True, False, False, False)


def test_an_undecided_verdict_agrees_with_anything_unless_told_otherwise() -> None:
    judge = Verdict(odd=((1, 0),))
    assert label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=judge), CASE).n_unlabelled == 0
    assert label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=judge, undecided="drop"), CASE).n_unlabelled == 6


def test_wrong_solutions_are_cut_where_a_good_step_follows_an_error() -> None:
    assert recovery([True, False, False, True, False]) == 3
    assert recovery([True, False, None]) == 2
    assert recovery([True, True]) is None
    assert recovery([False, False]) is None

    @dataclass(frozen=True)
    class Forgiving:
        """A policy that can only finish right from a prefix of one or four steps."""

        fingerprint: str = "forgiving"

        async def sample(self, prefix, n=1, **request):  # type: ignore[no-untyped-def]
            return await Climber(clean=float(len(prefix) in (1, 4)), repair=float(len(prefix) in (1, 4))).sample(prefix, n, **request)

    @dataclass(frozen=True)
    class Knowing:
        """Verdicts on the given solution only: everything else has returns of F/N, which have the sign of F."""

        fingerprint: str = "knowing"

        async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
            return [1, -1, -1, 1, -1, -1] if trajectory.text == CASE.text else [0] * len(trajectory)

    labels = label(GroundedPRM(policy=Forgiving(), environment=LADDER, judge=Knowing(), consensus="step"), CASE)
    assert labels.hard == (True, False, False, None, None, None)
    assert "first run of errors" in (labels.reasons[4] or "")


def test_only_wrong_solutions_are_cut() -> None:
    case = Trajectory(CASE.problem, CASE.steps)  # open: its end is not known to be wrong
    labels = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=Verdict(odd=((1, -1),)), consensus="step"), case)
    assert labels.hard == (True, None, True, False, False, False)


def test_a_judge_that_fails_leaves_every_step_unlabelled_with_its_reason() -> None:
    @dataclass(frozen=True)
    class Broken:
        fingerprint: str = "broken"

        async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
            raise RequestFailed("the judge is gone")

    @dataclass(frozen=True)
    class Short:
        fingerprint: str = "short"

        async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
            return [1]

    labels = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=Broken()), CASE)
    assert all("the judge is gone" in (reason or "") for reason in labels.reasons)
    labels = label(GroundedPRM(policy=CLEAN, environment=LADDER, judge=Short()), CASE)
    assert all("6 steps" in (reason or "") for reason in labels.reasons)


def test_any_reward_model_can_be_the_judge_and_what_it_did_not_score_is_undecided() -> None:
    @dataclass(frozen=True)
    class Scores:
        fingerprint: str = "scores"
        granularity: str = "step"
        scale: str = "probability"

        async def score(self, trajectory: Trajectory) -> StepScores:
            values = [0.9, math.nan, 0.2][: len(trajectory)]
            return StepScores(np.array(values), reasons=tuple("abstained: cannot say" if math.isnan(value) else None for value in values))

    judge = StepJudge(model=Scores())  # type: ignore[arg-type]
    assert asyncio.run(judge(CASE.prefix(3))) == [1, 0, -1]
    assert judge.fingerprint == "scores"
    labeler = GroundedPRM(policy=CLEAN, environment=LADDER, judge=Scores())  # type: ignore[arg-type]
    assert labeler.judge == judge
    assert labeler.describe()["judge"] == "scores"


def test_on_word_problems_kept_labels_are_more_often_right_than_the_judge() -> None:
    """A judge that errs on a fifth of the steps, independently: the consensus with the tree raises the precision of what is kept."""
    world, solver = GradeSchool(max_operations=6), ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.0, lucky=0.0)

    @dataclass(frozen=True)
    class Noisy:
        fingerprint: str = "noisy"

        async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
            truth = world.labels(trajectory).hard
            return [1 if bool(good) != (int(key[:6], 16) % 5 == 0) else -1 for good, key in zip(truth, trajectory.keys[1:], strict=True)]

    async def run() -> list[tuple[StepLabels, Sequence[int], StepLabels]]:
        labeler = GroundedPRM(policy=solver, environment=world, judge=Noisy(), consensus="step", simulations=4)
        cases = [(await solve(solver, world, problem, 1))[0] for problem in world.problems(3, 80)]
        return [(await labeler.label(case), await Noisy()(case), world.labels(case)) for case in cases]

    kept, judged = [], []
    for labels, verdicts, truth in asyncio.run(run()):
        for t, good in enumerate(truth.hard):
            judged.append((verdicts[t] > 0) == good)
            if labels.hard[t] is not None:
                kept.append(labels.hard[t] == good)
    assert len(kept) > 0.5 * len(judged)
    assert np.mean(judged) < 0.85
    assert np.mean(kept) > np.mean(judged) + 0.08, f"judge {np.mean(judged):.3f}, kept {np.mean(kept):.3f}"


def test_a_search_ends_when_it_has_enough_solutions_of_both_kinds() -> None:
    policy = Climber(clean=0.7, slip=0.1, routes=4)
    labeler = GroundedPRM(policy=policy, environment=LADDER, judge=Verdict(), rounds=60, wanted=2, consensus="step")
    growth = asyncio.run(labeler.grow(LADDER.problem(6, "both")))
    ends = [node.trajectory.outcome.value for node in growth.tree if node.trajectory.outcome is not None]
    assert min(ends.count(1.0), ends.count(0.0)) == 2
    assert growth.examples
    for example in growth.examples:
        assert example.labels is not None
        for good, verdict in zip(example.labels.hard, asyncio.run(Verdict()(example.trajectory)), strict=True):
            assert good is None or good is (verdict > 0), "what is kept is what the judge said"


def test_a_search_stops_at_its_rounds_and_says_why_it_found_nothing() -> None:
    policy = Climber(clean=1.0, routes=4)
    growth = asyncio.run(GroundedPRM(policy=policy, environment=LADDER, judge=Verdict(), rounds=4).grow(LADDER.problem(6)))
    assert sum(node.trajectory.outcome is not None for node in growth.tree) == 4
    silent = Verdict(odd=tuple((t, 0) for t in range(6)))
    nothing = asyncio.run(GroundedPRM(policy=policy, environment=LADDER, judge=silent, rounds=4, undecided="drop").grow(LADDER.problem(6)))
    assert not nothing.examples
    assert nothing.reason


def test_the_labeler_keeps_its_promises() -> None:
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0))

    @dataclass(frozen=True)
    class Oracle:
        fingerprint: str = "oracle"

        async def __call__(self, trajectory: Trajectory) -> Sequence[int]:
            return [1 if good else -1 for good in world.labels(trajectory).hard]

    cases = [asyncio.run(solve(solver, world, problem, 1))[0] for problem in world.problems(5, 3)]
    check_labeler(GroundedPRM(policy=solver, environment=world, judge=Oracle()), cases)
    for settings in ({"simulations": 0}, {"discount": 2.0}, {"consensus": "none"}, {"undecided": "maybe"}):
        with pytest.raises(InputError):
            GroundedPRM(policy=solver, environment=world, judge=Oracle(), **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fingerprint"):
        GroundedPRM(policy=solver, environment=world, judge=lambda trajectory: trajectory)  # type: ignore[arg-type,return-value]
