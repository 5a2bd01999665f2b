r"""ThinkPRM: one chain of thought that critiques every step of a solution or prefix, and may be made to think again.

Prompt: Process Reward Models That Think (2025), the authors' repository, "main template used in the paper".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepward.core import InputError, Step, Trajectory
from stepward.rewards.generative.frame import Frame, plain
from stepward.rewards.generative.parsing import after_first_error, answer_mark, step_marks, word_marks
from stepward.rewards.generative.task import AfterError, Forcing, JudgeTask, Question, Reading, Slot, Vote, check_choice

Variant = Literal["repo", "appended", "card"]
Judges = Literal["steps", "prefixes"]

_INSTRUCTION = (
    "Review and critique each step in the proposed solution to determine whether each step is correct. "
    "If the solution is incomplete, only verify the provided steps."
)
_PROMPT = "You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\n{problem}\n\n[Solution]\n\n{solution}\n\n{instruction}"
_APPENDED = "\nLet's verify step by step:"
_CLOSING = "\nIs the solution correct?"
_QUESTION = re.compile(r"is\s{1,4}the\s{1,4}solution\s{1,4}correct\s{0,2}\?", re.IGNORECASE)
_TRIGGERS = ("Let me double check", "Let's verify again", "Did I miss something?")
_LABEL = re.compile(r"(?:#{1,6} )?Step \d{1,9}:")
_FRAME = Frame(("Step #:",))


@dataclass(frozen=True)
class ThinkPRM(JudgeTask):
    r"""`judges` "steps": one critique of the whole solution; score_t is the critique's last `\boxed{correct|incorrect}` for step t, and the aspect "solution"
    holds, at the last step, the answer to "Is the solution correct?". "prefixes": one critique a prefix; score_t is p(Yes) / (p(Yes) + p(No)) of that
    answer for the first t steps, which is how the authors score a prefix in search; later steps then do not change earlier scores.

    `variant` "repo": nothing is put behind the generation prompt (repository at 045b1ae); "appended": "\nLet's verify step by step:" is (at 214cce9);
    "card": that, and the instruction without its full stop (model cards). `after_error`: what holds for steps behind the first error of a critique that
    stops there: abstained ("abstain") or wrong ("incorrect"). `rounds`: how often the judge thinks, 1 to 4; before round 2, 3 and 4 the chain, cut where it
    closes, goes on with "Let me double check", "Let's verify again" and "Did I miss something?" (sequential scaling); a step's last verdict counts.

    As in the authors' code, "Step n:" written by the policy is taken out and steps are numbered anew, and the closing question is appended where the critique
    does not answer it. Unlike it, step numbers are compared as numbers, "incorrect" is never read as "correct", and what cannot be read is unscored.
    """

    variant: Variant = "repo"
    judges: Judges = "steps"
    after_error: AfterError = "abstain"
    rounds: int = 1

    name: ClassVar[str] = "thinkprm"
    stops: ClassVar[tuple[str, ...]] = ("Is the solution correct?", "</think>")

    def __post_init__(self) -> None:
        check_choice("ThinkPRM", "variant", self.variant, ("repo", "appended", "card"))
        check_choice("ThinkPRM", "judges", self.judges, ("steps", "prefixes"))
        check_choice("ThinkPRM", "after_error", self.after_error, ("abstain", "incorrect"))
        if not 1 <= self.rounds <= len(_TRIGGERS) + 1:
            raise InputError(f"ThinkPRM rounds must lie in 1..{len(_TRIGGERS) + 1}, got {self.rounds!r}")

    @property
    def triggers(self) -> tuple[str, ...]:
        return _TRIGGERS[: self.rounds - 1]

    def questions(self, trajectory: Trajectory) -> Sequence[Question]:
        """One question, or one a prefix."""
        n_steps = len(trajectory)
        if self.judges == "steps":
            return [self._question(trajectory, tuple(range(n_steps)), extras=("solution",))]
        return [self._question(trajectory.prefix(k), (k - 1,)) for k in range(1, n_steps + 1)]

    def read(self, question: Question, text: str) -> Reading:
        r"""Step verdicts from boxes under "Step n:" headings; the solution's from the closing question."""
        closing = answer_mark(text, _QUESTION, "Yes", "No")
        if self.judges == "prefixes":
            return Reading({} if closing is None else {question.slots[0]: closing})
        n_steps = len(question.steps)
        marks = step_marks(text, word_marks(text, "correct", "incorrect"), n_steps)
        marks, silent = after_first_error(marks, n_steps, self.after_error)
        return Reading(marks if closing is None else {**marks, "solution": closing}, silent)

    def forcing(self, question: Question) -> Forcing:
        """The closing question, for the solution's verdict."""
        slot = question.slots[0] if self.judges == "prefixes" else "solution"
        return Forcing(text=_CLOSING, slots=(slot,), words=(" Yes", " No"), always=True)

    def combine(self, n_steps: int, votes: Mapping[Slot, Vote]) -> tuple[list[Vote], dict[str, list[float]]]:
        """Step votes; in the aspect "solution" the closing answer stands at the last step."""
        steps = [votes[step] for step in range(n_steps)]
        if self.judges == "prefixes":
            return steps, {}
        return steps, {"solution": [math.nan] * (n_steps - 1) + [votes["solution"].value]}

    def _question(self, trajectory: Trajectory, steps: tuple[int, ...], extras: tuple[Slot, ...] = ()) -> Question:
        solution = "\n".join(f"Step {number}: {_shown(step)}" for number, step in enumerate(trajectory.steps, 1))
        instruction = _INSTRUCTION.removesuffix(".") if self.variant == "card" else _INSTRUCTION
        prompt = _PROMPT.format(problem=_FRAME.escape(trajectory.problem.prompt), solution=solution, instruction=instruction)
        return Question(prompt=prompt, slots=steps, extras=extras, steps=steps, lead="" if self.variant == "repo" else _APPENDED)


def _shown(step: Step) -> str:
    """The step without the labels that a policy may have put on it."""
    return _FRAME.escape(_LABEL.sub("", plain(step)).strip())
