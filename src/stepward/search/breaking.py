"""Breaking steps off, and finishing some of them: two policies made of one, for the workbench to ask. What is kept in between is a strategy's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepward.core import DEFAULT_SAMPLING, Environment, InputError, Outcome, Policy, ResumingPolicy, Sampling, Step, Trajectory, Until, Usage, price_of_sample

Written = tuple[str, str, str]  # key of the prefix, text and separator of the step behind it


class Breaking:
    """A policy whose steps are broken off after `tokens` tokens. What was cut is marked truncated; `draw_of` knows which draw it was.

    A step counts as broken off when it was cut after `tokens` tokens and not where the sampling's own limits end it.
    """

    def __init__(self, policy: Policy, tokens: int) -> None:
        self.inner, self.tokens = policy, tokens
        self._draws: dict[Written, list[int]] = {}

    @property
    def fingerprint(self) -> str:
        """The inner policy's: a broken step is the beginning of one of its draws, and is numbered among them."""
        return self.inner.fingerprint

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        made = await self.inner.sample(prefix, n, until=_step(until), sampling=self._limited(sampling), draw=draw)
        for index, trajectory in enumerate(made):
            if self._cut_here(prefix, trajectory, sampling):
                self._draws.setdefault(_written(trajectory), []).append(draw + index)
        return made

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """That of steps of at most `tokens` tokens."""
        return price_of_sample(self.inner, prefix, n, until=_step(until), sampling=self._limited(sampling), draw=draw)

    def broke_off(self, trajectory: Trajectory) -> bool:
        """Whether the last step was cut off here."""
        return trajectory.truncated and bool(trajectory.steps) and _written(trajectory) in self._draws

    def draw_of(self, trajectory: Trajectory) -> int:
        """The draw that the broken last step is the beginning of; of several with this text, each is named once, the first one first."""
        draws = self._draws[_written(trajectory)]
        draws.sort()
        return draws.pop(0)

    def _limited(self, sampling: Sampling) -> Sampling:
        return replace(sampling, max_step_tokens=min(self.tokens, sampling.max_step_tokens))

    def _cut_here(self, prefix: Trajectory, made: Trajectory, sampling: Sampling) -> bool:
        if not made.truncated or len(made) == len(prefix) or made.steps[-1].separator or sampling.max_step_tokens <= self.tokens:
            return False
        n_tokens = made.steps[-1].n_tokens
        before = sum(step.n_tokens or 0 for step in prefix.steps)
        return n_tokens is None or (n_tokens >= self.tokens and before + n_tokens < sampling.max_tokens)


class Finishing:
    """A policy that finishes given broken steps: draw i of a prefix finishes the i-th of those that follow it.

    A policy that can take up a step (`ResumingPolicy`) writes and is paid for the rest alone. Of any other the same draw is asked for again with the full
    limit: equal noise gives an equal text, which is then paid for again from its first token.
    """

    def __init__(self, policy: Policy, broken: Sequence[tuple[Trajectory, int]], name: str) -> None:
        self.inner, self._name = policy, name
        self._broken: dict[str, list[tuple[int, Step, int]]] = {}
        self._finished: dict[Written, list[int]] = {}
        for place, (trajectory, draw) in enumerate(broken):
            self._broken.setdefault(trajectory.keys[-2], []).append((place, trajectory.steps[-1], draw))

    @property
    def fingerprint(self) -> str:
        return f"{self.inner.fingerprint} {self._name}"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        made = []
        for place, step, number in self._asked(prefix, n, draw):
            if isinstance(self.inner, ResumingPolicy):
                whole = await self.inner.resume(prefix, step, sampling=sampling, draw=number)
            else:
                [whole] = await self.inner.sample(prefix, 1, until=_step(until), sampling=sampling, draw=number)
            made.append(whole)
            self._finished.setdefault(_written(whole), []).append(place)
        return made

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """That of the rest of the steps, or of whole steps where a draw has to be asked for again."""
        total = Usage()
        for _, step, number in self._asked(prefix, n, draw):
            price = price_of_sample(self.inner, prefix, 1, until=_step(until), sampling=sampling, draw=number)
            if resumes(self.inner):
                price = replace(price, policy_tokens=max(0, price.policy_tokens - (step.n_tokens or 0)))
            total += price
        return total

    def place_of(self, trajectory: Trajectory) -> int:
        """Which of the broken steps became this; of several that became the same, each is named once, the first one first."""
        places = self._finished[_written(trajectory)]
        places.sort()
        return places.pop(0)

    def _asked(self, prefix: Trajectory, n: int, draw: int) -> list[tuple[int, Step, int]]:
        return self._broken[prefix.key][draw : draw + n]


class Patient:
    """An environment that does not answer a step before it is whole."""

    def __init__(self, environment: Environment, breaking: Breaking) -> None:
        self.inner, self._breaking = environment, breaking

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def interactive(self) -> bool:
        return self.inner.interactive

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory if self._breaking.broke_off(trajectory) else await self.inner.observe(trajectory)

    def is_finished(self, trajectory: Trajectory) -> bool:
        return self.inner.is_finished(trajectory)

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return await self.inner.grade(trajectory)

    def answer(self, trajectory: Trajectory) -> str | None:
        return self.inner.answer(trajectory)


def resumes(policy: Policy) -> bool:
    """Whether a broken step costs no more than its rest: the policy, or the one in a journal's wrapper, can take it up."""
    return isinstance(getattr(policy, "inner", policy), ResumingPolicy)


def _step(until: Until) -> Until:
    if until is not Until.STEP:
        raise InputError("steps are broken off and finished one at a time (Until.STEP)")
    return until


def _written(trajectory: Trajectory) -> Written:
    last = trajectory.steps[-1]
    return trajectory.keys[-2], last.text, last.separator
