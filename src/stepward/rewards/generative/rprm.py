r"""R-PRM: one prompt a step with five analyses, then "Verification: Is the step correct (Yes/No)? X".

Prompt: R-PRM: Reasoning-Driven Process Reward Modeling (2025), the authors' repository, src/prompts/GenPRM/GenPRM-evaluate-new3-qwen.txt without its ChatML
markers, which the policy's chat template writes; the text for a first step is from their search code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Trajectory
from stepward.rewards.generative.frame import Frame, plain
from stepward.rewards.generative.parsing import answer_mark
from stepward.rewards.generative.task import Forcing, JudgeTask, Question, Reading

_PROMPT = (
    "You are an excellent math teacher. Please verify the correctness of the Now Step.\n\n"
    "You first need to analyze the Now Step and the Previous Steps and then summarize based on your analysis.\n"
    "Analysis:\n"
    "You need to analyze the following aspects.\n"
    "**Previous Steps Analysis**: You need to analyze the Previous Steps step by step. For each step, you need to first explain what the current step is "
    "doing, "
    "then you try to find any error in the current step.\n"
    "**Now Step Analysis**: You first need to explain what the Now Step is doing, and then point out which part of the Question it is trying to solve or which "
    "part of the information it states.\n"
    "**Data Source Analysis**: First you need to find out what data are used in the Now Step, and then you need to determine whether the source of the data is "
    "reasonable and correct. When you judge whether the source of a data is reasonable and correct, you need to specify the specific source of this data: such "
    "as which part of the question, or which content of the previous step; and then determine the source and current use is consistent, the Now Step is used "
    "correctly.\n"
    "**Consistency Analysis**: You need to check that the Now Step is consistent with the contents of the Previous Steps, and then you need to check that all "
    "the information inside the Now Step is consistent.\n"
    "**Calculation Analysis**: If the Now Step involves any calculations, such as addition, subtraction, multiplication, division, equations, modulo "
    "operations, "
    "etc., you will first need to perform a check on the calculation, such as a reverse operation, to see if the calculation was done correctly, and then "
    "analyze "
    "the results of your check to see if there was an error in the calculation.\n"
    "Conclusion: \n"
    "Please verify the correctness of the Now Step based on your analysis, if there is any error in the Now Step then the Now Step is wrong and vice versa "
    "the Now "
    "Step is correct. At the end of the Conclusion, when you give your final answer, write it in the form "
    '"Verification: Is the step correct (Yes/No)? X", where X is either Yes or No.\n\n'
    "Question: {question}\n"
    "Previous Steps: {previous}\n"
    "Now Step: {now}\n"
    "Please carefully analyze the correctness of the Now Step.\n"
    "Reply: "
)
_NO_PREVIOUS = "Since the Now Step is the first step, there are no Previous Steps."
_FORCING = "\nBased on your analysis. Is the step correct (Yes/No)?"
_QUESTION = re.compile(r"is\s{1,4}the\s{1,4}step\s{1,4}correct\s{0,4}\(\s{0,4}yes\s{0,4}/\s{0,4}no\s{0,4}\)\s{0,4}\?", re.IGNORECASE)
_FRAME = Frame(("Question:", "Previous Steps:", "Now Step:", "Reply:", "Verification:", "Step #:"))
_NUMBERED = re.compile(r"\s*Step \d{1,9}\s?[:.]", re.IGNORECASE)


@dataclass(frozen=True)
class RPRM(JudgeTask):
    """One question a step: whether the Now Step is correct, given the steps before it. A step's score does not depend on later steps.

    The authors average p(Yes) / (p(Yes) + p(No)) over 10 answers at temperature 0.7 or below and, as here, append the closing question to an answer that lacks
    it. They read it at its first occurrence, this at the last that is answered. Steps are numbered "Step n:" as in their data unless they are already.
    """

    name: ClassVar[str] = "r-prm"

    def questions(self, trajectory: Trajectory) -> Sequence[Question]:
        """One a step."""
        question = _FRAME.escape(trajectory.problem.prompt)
        shown = [f"Step {number}: {_FRAME.escape(_unnumbered(plain(step)))}" for number, step in enumerate(trajectory.steps, 1)]
        return [
            Question(prompt=_PROMPT.format(question=question, previous="\n".join(shown[:index]) or _NO_PREVIOUS, now=now), slots=(index,), steps=(index,))
            for index, now in enumerate(shown)
        ]

    def read(self, question: Question, text: str) -> Reading:
        """The last answered "Is the step correct (Yes/No)?"."""
        mark = answer_mark(text, _QUESTION, "Yes", "No")
        return Reading({} if mark is None else {question.slots[0]: mark})

    def forcing(self, question: Question) -> Forcing:
        """The authors' closing question, for every answer without a verdict."""
        return Forcing(text=_FORCING, slots=question.slots, words=(" Yes", " No"), always=True)


def _unnumbered(text: str) -> str:
    """The step without the number that it may carry."""
    return _NUMBERED.sub("", text, count=1).strip() if _NUMBERED.match(text) else text
