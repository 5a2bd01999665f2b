"""The viewer's data: what the page's script shows of every solution, as JSON that cannot break out of its script element."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from stepward.core import ABSTAINED, StepLabels, StepScores
from stepward.evaluation.report.sections import ViewedSolution

_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def viewer_data(solutions: Sequence[ViewedSolution]) -> list[dict[str, Any]]:
    """One JSON object a solution. Unscored steps have score null, shade null and their reason; a first error is null where unknown."""
    return [_solution(solution) for solution in solutions]


def script_json(value: Any) -> str:
    """JSON that is safe inside a <script> element: no <, > or & survives, and everything beyond ASCII is escaped."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def shade(value: float, scores: StepScores) -> float:
    """Where a score lies between surely wrong (0) and surely right (1), with the model's threshold at 0.5.

    Probabilities are stretched linearly on either side of the threshold; other scales go through a sigmoid of the distance to it.
    """
    if scores.scale != "probability":
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, value - scores.threshold))))
    below = scores.threshold
    if value < below:
        return 0.5 * value / below
    return 1.0 if below >= 1.0 else 0.5 + 0.5 * (value - below) / (1.0 - below)


def _solution(solution: ViewedSolution) -> dict[str, Any]:
    trajectory, scores, truth = solution.trajectory, solution.scores, solution.truth
    outcome = trajectory.outcome
    predicted = None if scores is None else scores.first_error()
    true_first = None if truth is None else truth.first_error
    return {
        "id": trajectory.problem.id,
        "prompt": trajectory.problem.prompt,
        "reference": trajectory.problem.answer,
        "answer": None if outcome is None else outcome.answer,
        "correct": None if outcome is None else outcome.correct,
        "ungraded": None if outcome is None else outcome.reason,
        "ended": "finished" if trajectory.finished else "cut off by a limit" if trajectory.truncated else "open",
        "group": solution.group,
        "note": solution.note,
        "predicted": predicted,
        "true_first": true_first,
        "unscored": scores is not None and scores.n_unscored > 0,
        "disagree": predicted is not None and true_first is not None and predicted != true_first,
        "steps": [_step(index, step.text, step.observation, step.agent, scores, truth) for index, step in enumerate(trajectory.steps)],
    }


def _step(index: int, text: str, observation: str | None, agent: str, scores: StepScores | None, truth: StepLabels | None) -> dict[str, Any]:
    step: dict[str, Any] = {"text": text, "score": None, "shade": None, "reason": "no model was run", "below": False, "truth": None}
    if observation is not None:
        step["observation"] = observation
    if agent:
        step["agent"] = agent
    if scores is not None:
        value, reason = float(scores.values[index]), scores.reasons[index]
        if reason is None:
            step |= {"score": value, "shade": round(shade(value, scores), 4), "reason": None, "below": value < scores.threshold}
        else:
            step |= {"reason": reason, "abstained": reason.startswith(ABSTAINED)}
        if scores.rationales[index]:
            step["rationale"] = scores.rationales[index]
    if truth is not None:
        good = truth.hard[index]
        step["truth"] = good
        if truth.error_types[index]:
            step["error_type"] = truth.error_types[index]
        if truth.semantics == "value" and not math.isnan(truth.values[index]):
            step["value"] = float(truth.values[index])
    return step
