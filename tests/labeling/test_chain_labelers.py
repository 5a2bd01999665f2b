"""What every labeler of single chains promises: the hard cases, replay, the ledger, and the conformance suite."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.labeling.chains import WORLD, Failing, Ladder, Telling, by_length, chain, cut_off, label

from stepward.core import Count, Outcome, Policy, Trajectory
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledLabeler, JournaledPolicy
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.chain import ChainLabeler, RootedLabeler
from stepward.labeling.code_lines import CodeLines
from stepward.labeling.entropy_regularised import EntropyRegularised
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.prover_progress import ProverProgress
from stepward.labeling.relative_progress import RelativeProgress
from stepward.labeling.scan import Scan
from stepward.labeling.solvability import SolvableOutcome
from stepward.labeling.stepwise_outcome import StepwiseOutcome
from stepward.labeling.uncertainty_driven import UncertaintyDriven
from stepward.policies.scripted import ScriptedSolver
from stepward.testing import check_labeler

Make = Callable[[Policy], ChainLabeler]
LENGTH = 5
VALUES = (0.9, 0.9, 0.8, 0.5, 0.3)
SIZES = ((1.0, 6),)
READER = Telling(by_length(VALUES), LENGTH, steps=((-1.0, -2.0),) * LENGTH)

METHODS: dict[str, Make] = {
    "soft": lambda policy: MonteCarlo(policy=policy, environment=WORLD, n=6),
    "hard": lambda policy: MonteCarlo(policy=policy, environment=WORLD, n=6, estimate="hard"),
    "hard, curtailed": lambda policy: MonteCarlo(policy=policy, environment=WORLD, n=6, estimate="hard", batch=1),
    "soft, stopping": lambda policy: MonteCarlo(policy=policy, environment=WORLD, n=6, stop_after=2),
    "scan": lambda policy: Scan(policy=policy, environment=WORLD, n=6, n_root=12, min_confidence=0.5),
    "entropy": lambda policy: EntropyRegularised(policy=policy, environment=WORLD, n=6),
    "entropy, infinite": lambda policy: EntropyRegularised(policy=policy, environment=WORLD, n=6, eta=math.inf),
    "relative": lambda policy: RelativeProgress(policy=policy, environment=WORLD, n_root=12, sizes=SIZES),
    "relative, stopping": lambda policy: RelativeProgress(policy=policy, environment=WORLD, n_root=12, sizes=SIZES, stop_after=3),
    "prover": lambda policy: ProverProgress(policy=policy, environment=WORLD, n=6, best_of=3),
    "stepwise": lambda policy: StepwiseOutcome(policy=policy, environment=WORLD, n=6, consistency="none"),
    "stepwise, backward": lambda policy: StepwiseOutcome(policy=policy, environment=WORLD, n=6, consistency="none", search="backward"),
    "uncertainty, bisect": lambda policy: UncertaintyDriven(policy=policy, environment=WORLD, search="bisect", value="share", n_root=24),
    "uncertainty, ranked": lambda policy: UncertaintyDriven(policy=policy, environment=WORLD, value="share", n_root=24, reader=READER),
    "code": lambda policy: CodeLines(policy=policy, environment=WORLD, n=6),
    "solvable": lambda policy: SolvableOutcome(policy=policy, environment=WORLD, n_options=4),
}
ROLLING = {name: make for name, make in METHODS.items() if name != "solvable"}
each = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
each_rolling = pytest.mark.parametrize("make", ROLLING.values(), ids=ROLLING.keys())
GOOD = Ladder(by_length(VALUES), LENGTH)


@each
def test_a_trajectory_without_steps_costs_nothing(make: Make) -> None:
    labels = label(make(GOOD), Trajectory(chain(2).problem))
    assert len(labels) == 0
    assert not labels.usage


@each
def test_a_wrong_single_step_is_bad_and_the_error(make: Make) -> None:
    labels = label(make(Ladder(by_length([0.9]), 1)), chain(1))
    assert labels.hard == (False,)
    assert labels.first_error == 0
    assert labels.values.tolist() == [0.0]


@each
def test_a_right_single_step_is_good(make: Make) -> None:
    labels = label(make(Ladder(by_length([0.7]), 1)), chain(1, "right"))
    assert labels.hard == (True,)
    assert labels.first_error == -1


@each
def test_a_trajectory_that_has_not_ended_gets_one_label_a_step(make: Make) -> None:
    labels = label(make(GOOD), chain(LENGTH).prefix(3))
    assert len(labels) == 3
    assert labels.n_unlabelled in (0, 3)
    if labels.n_unlabelled:
        assert "has not ended" in (labels.reasons[0] or "")


@each
def test_a_trajectory_that_was_cut_off_has_no_label_at_its_end(make: Make) -> None:
    labels = label(make(GOOD), cut_off(chain(LENGTH).prefix(4)))
    assert len(labels) == 4
    if labels.first_error in (None, -1):
        assert labels.hard[-1] is None
        assert labels.reasons[-1]
        assert labels.first_error is None, "what was cut off is not known to be without an error"


@each
def test_an_unknown_outcome_is_unknown(make: Make) -> None:
    case = replace(chain(LENGTH), outcome=Outcome.unscored("nobody knows"))
    labels = label(make(Ladder(by_length([0.9] * LENGTH), LENGTH)), case)
    if labels.first_error in (None, -1):
        assert labels.hard[-1] is None
        assert "nobody knows" in (labels.reasons[-1] or "") or labels.n_unlabelled == LENGTH


@each_rolling
def test_ungraded_rollouts_are_neither_successes_nor_failures(make: Make) -> None:
    """With every rollout ungraded nothing but the graded end is known; with some of them, labels are as without them."""
    labels = label(make(Ladder(by_length(VALUES), LENGTH, lost=1.0)), chain(LENGTH))
    for step in range(LENGTH - 1):
        assert labels.hard[step] is None
        assert "cannot grade" in (labels.reasons[step] or "")
        count = labels.counts[step]
        assert count is None or count.rollouts == 0
    assert labels.first_error is None
    sure = Ladder(by_length([1.0] * LENGTH), LENGTH, lost=0.4)
    for step_label in label(make(sure), chain(LENGTH)).hard[:-1]:
        assert step_label is not False, "a lost rollout was taken for a failure"


@each_rolling
def test_a_failed_request_leaves_steps_unlabelled_with_the_reason(make: Make) -> None:
    labels = label(make(Failing(GOOD, frozenset({1, 2, 3, 4}))), chain(LENGTH))
    assert all(good is None for good in labels.hard[:-1])
    assert all("the server is gone" in (reason or "") or "could not be rolled out" in (reason or "") for reason in labels.reasons[:-1])
    assert any("the server is gone" in (reason or "") for reason in labels.reasons)
    assert labels.first_error is None
    assert not any(reason.startswith("abstained") for reason in labels.reasons if reason), "a failure is not an abstention"


@each
def test_a_failed_root_is_a_failure_too(make: Make) -> None:
    labeler = make(Failing(GOOD, frozenset({0})))
    labels = label(labeler, chain(LENGTH, "right" if isinstance(labeler, SolvableOutcome) else "wrong"))
    if isinstance(labeler, RootedLabeler):
        assert labels.n_unlabelled == (1 if isinstance(labeler, ProverProgress) else LENGTH), "only progress over the first step needs the root"
        assert "the server is gone" in (labels.reasons[0] or "")
    else:
        assert labels.n_unlabelled == 0, "no other method asks for the problem's own value"


@each
def test_labels_are_the_same_when_replayed_on_recorded_draws(make: Make, tmp_path: Path) -> None:
    """Run on recorded draws only, a labeler gives identical labels: it reads nothing that it did not pay for."""
    labeler = make(GOOD)
    first = label(labeler, chain(LENGTH))
    with Journal(tmp_path / "journal.sqlite") as journal:
        recorded = replace(labeler, policy=JournaledPolicy(GOOD, journal))
        assert label(recorded, chain(LENGTH)) == first
        replayed = replace(labeler, policy=JournaledPolicy(Silent(GOOD, frozenset(range(LENGTH))), journal))
        assert label(replayed, chain(LENGTH)) == first
        assert asyncio.run(JournaledLabeler(labeler, journal).label(chain(LENGTH))) == first


class Silent(Failing):
    """Has the ladder's name, and nothing to say: all must come from the journal."""

    @property
    def fingerprint(self) -> str:
        return GOOD.fingerprint


