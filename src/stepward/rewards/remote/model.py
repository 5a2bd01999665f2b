"""RemoteModel: what all remote reward models share, from a trajectory to the tokens that are sent and from a head's numbers to step scores.

How a server is asked and what its answers mean is in one file a protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stepward.core import CountMismatch, Granularity, InputError, Scale, StepScores, Trajectory, Usage, charge, content_hash
from stepward.core.scores import ABSTAINED
from stepward.rewards.checkpoint import frame_fingerprint
from stepward.rewards.combine.members import OUTCOME_ONLY
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded, Encoder
from stepward.rewards.remote.server import Server
from stepward.rewards.step_values import step_values

Floats = NDArray[np.float64]
NOT_A_NUMBER = "the server's value is not a finite number"
NOT_ASKED = f"{ABSTAINED}: an earlier step is wrong, and this model judges none after it"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a server said about the T steps that it was asked about, in order.

    `outputs` are logits as the head gives them (any constant added to a row changes nothing where the convention takes a softmax); NaN where `reasons`
    says why. `paid` is what the answers cost by the server's own count.
    """

    outputs: Floats  # [T, K]
    paid: Usage
    reasons: tuple[str | None, ...] = ()


class RemoteModel(ABC):
    """A reward model on a server: our own encoding of the trajectory goes there, the head's numbers come back, and the convention turns them into scores.

    Steps that fit neither the convention's context nor the server's (as it states it) are unscored, as with a local model; so is a step whose value is not
    a finite number. `usage` counts the tokens that were sent, `paid` what the server says it processed.
    """

    granularity: Granularity = "step"
    protocol: str  # what is asked of which kind of server: part of the fingerprint
    reserved = 0  # tokens of the server's context that a request needs for itself
    rereads = False  # each step's prefix is sent by itself, so the tokens before a step are sent again with every later one

    def __init__(self, server: Server, tokenizer: Any, convention: Convention) -> None:
        if convention.head == "log-ratio":
            raise InputError(f"convention {convention.name!r} compares two language models token by token, which no scoring server does; load it locally")
        self.server, self.tokenizer, self.convention = server, tokenizer, convention
        self._encoders: dict[int, Encoder] = {}

    @property
    def scale(self) -> Scale:
        return self.convention.scale

    @cached_property
    def fingerprint(self) -> str:
        """Names the protocol, the server's model by its name (by the address where none was given), the tokenizer and the convention."""
        return "remote:" + content_hash("remote", self.protocol, *self.server.identity, frame_fingerprint(self.tokenizer, self.convention))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this event loop's connections (the end of the event loop does it too)."""
        await self.server.close()

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One value a step, shape [S]; NaN with a reason where a step does not fit or its value is no number.

        Raises: ContextOverflow where the server takes less than it said; CountMismatch where it answers for another number of steps; RequestFailed.
        """
        encoder = await self._encoder()
        parts = [part for part in map(self._asked, encoder.sequences(trajectory)) if part.n_kept]
        if not parts:
            return self._scores(len(trajectory), [], None, encoder.max_tokens, Usage())
        answers = await self.ask(parts, key=trajectory.key)
        usage = self._cost(parts)
        charge(usage, paid=answers.paid)
        n_asked = sum(part.n_kept for part in parts)
        if len(answers.outputs) != n_asked:
            raise CountMismatch(f"{self.server.url} returned {len(answers.outputs)} values for {n_asked} steps")
        return self._scores(len(trajectory), parts, answers, encoder.max_tokens, usage)

    def price(self, trajectory: Trajectory) -> Usage:
        """The most that `score` charges: the tokens that the convention's context holds; a server with less is sent less. FLOPs are not counted."""
        encoder = self._encoder_for(self.convention.max_tokens)
        return self._cost([part for part in map(self._asked, encoder.sequences(trajectory)) if part.n_kept])

    def _cost(self, parts: Sequence[Encoded]) -> Usage:
        """The tokens that are sent."""
        sent = sum(int((part.read[part.kept] + 1).sum()) if self.rereads else len(part) for part in parts)
        return Usage(reward_tokens=sent, calls=1) if parts else Usage()

    @abstractmethod
    async def ask(self, parts: Sequence[Encoded], *, key: str) -> Answers:
        """What the server says about the kept steps of these sequences, at least one in each, in order. `key` names the request in the jitter of retries."""

    def _asked(self, part: Encoded) -> Encoded:
        """The sequence with those steps that are asked for: all, or the last one for an outcome."""
        if self.granularity == "step":
            return part
        last = np.arange(len(part.kept)) == len(part.kept) - 1
        return replace(part, kept=part.kept & last)

    async def _encoder(self) -> Encoder:
        limit = self.convention.max_tokens
        stated = (await self.server.facts()).max_tokens
        if stated is not None:
            limit = min(limit, max(1, stated - self.reserved))
        return self._encoder_for(limit)

    def _encoder_for(self, limit: int) -> Encoder:
        if limit not in self._encoders:
            self._encoders[limit] = Encoder(self.tokenizer, self.convention, max_tokens=limit)
        return self._encoders[limit]

    def _scores(self, n_steps: int, parts: Sequence[Encoded], answers: Answers | None, max_tokens: int, usage: Usage) -> StepScores:
        values = np.full(n_steps, np.nan)
        aspects = {aspect.name: np.full(n_steps, np.nan) for aspect in self.convention.aspects}
        reasons: list[str | None] = [f"does not fit the context of {max_tokens} tokens"] * n_steps
        if self.granularity == "outcome":
            reasons[: n_steps - 1] = [OUTCOME_ONLY] * (n_steps - 1)
        if answers is not None:
            steps = np.concatenate([np.flatnonzero(part.kept) for part in parts])
            if self.granularity == "step":  # a step that was left out before one that fits
                reasons[: steps.max()] = ["there is no token before the end of this step to read it at"] * int(steps.max())
            known = ~np.isnan(answers.outputs).any(axis=1) & (answers.outputs > -np.inf).any(axis=1)
            values[steps[known]], others = step_values(self.convention, answers.outputs[known])
            for name, column in others.items():
                aspects[name][steps[known]] = column
            for place, step in enumerate(steps):
                reasons[step] = (answers.reasons[place] if answers.reasons else None) or (None if np.isfinite(values[step]) else NOT_A_NUMBER)
        if self.convention.after_error == "stop" and (values < self.convention.threshold).any():
            first = int(np.argmax(values < self.convention.threshold))
            reasons[first + 1 :] = [NOT_ASKED] * (n_steps - first - 1)
        values[[reason is not None for reason in reasons]] = np.nan
        source = {"model": self.fingerprint, "protocol": self.protocol, "server": self.server.identity[0], "convention": self.convention.name}
        return StepScores(values, tuple(reasons), self.scale, self.convention.threshold, source=source, usage=usage, aspects=aspects)


def prefixes(parts: Sequence[Encoded]) -> list[list[int]]:
    """What a model has read when it judges each kept step: the ids up to and including the position that is read, shortest first within a sequence.

    A server that keeps a prefix cache so computes the tokens of each step once.
    """
    found: list[list[int]] = []
    for part in parts:
        ids: list[int] = part.ids.tolist()
        found += [ids[: end + 1] for end in part.read[part.kept].tolist()]
    return found
