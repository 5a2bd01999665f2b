"""Confidence: how sure a policy is of the text, as a reward. No training and no labels; being sure is not being right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from stepward.core import (
    ABSTAINED,
    FAILURES,
    CountMismatch,
    Floats,
    Granularity,
    InputError,
    LogprobPolicy,
    Policy,
    Scale,
    Step,
    StepScores,
    Trajectory,
    content_hash,
)
from stepward.core.usage import metered_as_reward
from stepward.rewards.combine.answer_place import answer_place
from stepward.rewards.combine.members import OUTCOME_ONLY

Of = Literal["mean", "min", "geometric", "entropy"]
NO_TOKENS = f"{ABSTAINED}: the step has no tokens"
NO_ANSWER = f"{ABSTAINED}: the solution states no final answer"


@runtime_checkable
class EntropyPolicy(Protocol):
    """A policy that tells the entropy (nats) of its distribution at every token of the steps, one tuple a step, separators included."""

    async def entropies(self, trajectory: Trajectory) -> tuple[tuple[float, ...], ...]: ...


class StepConfidence:
    """score_t from the probabilities p_i that the policy gives the tokens of step t, its separator included.

    mean: the mean of p_i. min: the smallest. geometric: exp(mean log p_i), the inverse perplexity. entropy: exp(-mean H_i), H_i the entropy (nats) of the
    policy's distribution at token i, whatever token was written; it needs a local model, or a policy with `entropies`. All lie in [0, 1]; none is the
    probability that the step is right, so calibrate before comparing with a threshold. A step without tokens is abstained from.

    Raises: InputError for an unknown kind, or a policy that cannot tell what the kind needs.
    """

    granularity: Granularity = "step"
    scale: Scale = "probability"

    def __init__(self, policy: LogprobPolicy, *, of: Of = "mean") -> None:
        if of not in get_args(Of):
            raise InputError(f"confidence must be of one of {', '.join(get_args(Of))}, got {of!r}")
        self.policy, self.of = check_logprobs(policy), of
        self._entropies = check_entropies(policy) if of == "entropy" else None

    @property
    def fingerprint(self) -> str:
        return f"confidence-{self.of}:{content_hash(self.policy.fingerprint)}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S]; unscored with the reason when the policy fails."""
        source = {"model": self.fingerprint, "policy": self.policy.fingerprint}
        with metered_as_reward() as ledger:
            try:
                if self._entropies is not None:
                    tokens = await self._entropies.entropies(trajectory)
                else:
                    tokens = (await self.policy.logprobs(trajectory)).steps
            except FAILURES as error:
                return StepScores.unscored(len(trajectory), f"reading probabilities failed: {error}", source=source, usage=ledger.usage.as_reward())
        if len(tokens) != len(trajectory):
            raise CountMismatch(f"{len(trajectory)} steps but {self.policy.fingerprint} told the tokens of {len(tokens)}")
        values = np.array([self._value(np.array(step)) if step else math.nan for step in tokens], dtype=np.float64)
        reasons = tuple(None if step else NO_TOKENS for step in tokens)
        return StepScores(values, reasons, self.scale, source=source, usage=ledger.usage.as_reward())

    def _value(self, numbers: Floats) -> float:
        """Of log-probabilities, or of entropies for "entropy"."""
        if self.of == "entropy":
            return float(np.clip(np.exp(-numbers.mean()), 0.0, 1.0))
        if self.of == "geometric":
            return float(np.clip(np.exp(numbers.mean()), 0.0, 1.0))
        probs = np.clip(np.exp(numbers), 0.0, 1.0)
        return float(probs.mean() if self.of == "mean" else probs.min())


class AnswerConfidence:
    r"""The mean probability of the final answer's tokens given everything before them, at the last step; a reward for the whole solution.

    Solutions of other policies are read by teacher forcing. The answer (`\boxed{x}`, "The answer is x", ...; see `environments.answers`) is tokenised by
    itself, the text up to it by itself, so that its tokens are known whatever the policy. Differs from the paper: a solution that states no answer is
    abstained from where the paper gives 0. Edges: long answers dilute a doubt; a policy can be sure of a wrong answer.

    Reference: Confidence as a Reward: Transforming LLMs into Reward Models (CRew, 2025).
    """

    granularity: Granularity = "outcome"
    scale: Scale = "probability"

    def __init__(self, policy: LogprobPolicy) -> None:
        self.policy = check_logprobs(policy)

    @property
    def fingerprint(self) -> str:
        return f"confidence-answer:{content_hash(self.policy.fingerprint)}"

    async def score(self, trajectory: Trajectory) -> StepScores:
        """[S]: the confidence at the last step; the other steps are abstained from."""
        source = {"model": self.fingerprint, "policy": self.policy.fingerprint}
        place = answer_place(trajectory)
        if place is None:
            return outcome_scores(len(trajectory), math.nan, NO_ANSWER, source=source)
        with metered_as_reward() as ledger:
            try:
                tokens = (await self.policy.logprobs(up_to_answer(trajectory, *place))).steps[-1]
            except FAILURES as error:
                reason = f"reading probabilities failed: {error}"
                return replace(outcome_scores(len(trajectory), math.nan, reason, source=source), usage=ledger.usage.as_reward())
        value = float(np.clip(np.exp(np.array(tokens)).mean(), 0.0, 1.0)) if tokens else math.nan
        return replace(outcome_scores(len(trajectory), value, None if tokens else NO_ANSWER, source=source), usage=ledger.usage.as_reward())


def up_to_answer(trajectory: Trajectory, step: int, start: int, end: int) -> Trajectory:
    """The trajectory up to and including its answer, the answer as a step of its own; open, as if the policy were still writing."""
    text = trajectory.steps[step].text
    before = (replace(trajectory.steps[step], text=text[:start], separator="", observation=None),) if start else ()
    return Trajectory(trajectory.problem, (*trajectory.steps[:step], *before, Step(text[start:end])))


def outcome_scores(n_steps: int, value: float, reason: str | None, *, scale: Scale = "probability", source: dict[str, str]) -> StepScores:
    """Scores of an outcome: the value, or the reason why there is none, at the last step."""
    values = np.full(n_steps, math.nan)
    values[n_steps - 1 :] = value
    reasons = (*[OUTCOME_ONLY] * (n_steps - 1), *[reason] * min(n_steps, 1))
    return StepScores(values, reasons, scale, source=source)


def check_logprobs(policy: LogprobPolicy) -> LogprobPolicy:
    """The policy. Raises: InputError when it has no log-probabilities."""
    if not isinstance(policy, LogprobPolicy):
        name = getattr(policy, "fingerprint", type(policy).__name__)
        raise InputError(f"policy {name!r} cannot tell the probability of given text (it has no logprobs); use a local model, hf:FOLDER_OR_ID or tiny")
    return policy


def check_entropies(policy: Policy) -> EntropyPolicy:
    """The policy. Raises: InputError when it has no entropies: the probability of the tokens written does not tell them."""
    if not isinstance(policy, EntropyPolicy):
        raise InputError(f"policy {policy.fingerprint!r} does not tell entropies; use a local model (hf:FOLDER_OR_ID, tiny), or confidence of 'mean'")
    return policy
