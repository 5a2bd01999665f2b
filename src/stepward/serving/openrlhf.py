"""What OpenRLHF's remote reward models take and answer, /get_reward, over any reward model of ours. Scoring and status codes live elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stepward.core import Problem, StepScores, Trajectory
from stepward.data.segment import segment
from stepward.serving.frames import find_frame, problem_of, without_end_marks
from stepward.serving.limits import AtMost
from stepward.serving.refusal import Refusal
from stepward.serving.settings import ServeSettings

NO_PROMPT = "the query does not begin with its prompt, so its solution cannot be told from its problem"
NO_STEPS = "the response is empty: there is no step to score"
_LONGEST_BOS = 32  # characters of a mark that the tokenizer decodes before the prompt


class RewardRequest(BaseModel):
    """`query`: prompt and response as the policy's tokenizer decoded them; `prompts`: the prompts alone, as many.

    `labels` are passed over: a reward model knows no answers.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    query: Annotated[list[str], AtMost("max_items")]
    prompts: Annotated[list[str], AtMost("max_items")]


class RewardAnswer(BaseModel):
    """As OpenRLHF reads it, and `reasons`."""

    rewards: list[float | None] = Field(description="the aggregate of the steps' scores; null where `reasons` says why, or the server's --unscored-reward")
    scores: list[float | None] = Field(description="the same")
    extra_logs: dict[str, list[float]] = Field(description="numbers for the training log: steps, unscored steps, and 1 where the reward is unknown")
    reasons: list[str | None]


def solutions(request: RewardRequest, settings: ServeSettings) -> list[Trajectory | None]:
    """A trajectory for every query: the response, segmented; None where it cannot be told from its prompt.

    Raises: Refusal 422 for another number of prompts than queries, and for too many steps.
    """
    if len(request.prompts) != len(request.query):
        raise Refusal(422, f"prompts: {len(request.prompts)} prompts for {len(request.query)} queries; send one for each", field="prompts")
    found = []
    for index, (query, prompt) in enumerate(zip(request.query, request.prompts, strict=True)):
        start = query.find(prompt, 0, len(prompt) + _LONGEST_BOS)
        response = None if start < 0 else without_end_marks(query[start + len(prompt) :])
        problem = problem_of(prompt, find_frame(prompt, settings.prompt_frame))
        trajectory = None if response is None else Trajectory(Problem(problem), segment(response), finished=True)
        if trajectory is not None and len(trajectory) > settings.max_steps:
            field = f"query.{index}"
            raise Refusal(422, f"{field}: {len(trajectory)} steps are more than this server's max_steps of {settings.max_steps}", field=field)
        found.append(trajectory)
    return found


def rewarded(scores: Sequence[StepScores | None], settings: ServeSettings) -> dict[str, Any]:
    """A `RewardAnswer` as JSON-like data; None among the scores: the query could not be read."""
    rewards, reasons = [], []
    for given in scores:
        value = math.nan if given is None else given.overall(settings.aggregation)
        known = not math.isnan(value)
        rewards.append(value if known else settings.unscored_reward)
        reasons.append(None if known else _why(given))
    logs = {
        "n_steps": [float(len(given)) if given is not None else 0.0 for given in scores],
        "n_unscored_steps": [float(given.n_unscored) if given is not None else 0.0 for given in scores],
        "unscored": [0.0 if reason is None else 1.0 for reason in reasons],
    }
    return {"rewards": rewards, "scores": rewards, "extra_logs": logs, "reasons": reasons}


def _why(scores: StepScores | None) -> str:
    """The first failure, or else the first abstention."""
    if scores is None:
        return NO_PROMPT
    given = [reason for reason in scores.reasons if reason]
    return next((reason for reason in given if not reason.startswith("abstained")), given[0] if given else NO_STEPS)
