"""Prompts of searches: how a policy is asked to criticise, rewrite or merge solutions. Text only; who asks is in feedback.py and revise.py."""

from __future__ import annotations

import string
from collections.abc import Sequence

from stepward.core import InputError, StepScores, Trajectory
from stepward.rewards.generative.frame import Frame

_FRAME = Frame(("Step #:", "Solution #:", "[BAD STEP]"))
MARKER = "[BAD STEP]"

# MAgICoRe: Multi-Agent, Iterative, Coarse-to-Fine Refinement for Reasoning (2024), the authors' repository, prompt.py, without its worked example
REVIEW = (
    "Your task is to provide step-by-step feedback to the current solution.\n"
    "You will be given a math problem and a current solution, along with the scores for each step based on its correctness.\n"
    "- You will find (Score: n/10) at the end of each step.\n"
    "- The maximum (best) score is 10, which means that this step is 100% correct (and 0% incorrect).\n"
    "- The minimum (worst) score is 0, which means that this step is 100% incorrect (and 0% correct).\n"
    "- Pay attention to the steps having scores lower than {limit}, and carefully identify the errors in those steps.\n"
    "- Provide your explanation of the error and how it can be fixed. DO NOT propose a new solution, just the explanation.\n\n"
    "### Question:\n{question}\n\n### Current Solution:\n{draft}\n\n"
    "Let's review the steps with lower scores and identify the errors."
)
REFINE = (
    "Your task is to fix the error in the given solution, based on the teacher's feedback.\n"
    "- After reviewing the solution and feedback, provide a better solution to fix the mistakes you found.\n\n"
    "### Question:\n{question}\n\n### Current Solution:\n{draft}\n\n### Teacher Feedback:\n{critique}\n\n"
    "After reviewing the solution and feedback, let's solve this math problem again."
)
# written for this project: GLoRe's refiners are trained models without a prompt of this kind
CONTINUE = (
    "{question}\n\nThe following attempt contains an error. The first step that may be wrong follows the mark [BAD STEP]. The steps before it are kept: write "
    "the solution from there on, anew.\n\n{draft}\n\n{critique}"
)
# the frame of the prompts of Closed-Loop Long-Horizon Robotic Planning via Equilibrium Sequence Modeling (2024): task, feedback so far, draft
EQUILIBRIUM = (
    "{question}\n\nFeedback on earlier attempts:\n{critique}\n\nDraft:\n{draft}\n\nWrite the improved solution; repeat the draft if nothing needs to change."
)
OUTLINE = "{question}\n\nOutline so far:\n{draft}\n\nWrite a short outline of the solution: the main steps, without details and without the answer."
EDIT_OUTLINE = "{question}\n\nOutline of a solution:\n{draft}\n\nPropose one improvement of the outline, and write the whole improved outline."
MERGE_OUTLINES = "{question}\n\nOutline of a solution:\n{draft}\n\nOther outlines:\n{others}\n\nWrite one outline that joins their strengths."
FILL_IN = "{question}\n\nFollow this outline:\n{draft}\n\nWrite the whole solution."
EDIT = "{question}\n\nSolution:\n{draft}\n\nPropose one improvement of the solution, and write the whole improved solution."
MERGE = "{question}\n\nSolution:\n{draft}\n\nOther solutions:\n{others}\n\nWrite one solution that joins their strengths."

_PLACES = ("question", "draft", "critique", "others")


def numbered(draft: Trajectory, *, scores: StepScores | None = None, suspect: int | None = None) -> str:
    """The draft step by step, "Step 1: ...", with scores out of 10 where known (probabilities only) and a mark before the suspected step; "None" for no step.

    What belongs to the frame of a prompt is escaped in the steps' text.
    """
    lines = []
    for index, step in enumerate(draft.steps):
        value = float("nan") if scores is None or scores.scale != "probability" else float(scores.values[index])
        shown = "" if value != value else f" (Score: {round(10 * value)}/10)"
        mark = f"{MARKER}\n" if index == suspect else ""
        lines.append(f"{mark}Step {index + 1}: {_FRAME.step(step).strip()}{shown}")
    return "\n".join(lines) or "None"


def listed(solutions: Sequence[Trajectory]) -> str:
    """Several solutions under numbers."""
    return "\n\n".join(f"Solution {number}:\n{numbered(solution)}" for number, solution in enumerate(solutions, 1)) or "None"


def check_template(name: str, template: str, *, needs: Sequence[str], places: Sequence[str] = _PLACES) -> None:
    """Raises: InputError for a template without a needed place, with an unknown one, or that is no format string."""
    try:
        used = {place for _, place, _, _ in string.Formatter().parse(template) if place is not None}
    except ValueError as error:
        raise InputError(f"{name} is no format string ({error}); write {{{{ and }}}} for braces") from None
    unknown, missing = sorted(used - set(places)), [place for place in needs if place not in used]
    if unknown or missing:
        wrong = f"has an unknown place {{{unknown[0]}}}" if unknown else f"lacks the place {{{missing[0]}}}"
        raise InputError(f"{name} {wrong}; places are {', '.join(places)}, and {{{{ and }}}} stand for braces")