@each
def test_the_fingerprint_names_every_parameter(make: Make) -> None:
    labeler = make(GOOD)
    names = [name for name, value in vars(labeler).items() if isinstance(value, int) and not isinstance(value, bool)]
    changed = [replace(labeler, **{name: getattr(labeler, name) + 1}) for name in names]
    prints = {labeler.fingerprint, *(other.fingerprint for other in changed), make(replace(GOOD, fingerprint="other")).fingerprint}
    assert len(prints) == len(changed) + 2
    assert make(GOOD).fingerprint == labeler.fingerprint


@each
def test_the_labelers_keep_their_promises(make: Make) -> None:
    world, solver = GradeSchool.easy(), ScriptedSolver()
    labeler = replace(make(GOOD), environment=world, policy=solver)
    if isinstance(labeler, UncertaintyDriven) and labeler.reader is not None:
        return
    cases = [asyncio.run(solve(solver, world, problem))[0] for problem in world.problems(0, 3)]
    check_labeler(labeler, cases)


@pytest.mark.parametrize("name", ["scan", "relative", "prover", "uncertainty, bisect", "solvable"])
def test_a_known_count_of_the_problem_is_used_instead_of_drawing(name: str) -> None:
    labeler = METHODS[name](Failing(GOOD, frozenset({0})))
    labels = label(labeler, chain(LENGTH, "right" if name == "solvable" else "wrong"), root=Count(15, 20))
    assert labels.n_unlabelled < LENGTH
    assert not any("the server is gone" in (reason or "") for reason in labels.reasons)
