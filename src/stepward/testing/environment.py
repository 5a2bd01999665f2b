"""check_environment: the conformance suite of the Environment protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from stepward.core import Environment, Problem, Trajectory
from stepward.testing.conformance import Check, awkward_trajectories, expect, run_checks, shuffled


def check_environment(environment: Environment, problems: Sequence[Problem]) -> list[str]:
    """Run every check of the Environment protocol; return the checks' names. Problems with reference steps are graded by these too.

    Raises: NotConformant listing every failed check.
    """
    expect(bool(problems), "check_environment needs at least one problem")
    gold = [Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in problems if problem.reference_steps]
    cases = [*awkward_trajectories(problems[0]), *gold]

    async def gold_is_right() -> None:
        for trajectory in gold:
            outcome = await environment.grade(trajectory)
            expect(outcome.correct is True, f"the reference solution of {trajectory.problem.id} is graded {outcome}")

    async def grades_lie_in_range() -> None:
        for case in cases:
            for trajectory in (case, replace(case, finished=True), replace(case, finished=False)):
                outcome = await environment.grade(trajectory)
                expect(outcome.scored or bool(outcome.reason), f"an unscored outcome needs a reason: {outcome}")

    async def truncated_is_not_wrong() -> None:
        for case in cases:
            outcome = await environment.grade(replace(case, finished=False, truncated=True))
            stated = environment.answer(case) is not None
            expect(stated or outcome.value != 0.0, f"a trajectory cut off before its answer was graded wrong: {case.text[:80]!r}")

    async def observing_adds_nothing_to_the_policy() -> None:
        for case in cases:
            observed = await environment.observe(case)
            expect(observed.text == case.text and len(observed) == len(case), "observe changed what the policy wrote")
            environment.is_finished(case)

    async def answers_are_text() -> None:
        for case in cases:
            answer = environment.answer(case)
            expect(answer is None or isinstance(answer, str), f"answer gave {answer!r}")

    async def company_does_not_matter() -> None:
        finished = [replace(case, finished=True) for case in cases]
        alone = [await environment.grade(case) for case in finished]
        mixed = shuffled(finished)
        together = await asyncio.gather(*(environment.grade(case) for _, case in mixed))
        expect([alone[index] for index, _ in mixed] == together, "grades depend on what is graded together")

    checks: dict[str, Check] = {
        "reference solutions are right": gold_is_right,
        "grades lie in [0, 1] or have a reason": grades_lie_in_range,
        "truncated is not wrong": truncated_is_not_wrong,
        "observing adds nothing to the policy's text": observing_adds_nothing_to_the_policy,
        "answers are text or None": answers_are_text,
        "order and company do not matter": company_does_not_matter,
    }
    return run_checks(f"environment {environment.fingerprint}", checks)
