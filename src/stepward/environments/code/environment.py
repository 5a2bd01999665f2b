"""Code: the environment of programming problems. The answer is a program; the grade is what its tests say, run in the sandbox."""

from __future__ import annotations

import ast

from stepward.core.outcome import Outcome
from stepward.core.trajectory import Trajectory
from stepward.engine.sandbox import Limits, Sandbox, best_sandbox
from stepward.environments.code.program import program_of, read_python
from stepward.environments.code.suite import LIMITS, Suite


class Code:
    """Specification "code". A problem's answer is its tests (see `data.code_problems`); a solution is the program in its text (see `program_of`).

    `grade`: 1 when all tests pass; 0 when one fails, the program cannot be read, ends itself, or takes more time or memory than `limits`. Unscored with a
    reason: no tests, a solution that a limit cut off or that has not finished, tests that cannot tell.

    Raises: NoSandbox with the remedy where untrusted code cannot be run.
    """

    interactive = False

    def __init__(self, *, sandbox: Sandbox | None = None, limits: Limits = LIMITS) -> None:
        self.sandbox = best_sandbox() if sandbox is None else sandbox
        self.limits = limits

    @property
    def fingerprint(self) -> str:
        return f"code:1:{self.sandbox.fingerprint}(wall_s={self.limits.wall_s:g},cpu_s={self.limits.cpu_s:g},memory_mb={self.limits.memory_mb})"

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory itself: nothing runs before the end."""
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        """The policy has ended it."""
        return trajectory.finished

    def answer(self, trajectory: Trajectory) -> str | None:
        """The program in a canonical spelling (no comments, one layout), for voting; None when it cannot be read."""
        try:
            return ast.unparse(read_python(program_of(trajectory.problem.prompt, trajectory.text))) or None
        except (SyntaxError, RecursionError):
            return None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """The outcome of the tests; see the class."""
        problem = trajectory.problem
        if not problem.answer:
            return Outcome.unscored("the problem has no tests")
        answer = self.answer(trajectory)
        if trajectory.truncated:
            return Outcome.unscored("truncated", answer=answer)
        if not trajectory.finished:
            return Outcome.unscored("the solution has not finished")
        suite = Suite(tests=problem.answer, prompt=problem.prompt)
        result = await suite.run(self.sandbox, program_of(problem.prompt, trajectory.text), limits=self.limits)
        if result.state == "passed":
            return Outcome(1.0, answer)
        if result.state == "broken":
            return Outcome.unscored(f"the tests cannot tell: {result.reason}", answer=answer)
        detail = f"{result.reason}: {result.test}" if result.test else result.reason
        return Outcome(0.0, answer, detail)

    def close(self) -> None:
        """End the sandbox's processes."""
        self.sandbox.close()
