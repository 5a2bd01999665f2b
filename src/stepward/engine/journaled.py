"""Journaled: policies, reward models, labelers and environments whose results are paid for once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from stepward.core.errors import FAILURES, CountMismatch, FormatError
from stepward.core.labels import StepLabels
from stepward.core.outcome import Outcome
from stepward.core.price import price_of_sample, price_of_score
from stepward.core.problem import Problem
from stepward.core.protocols import DEFAULT_SAMPLING, Environment, Granularity, Labeler, Policy, ResumingPolicy, RewardModel
from stepward.core.record import header
from stepward.core.sampling import Sampling, Until
from stepward.core.scores import ABSTAINED, Scale, StepScores
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, metered
from stepward.engine.entry import entry_key
from stepward.engine.recall import Draft, Keeper, recall


class JournaledPolicy:
    """A policy whose samples are kept, one record a draw, named by (fingerprint, prefix key, until, sampling, draw).

    Asking for n = 8 after n = 4 pays for 4. A record holds only what was written after the prefix. Steps taken up again (`resume`) are kept
    too. Other methods of the policy are not journaled: call them on `inner`.
    """

    def __init__(self, policy: Policy, journal: Keeper) -> None:
        self.inner: Policy = policy.inner if isinstance(policy, JournaledPolicy) and policy.journal is journal else policy
        self.journal: Keeper = journal

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n continuations of `prefix`; see `Policy.sample`."""
        request = [prefix.key, str(until), vars(sampling)]  # the fields of its record, read without copying
        keys = [entry_key("sample", self.fingerprint, [*request, draw + index]) for index in range(n)]

        async def alone(number: int) -> Draft:
            with metered() as ledger:
                [sample] = await self.inner.sample(prefix, 1, until=until, sampling=sampling, draw=number)
            return replace(_sample_draft(sample, prefix, self.fingerprint), usage=replace(ledger.usage, wall_s=0.0))

        async def compute(positions: Sequence[int]) -> list[Draft]:
            first = positions[0]
            run = [position for offset, position in enumerate(positions) if position == first + offset]  # neighbouring draws share a request
            if self._counts_flops:
                return await _known([alone(draw + position) for position in run])
            samples = await self.inner.sample(prefix, len(run), until=until, sampling=sampling, draw=draw + first)
            if len(samples) != len(run):
                raise CountMismatch(f"policy {self.fingerprint} returned {len(samples)} samples when asked for {len(run)}")
            return [_sample_draft(sample, prefix, self.fingerprint) for sample in samples]

        return [_continued(prefix, entry.payload) for entry in await recall(self.journal, "sample", keys, compute)]

    async def resume(self, prefix: Trajectory, broken: Step, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Trajectory:
        """The step that was broken off, whole; see `ResumingPolicy`. Where the policy inside cannot go on with it, its draw is asked for again, in full."""
        if not isinstance(self.inner, ResumingPolicy):
            return (await self.sample(prefix, 1, until=Until.STEP, sampling=sampling, draw=draw))[0]
        inner = self.inner

        async def compute(_: Sequence[int]) -> list[Draft]:
            return [_sample_draft(await inner.resume(prefix, broken, sampling=sampling, draw=draw), prefix, self.fingerprint)]

        request = [prefix.key, broken.key, vars(sampling), draw]
        return _continued(prefix, await _recall_one(self.journal, "resume", self.fingerprint, request, compute))

    @cached_property
    def _counts_flops(self) -> bool:
        """Such a policy runs here and merges requests itself, so each draw is a request of its own, and the journal knows what each of them cost: a budget that
        finds one of them there counts no part of what the others did. Prompts sent to a server once for many draws are split evenly."""
        try:
            return price_of_sample(self.inner, Trajectory(Problem("?"))).flops > 0
        except FAILURES:
            return False

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """That of the policy inside: a kept sample costs the same, though nothing is paid for it."""
        return price_of_sample(self.inner, prefix, n, until=until, sampling=sampling, draw=draw)


class JournaledRewardModel:
    """A reward model whose scores are kept. Scores with failed steps are not, so that a rerun tries them again; abstentions are."""

    def __init__(self, model: RewardModel, journal: Keeper) -> None:
        self.inner: RewardModel = model.inner if isinstance(model, JournaledRewardModel) and model.journal is journal else model
        self.journal: Keeper = journal

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def granularity(self) -> Granularity:
        return self.inner.granularity

    @property
    def scale(self) -> Scale:
        return self.inner.scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One score a step; see `RewardModel.score`."""

        async def compute(_: Sequence[int]) -> list[Draft]:
            scores = await self.inner.score(trajectory)
            return [Draft(payload=scores.to_record(), keep=scores.n_failed == 0)]

        return StepScores.from_record(await _recall_one(self.journal, "score", self.fingerprint, _as_written(trajectory), compute))

    def price(self, trajectory: Trajectory) -> Usage | None:
        """That of the model inside."""
        return price_of_score(self.inner, trajectory)


class JournaledLabeler:
    """A labeler whose labels are kept. Labels with failed steps are not, so that a rerun tries them again; abstentions are."""

    def __init__(self, labeler: Labeler, journal: Keeper) -> None:
        self.inner: Labeler = labeler.inner if isinstance(labeler, JournaledLabeler) and labeler.journal is journal else labeler
        self.journal: Keeper = journal

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step; see `Labeler.label`."""
        outcome = None if trajectory.outcome is None else trajectory.outcome.to_record()

        async def compute(_: Sequence[int]) -> list[Draft]:
            labels = await self.inner.label(trajectory)
            return [Draft(payload=labels.to_record(), keep=all(reason is None or reason.startswith(ABSTAINED) for reason in labels.reasons))]

        return StepLabels.from_record(await _recall_one(self.journal, "label", self.fingerprint, [*_as_written(trajectory), outcome], compute))


class JournaledEnvironment:
    """An environment whose grades are kept; unscored ones are not, so that a rerun tries them again.

    Observations are not journaled: a resumed episode asks for them again. As long as they are the same, its draws and scores are found and nothing is paid for;
    from the first one that differs on it is another episode, which pays for its own.
    """

    def __init__(self, environment: Environment, journal: Keeper) -> None:
        self.inner: Environment = environment.inner if isinstance(environment, JournaledEnvironment) and environment.journal is journal else environment
        self.journal: Keeper = journal

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def interactive(self) -> bool:
        return self.inner.interactive

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return await self.inner.observe(trajectory)

    def is_finished(self, trajectory: Trajectory) -> bool:
        return self.inner.is_finished(trajectory)

    def answer(self, trajectory: Trajectory) -> str | None:
        return self.inner.answer(trajectory)

    async def grade(self, trajectory: Trajectory) -> Outcome:
        """The outcome in [0, 1], or unscored with a reason; see `Environment.grade`."""

        async def compute(_: Sequence[int]) -> list[Draft]:
            outcome = await self.inner.grade(trajectory)
            return [Draft(payload=outcome.to_record(), keep=outcome.scored)]

        return Outcome.from_record(await _recall_one(self.journal, "grade", self.fingerprint, _as_written(trajectory), compute))


async def _known(drafts: Sequence[Coroutine[Any, Any, Draft]]) -> list[Draft]:
    """The drafts before the first one that failed. Raises: its error where it is the first of all."""
    made = await asyncio.gather(*drafts, return_exceptions=True)
    kept = list(takewhile(lambda draft: isinstance(draft, Draft), made))
    if not kept and isinstance(made[0], BaseException):
        raise made[0]
    return [draft for draft in kept if isinstance(draft, Draft)]


async def _recall_one(journal: Keeper, kind: str, fingerprint: str, request: list[Any], compute: Any) -> Mapping[str, Any]:
    (entry,) = await recall(journal, kind, [entry_key(kind, fingerprint, request)], compute)
    payload: Mapping[str, Any] = entry.payload
    return payload


def _as_written(trajectory: Trajectory) -> list[Any]:
    return [trajectory.key, trajectory.finished, trajectory.truncated]


_STEP_DEFAULTS: dict[str, Any] = Step("").to_record()


def _sample_draft(sample: Trajectory, prefix: Trajectory, fingerprint: str) -> Draft:
    start = len(prefix)
    if len(sample) < start or sample.keys[start] != prefix.key:
        raise CountMismatch(f"policy {fingerprint} returned a sample that does not start with the prefix that it was asked to continue")
    steps = sample.steps[start:]
    counts = [step.n_tokens for step in steps if step.n_tokens is not None]
    payload: dict[str, Any] = {
        "version": _STEP_DEFAULTS["version"],
        "steps": [{name: value for name, value in step.to_record().items() if value != _STEP_DEFAULTS[name] or name == "text"} for step in steps],
        "finished": sample.finished,
        "truncated": sample.truncated,
    }
    if sample.outcome is not None:
        payload["outcome"] = sample.outcome.to_record()
    return Draft(payload=payload, n_tokens=sum(counts) if len(counts) == len(steps) else None)


def _continued(prefix: Trajectory, payload: Mapping[str, Any]) -> Trajectory:
    if payload["version"] != _STEP_DEFAULTS["version"]:
        raise FormatError(f"sample record of schema version {payload['version']!r} is not readable here; upgrade stepward", field="version")
    added = tuple(Step.from_record({**_STEP_DEFAULTS, **header("step"), **step}) for step in payload["steps"])
    outcome = payload.get("outcome")
    return Trajectory(
        prefix.problem,
        (*prefix.steps, *added),
        finished=payload["finished"],
        truncated=payload["truncated"],
        outcome=None if outcome is None else Outcome.from_record(outcome),
    )
