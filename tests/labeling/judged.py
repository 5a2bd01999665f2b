"""What tests of judge labelers share: steps that say whether they are right, scripted judges that read that, and solved grade-school problems."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import cache

from stepward.core import Labeler, Outcome, Problem, Sampling, StepLabels, Trajectory
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.rewards.generative import load_judge
from stepward.rewards.generative.model import GenerativeModel
from stepward.rewards.generative.scripted import Asked, ScriptedJudge

WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.2)
STEP = re.compile(r"<step_(\d+)>\n(.*?)\n</step_\1>", re.DOTALL)
PROBLEM = Problem("How many?", answer="7", reference_steps=("3 + 4 = 7.", "The answer is 7."))


def solution(*texts: str, problem: Problem = PROBLEM, outcome: Outcome | None = None) -> Trajectory:
    return Trajectory.from_texts(problem, list(texts), separator="\n", outcome=outcome)


def shown_steps(asked: Asked) -> list[str]:
    """The tagged steps of the solution in a prompt, in order."""
    return [text for _, text in STEP.findall(asked.prompt.split("[Solution]")[-1])]


def says(verdicts: Sequence[bool | None], *, order: Sequence[int] | None = None, note: str = "looked at") -> str:
    """An answer with a line a step; None leaves the step out."""
    lines = [f"Step {number}: {note}. \\boxed{{{'correct' if good else 'incorrect'}}}" for number, good in enumerate(verdicts, 1) if good is not None]
    return "\n".join(lines if order is None else [lines[place] for place in order])


def believer(asked: Asked) -> str:
    """Calls a step wrong if it has the word "bad"."""
    return says(["bad" not in text for text in shown_steps(asked)])


def judge(writer: Callable[[Asked], str], **options: object) -> GenerativeModel:
    made = load_judge("one-pass", ScriptedJudge(writer), **options)
    assert isinstance(made, GenerativeModel)
    return made


def label(labeler: Labeler, trajectory: Trajectory) -> StepLabels:
    return asyncio.run(labeler.label(trajectory))


def label_all(labeler: Labeler, trajectories: Sequence[Trajectory]) -> list[StepLabels]:
    async def run() -> list[StepLabels]:
        return list(await asyncio.gather(*(labeler.label(trajectory) for trajectory in trajectories)))

    return asyncio.run(run())


@cache
def solved(n: int, seed: int = 0) -> tuple[Trajectory, ...]:
    """Solutions of grade-school problems by a solver that errs, with their outcomes."""

    async def run() -> tuple[Trajectory, ...]:
        made = await asyncio.gather(*(solve(SOLVER, WORLD, problem, 1, sampling=Sampling(seed=seed)) for problem in WORLD.problems(seed, n)))
        return tuple(ends[0] for ends in made)

    return asyncio.run(run())


def truths(trajectories: Sequence[Trajectory], semantics: str = "prefix") -> list[StepLabels]:
    return [WORLD.labels(trajectory, semantics) for trajectory in trajectories]  # type: ignore[arg-type]
