"""Grading of mathematical answers in worker processes that can be killed."""

from stepward.environments.grader.answer_grader import AnswerGrader

__all__ = ["AnswerGrader"]
