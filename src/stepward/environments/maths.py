"""Maths: mathematical problems with a reference answer. The environment never answers; it extracts the final answer and grades it."""

from __future__ import annotations

from stepward.core.outcome import Outcome
from stepward.core.trajectory import Trajectory
from stepward.environments.answers import canonical_answer, extract_answer, states_answer
from stepward.environments.grader.answer_grader import AnswerGrader


class Maths:
    r"""Specification "maths". A solution states its answer as `\boxed{x}`, `#### x`, "final answer: x" or "the answer is x".

    `grade`: 1 for an answer equal to the reference, 0 for another and for a finished solution that states none. Unscored with a reason: no
    reference answer, a solution that a limit cut off or that has not finished, and whatever the grader could not decide.
    """

    interactive = False

    def __init__(self, *, grader: AnswerGrader | None = None) -> None:
        self.grader = AnswerGrader() if grader is None else grader

    @property
    def fingerprint(self) -> str:
        return f"maths:1:{self.grader.fingerprint}"

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory itself: pure reasoning gets no observations."""
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        r"""The policy has ended it, or its last step states the final answer (`\boxed{x}`, `#### x` or "final answer: x")."""
        return trajectory.finished or (bool(trajectory.steps) and states_answer(trajectory.steps[-1].text))

    def answer(self, trajectory: Trajectory) -> str | None:
        """The canonical final answer, for voting; None when none is stated."""
        stated = extract_answer(trajectory.text)
        return None if stated is None else canonical_answer(stated) or None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """The outcome of the final answer; see the class."""
        reference = trajectory.problem.answer
        if reference is None:
            return Outcome.unscored("the problem has no reference answer")
        if trajectory.truncated:
            return Outcome.unscored("truncated", answer=self.answer(trajectory))
        if not self.is_finished(trajectory):
            return Outcome.unscored("the solution has not finished")
        stated = extract_answer(trajectory.text)
        if stated is None:
            return Outcome(0.0, None, "the finished solution states no answer")
        return await self.grader.grade(reference, stated)

    def close(self) -> None:
        """End the grader's worker processes."""
        self.grader.close()
