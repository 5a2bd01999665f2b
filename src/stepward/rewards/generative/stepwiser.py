r"""StepWiser: one prompt a step; the judge analyses the new chunk and ends with \boxed{Positive} or \boxed{Negative}.

Prompt: StepWiser: Stepwise Generative Judges for Wiser Reasoning (2025), table 3; line breaks and bullets of the table are ours, for the paper's layout does
not show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Trajectory
from stepward.rewards.generative.frame import Frame
from stepward.rewards.generative.parsing import word_marks
from stepward.rewards.generative.task import Forcing, JudgeTask, Question, Reading

_PROMPT = (
    'You are a reasoning validator for mathematical problems. Your task is to think step by step and determine if the "New Reasoning Chunk" contains any '
    "explicit "
    "errors based on the problem description and historical context. First, you must always perform a step-by-step chain of thought analysis to justify your "
    "final judgment. Then, based on your analysis, you will make a definitive judgment. It is OK that the chunk does not contain any numerical "
    "calculation. Based "
    "on your evaluation, provide your final judgment:\n\n"
    "- Use Positive if the reasoning chunk is free of mistakes.\n"
    "- Use Negative if the reasoning chunk contains one or more mistakes.\n\n"
    "Input:\n"
    "Mathematical Problem: {problem}\n"
    "Historical Reasoning Path: {history}\n"
    "New Reasoning Chunk: {chunk}\n\n"
    "Output format:\n"
    "1. Analysis: [Always provide a step-by-step analysis here. First, briefly state the goal of the current reasoning chunk. Second, verify the logic, "
    "method, "
    "and any calculations against the problem's requirements and the historical path. If an error is found, clearly explain the error and why it's wrong. "
    "If the "
    "reasoning is correct, explain why it is a valid and logical step forward.]\n"
    "2. Final Judgment: [Provide the final judgment within \\boxed{{}}. Examples: \\boxed{{Positive}} or \\boxed{{Negative}}.]"
)
_FRAME = Frame(("Mathematical Problem:", "Historical Reasoning Path:", "New Reasoning Chunk:", "Output format:", "Final Judgment:"))


@dataclass(frozen=True)
class StepWiser(JudgeTask):
    """One question a step; the authors vote by majority over 8 answers. A step's score does not depend on later steps."""

    name: ClassVar[str] = "stepwiser"

    def questions(self, trajectory: Trajectory) -> Sequence[Question]:
        """One a step."""
        problem = _FRAME.escape(trajectory.problem.prompt)
        shown = [_FRAME.step(step) for step in trajectory.steps]
        return [
            Question(prompt=_PROMPT.format(problem=problem, history="\n\n".join(shown[:index]), chunk=chunk), slots=(index,), steps=(index,))
            for index, chunk in enumerate(shown)
        ]

    def read(self, question: Question, text: str) -> Reading:
        """The last box with one of the two words."""
        marks = word_marks(text, "Positive", "Negative")
        return Reading({question.slots[0]: marks[-1]} if marks else {})

    def forcing(self, question: Question) -> Forcing:
        """A final judgement begun for the judge."""
        return Forcing(text="\n\n2. Final Judgment: \\boxed{", slots=question.slots, words=("Positive", "Negative"))
