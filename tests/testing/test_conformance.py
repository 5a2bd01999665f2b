"""The conformance suites catch what they are made to catch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import Outcome, Problem, Sampling, Step, StepScores, Trajectory, Until, Usage, charge
from stepward.environments.grade_school import GradeSchool
from stepward.environments.maths import Maths
from stepward.policies.load import load_policy
from stepward.policies.scripted import ScriptedSolver
from stepward.rewards.load import load_reward_model
from stepward.testing import NotConformant, check_environment, check_policy, check_reward_model
from stepward.testing.fixtures import ARCHITECTURES, Architecture, tiny_causal_lm, tiny_prm

WORLD = GradeSchool.easy()
PROBLEMS = list(WORLD.problems(0, 3))


@dataclass
class Broken:
    """A policy that breaks one promise at a time."""

    fault: str
    fingerprint: str = "broken"
    calls: int = 0

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        self.calls += 1
        seed = self.calls if self.fault == "order" else sampling.seed
        if self.fault == "prefix" and len(prefix):
            prefix = Trajectory(prefix.problem, (Step("other"), *prefix.steps[1:]))
        made = [prefix.extend(Step(f"word {seed} {draw + index}", n_tokens=3), finished=self.fault != "open") for index in range(n)]
        charge(Usage(policy_tokens=3 * n if self.fault != "usage" else 1, calls=1))
        return made[: n - (self.fault == "count")]


@pytest.mark.parametrize(
    ("fault", "message"),
    [("count", "asked for"), ("open", "open trajectory"), ("usage", "the ledger"), ("order", "differs from draws")],
)
def test_a_broken_policy_is_found_out(fault: str, message: str) -> None:
    with pytest.raises(NotConformant, match=message):
        check_policy(Broken(fault), PROBLEMS)


def test_every_failure_is_listed_at_once() -> None:
    with pytest.raises(NotConformant) as caught:
        check_policy(Broken("count"), PROBLEMS)
    assert str(caught.value).count("\n- ") > 1


@dataclass
class Scorer:
    """A reward model that breaks one promise at a time."""

    fault: str = ""
    fingerprint: str = "scorer"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"
    calls: int = 0

    async def score(self, trajectory: Trajectory) -> StepScores:
        self.calls += 1
        n = len(trajectory)
        values: Any = np.array([len(step.text) % 7 / 7 for step in trajectory.steps])
        if self.fault == "count" and n > 1:
            values = values[:-1]
        if self.fault == "company":
            await asyncio.sleep(0)
            values = values * 0 + 1 / self.calls
        if self.fault == "causal" and n:
            values = values * 0 + 1 / n
        return StepScores(values, scale="logit" if self.fault == "scale" else "probability")


def test_a_sound_reward_model_passes() -> None:
    check_reward_model(Scorer())


@pytest.mark.parametrize(
    ("fault", "message"), [("count", "steps but"), ("company", "scored together"), ("causal", "before later steps"), ("scale", "declares scale")]
)
def test_a_broken_reward_model_is_found_out(fault: str, message: str) -> None:
    with pytest.raises(NotConformant, match=message):
        check_reward_model(Scorer(fault))


@dataclass(frozen=True)
class Harsh:
    """Grade-school that counts what was cut off as wrong."""

    fingerprint: str = "harsh"
    interactive: bool = False

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.ended

    def answer(self, trajectory: Trajectory) -> str | None:
        return WORLD.answer(trajectory)

    async def grade(self, trajectory: Trajectory) -> Outcome:
        outcome = await WORLD.grade(trajectory)
        return outcome if outcome.scored else Outcome(0.0)


def test_grading_a_cut_off_trajectory_as_wrong_is_found_out() -> None:
    with pytest.raises(NotConformant, match="cut off before its answer"):
        check_environment(Harsh(), PROBLEMS)


def test_what_we_ship_passes() -> None:
    check_environment(WORLD, PROBLEMS)
    check_environment(GradeSchool(), list(GradeSchool().problems(0, 5)))
    check_policy(ScriptedSolver(), PROBLEMS)


def gold() -> list[Trajectory]:
    return [Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in PROBLEMS]


@pytest.mark.parametrize("spec", ["tools:arithmetic", "oracle:grade-school"])
def test_the_reward_models_without_weights_pass(spec: str) -> None:
    check_reward_model(load_reward_model(spec), gold())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_step_classifiers_pass(architecture: Architecture, tmp_path: Path) -> None:
    check_reward_model(load_reward_model(f"prm:{tiny_prm(architecture, tmp_path)}"), gold())


def test_the_shipped_tiny_policy_passes() -> None:
    check_policy(load_policy("tiny"), PROBLEMS[:2], sampling=Sampling(seed=7, max_tokens=200))


def test_local_policies_pass(tmp_path: Path) -> None:
    check_policy(load_policy(f"hf:{tiny_causal_lm('qwen2', tmp_path)}"), PROBLEMS[:2], sampling=Sampling(seed=7, max_tokens=24, max_step_tokens=12))


def test_maths_passes() -> None:
    world = Maths()
    try:
        check_environment(world, [Problem("What is 1 + 1?", answer="2", reference_steps=("1 + 1 = 2.", "The answer is \\boxed{2}."))])
    finally:
        world.close()
