"""PathFinderModel: PathFinder-PRM, which types a step's errors before it judges the step. Rendering, heads and loading are those of the one-pass models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from stepward.core import CountMismatch, InputError, StepScores, Trajectory, Usage
from stepward.engine.reader.query import Reading
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.encoding import Encoded, Encoder
from stepward.rewards.families.family import ReadBy, lacking
from stepward.rewards.heads import StepHead
from stepward.rewards.layout import Item, Mark, Piece, filled, stripped
from stepward.rewards.step_values import silence_after_error, step_values
from stepward.rewards.text_ids import TextIds

_BETWEEN = "\n\n"
_CURRENT, _MATH, _CONSISTENCY, _CORRECTNESS = "Current Step: ", " Math reasoning: ", ", Consistency: ", ", Correctness: "


class PathFinderModel(DiscriminativeModel):
    """Two passes a step, as in "Error Typing for Smarter Rewards" (2025), each a branch of the conversation so far:

    1. `previous steps Current Step: step Math reasoning: <extra>, Consistency: <extra>`: P(<+>) against P(<->) at the token before each <extra>.
    2. Where both are <+>, they take the places of <extra> and `, Correctness: <extra>` follows: P(<+>) there is the step's score.

    A step with an error of a type has the score that was read for it: the smaller of its two P(<+>), which is below one half. (The authors' search code has
    -1 there, and their ProcessBench script asks for the first pass alone: a step is wrong where one of its tokens is <->.) `aspects` hold P(<+>) of both
    types, "math" and "consistency"; `rationales` name the error: math, consistency, both, or optimality where only the second pass says <->.

    The second pass counts only where both types are <+>, so its text is known beforehand and both passes go through the reader in one call: the conversation
    and the steps before are computed once for all branches. An observation stands behind its step as a paragraph.
    """

    read_by: ClassVar[ReadBy] = "pathfinder"

    def __init__(
        self,
        body: Any,
        head: StepHead,
        tokenizer: Any,
        convention: Convention,
        *,
        fingerprint: str,
        max_batch_tokens: int = 8192,
        cache_bytes: int = 1 << 28,
    ) -> None:
        super().__init__(body, head, tokenizer, convention, fingerprint=fingerprint, max_batch_tokens=max_batch_tokens, cache_bytes=cache_bytes)
        self.encoder = PathFinderEncoder(tokenizer, convention, max_tokens=self.encoder.max_tokens)

    def _scores(
        self,
        trajectory: Trajectory,
        sequences: Sequence[Encoded],  # noqa: ARG002
        readings: Sequence[Reading],
        usage: Usage,
    ) -> StepScores:
        outputs = np.full((3, len(trajectory), 2), np.nan)  # math, consistency, correctness
        for index, (typed, judged) in enumerate(zip(readings[::2], readings[1::2], strict=True)):
            if len(typed.values) != 2 or len(judged.values) != 1:
                raise CountMismatch(f"the model returned {len(typed.values)} and {len(judged.values)} verdicts on a step, not 2 and 1")
            outputs[:2, index], outputs[2, index] = typed.values, judged.values[0]
        math, consistency, correctness = (step_values(self.convention, rows)[0] for rows in outputs)
        worse = np.minimum(math, consistency)
        values = np.where(worse >= 0.5, correctness, worse)
        overflow = f"does not fit the context of {self.encoder.max_tokens} tokens"
        unscored = ["the model's output is not a number" if 2 * index < len(readings) else overflow for index in range(len(trajectory))]
        reasons = [None if np.isfinite(value) else reason for value, reason in zip(values, unscored, strict=True)]
        silence_after_error(self.convention, values, reasons)
        return StepScores(
            values,
            tuple(reasons),
            self.scale,
            self.convention.threshold,
            rationales=tuple(map(_rationale, math, consistency, correctness)),
            source={"model": self.fingerprint, "convention": self.convention.name},
            usage=usage,
            aspects={"math": math, "consistency": consistency},
        )


class PathFinderEncoder(Encoder):
    """Two sequences for every step that fits: one that ends before the second <extra> of the first pass and is read before both, one for the second pass."""

    def __init__(self, tokenizer: Any, convention: Convention, *, max_tokens: int | None = None) -> None:
        fits = convention.template == "chat" and convention.read == "before-marker" and len(convention.tokens) == 2 and "{solution}" not in convention.prompt
        if not fits or convention.scale != "probability":
            raise InputError(
                f"convention {convention.name!r} is not PathFinder-PRM's: it needs a chat template with the steps in the assistant's turn, "
                "read='before-marker' and the softmax of two tokens"
            )
        absent = lacking(tokenizer, (*convention.tokens, convention.marker))
        if absent:
            raise InputError(f"the tokenizer is not PathFinder-PRM's: it has no {', '.join(map(repr, absent))}")
        super().__init__(TextIds(tokenizer, capacity=1024), convention, max_tokens=max_tokens)  # few texts come again: each holds all steps before it

    def sequences(self, trajectory: Trajectory) -> list[Encoded]:
        """For each step the first pass, with two positions to be read, and the second, with one; steps from the first that does not fit on are left out."""
        marker, good = Piece(self.convention.marker, True), Piece(self.convention.tokens[self.convention.good_classes[0]], True)
        plans = []
        for branch in self._branches(trajectory):
            typed = [*branch, Mark("read", 0), marker, Piece(_CONSISTENCY, True), Mark("read", 1), marker]
            judged = [*branch, good, Piece(_CONSISTENCY, True), good, Piece(_CORRECTNESS, True), Mark("read", 0), marker]
            plans += [(self._sequence(typed), 2), (self._sequence(judged), 1)]
        encoded = self._encoded(plans)
        n_fit = next((index for index in range(len(trajectory)) if not encoded[2 * index + 1].n_kept), len(trajectory))
        return encoded[: 2 * n_fit]

    def _branches(self, trajectory: Trajectory) -> list[list[Item]]:
        """All up to the first verdict, for each step."""
        assert self._chat is not None
        message = filled(self.convention.prompt, problem=self._steps.problem(trajectory))
        before: list[Item] = []
        branches = []
        for index, step in enumerate(trajectory.steps):
            written = [item for item in self._steps.step(index, step) if isinstance(item, Piece)]
            answer = [*before, Piece(_CURRENT, True), *written, Piece(_MATH, True)]
            if self._chat.strips_assistant:
                answer = stripped(answer, right=False)
            user = stripped(message) if self._chat.strips_user else message
            branches.append([Piece(self._chat.head, True), *user, Piece(self._chat.tail, True), *answer])
            before += [*written, Piece(_BETWEEN, True)]
            if step.observation is not None:
                before += [Piece(step.observation, False), Piece(_BETWEEN, True)]
        return branches


def _rationale(math: float, consistency: float, correctness: float) -> str | None:
    """What is wrong with a step, in the paper's words."""
    wrong = [name for name, value in (("math", math), ("consistency", consistency)) if value < 0.5]
    if wrong:
        return f"{' and '.join(wrong)} error"
    return "optimality error" if correctness < 0.5 and not np.isnan([math, consistency]).any() else None
