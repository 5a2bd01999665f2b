"""stepward: process rewards for LLM reasoning and agents.

    import stepward

    model = stepward.load("tools:arithmetic")  # or prm:FOLDER, a step classifier that `stepward train` wrote
    scores = model.score("What is 48 / 2 + 3?", "48 / 2 = 24.\\n\\n24 + 3 = 28.\\n\\nThe answer is 28.")
    scores.values, scores.first_error()  # array([1., 0., nan]), 1

The nouns are in `stepward.core`; this module holds the synchronous face.
"""

from stepward.api import Scorer, label, load, sample, search
from stepward.core import Example, Outcome, Problem, Sampling, SearchResult, Step, StepLabels, StepScores, StepwardError, Trajectory, Tree, Usage

__version__ = "0.1.0"

__all__ = [
    "Example", "Outcome", "Problem", "Sampling", "Scorer", "SearchResult", "Step", "StepLabels", "StepScores", "StepwardError", "Trajectory", "Tree", "Usage",
    "label", "load", "sample", "search",
]  # fmt: skip
