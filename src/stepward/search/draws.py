"""Draw: one continuation that a search asks for. Drawing: asking for many of them within a purse. Trees are not known here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from stepward.core import FAILURES, CountMismatch, Environment, Policy, Sampling, Trajectory, Until, metered
from stepward.engine.noise import row_key
from stepward.environments.episode import settle
from stepward.search.purse import OutOfBudget, Price, Purse

SAMPLING_FAILED = "sampling failed"
OBSERVING_FAILED = "observing failed"
T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Draw:
    """Continuation number `number` of `prefix`, one step further or to the end."""

    prefix: Trajectory
    number: int
    until: Until
    sampling: Sampling
    policy: Policy

    def follows(self, other: Draw) -> bool:
        """Whether one request can ask for `other` and then this, both of one call of the workbench."""
        return self.number == other.number + 1 and self.sampling is other.sampling and self.prefix.key == other.prefix.key

    @property
    def longest(self) -> int:
        """The largest limit that `limited` takes."""
        sampling = self.sampling
        return min(sampling.max_step_tokens, sampling.max_tokens) if self.until is Until.STEP else sampling.max_tokens

    def limited(self, tokens: int) -> Draw:
        """The same draw, cut off sooner: after so many tokens of the step, or of the whole trajectory."""
        limit = {"max_step_tokens" if self.until is Until.STEP else "max_tokens": tokens}
        return replace(self, sampling=replace(self.sampling, **limit))

    def stepwise(self) -> Draw:
        """The first step of a whole solution in an environment that answers every step, with noise that depends on the prefix (`environments.episode`)."""
        own = replace(self.sampling, seed=row_key(self.sampling.seed, self.prefix.key, 0)[0] >> 34)
        return replace(self, until=Until.STEP, sampling=own)

    def after(self, trajectory: Trajectory) -> Draw:
        """The same draw from a later prefix."""
        return replace(self, prefix=trajectory)


class Drawing:
    """Asks policies for draws, within a purse. `lost`: reasons of requests that failed after what came before them in the same draw was kept."""

    def __init__(self, environment: Environment, purse: Purse) -> None:
        self.environment, self.purse = environment, purse
        self.lost: list[str] = []

    async def fill(self, draws: Sequence[Draw], grown: list[Trajectory | str | None]) -> None:
        """Fill in what comes of every draw, or the reason why nothing did; None stays where the budget ended."""
        solving = bool(draws) and draws[0].until is Until.END and self.environment.interactive
        price_of = self._price_of_solution if solving else partial(_price, self.purse)

        async def sample(run: Sequence[int], first: Draw) -> None:
            try:
                found: Sequence[Trajectory | str] = await self._sample(first, len(run), self.purse)
            except FAILURES as error:
                found = [f"{SAMPLING_FAILED}: {error}"] * len(run)
            for index, one in zip(run, found, strict=True):
                grown[index] = one

        def price(index: int) -> Price | None:
            try:
                return price_of(draws[index])
            except FAILURES as error:
                grown[index] = f"{SAMPLING_FAILED}: {error}"
                return None

        try:
            for wave, fits in self.purse.waves(len(draws), price):
                if solving:
                    prices = {index: price_of(draws[index]) for index in wave} if fits and self.purse.limits else {}
                    await all_of(self._solve(draws[index], prices.get(index), grown, index) for index in wave)
                elif fits:
                    await all_of(sample(run, draws[run[0]]) for run in _runs(draws, wave))
                else:
                    cut = _cut(self.purse, draws[wave[0]])
                    await sample(wave, cut)
                    _note_cut(self.purse, draws[wave[0]], cut, grown[wave[0]])
        except OutOfBudget:
            return

    async def _sample(self, draw: Draw, n: int, purse: Purse) -> list[Trajectory | str]:
        """n continuations with what the environment answers; the reason where that failed."""
        purse.count(n)
        drawn = await draw.policy.sample(draw.prefix, n, until=draw.until, sampling=draw.sampling, draw=draw.number)
        if len(drawn) != n:
            raise CountMismatch(f"policy {draw.policy.fingerprint} returned {len(drawn)} samples when asked for {n}")
        if draw.until is Until.END or not self.environment.interactive:
            return list(drawn)
        return await all_of(self._settled(trajectory) for trajectory in drawn)

    async def _settled(self, trajectory: Trajectory) -> Trajectory | str:
        try:
            return await settle(self.environment, trajectory)
        except FAILURES as error:
            return f"{OBSERVING_FAILED}: {error}"

    async def _solve(self, draw: Draw, price: Price | None, grown: list[Trajectory | str | None], index: int) -> None:
        """A whole solution in an environment that answers every step, for at most `price` (None: all that is left).

        After every step, what there is of it stands in `grown`, cut off, for whatever ends it: the budget, a failure, or a cancelled search.
        """
        with metered() as ledger:
            purse = self.purse.part(ledger, price)
            step, trajectory = draw.stepwise(), draw.prefix
            while not trajectory.ended and len(trajectory) < draw.sampling.max_steps:
                try:
                    whole = step.after(trajectory)
                    cut = _cut(purse, whole)
                    [found] = await self._sample(cut, 1, purse)
                    _note_cut(purse, whole, cut, found)
                except FAILURES as error:
                    found = f"{SAMPLING_FAILED}: {error}"
                except OutOfBudget:
                    if grown[index] is None:
                        raise
                    return
                if isinstance(found, str):
                    if grown[index] is None:
                        grown[index] = found
                    else:
                        self.lost.append(found)
                    return
                trajectory = found
                grown[index] = trajectory if trajectory.ended else replace(trajectory, truncated=True)
            if not trajectory.ended:
                grown[index] = replace(trajectory, truncated=True)

    def _price_of_solution(self, draw: Draw) -> Price:
        """Of all steps of a solution. Observations are not known before, and what they cost to read is not: no budget of FLOPs has room for two at once."""
        whole, step = _price(self.purse, draw), _price(self.purse, replace(draw, until=Until.STEP))
        return {
            **{name: whole[name] + step[name] for name in whole},
            "calls": max(1, draw.sampling.max_steps - len(draw.prefix)),
            "flops": sys.maxsize,
        }


async def all_of(requests: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them return. Whatever ends this early ends them too: nothing goes on in the background."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        if not all(task.done() for task in tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _runs(draws: Sequence[Draw], wave: Iterable[int]) -> list[list[int]]:
    """Neighbouring draws of one prefix, which share a request."""
    runs: list[list[int]] = []
    for index in wave:
        if runs and index == runs[-1][-1] + 1 and draws[index].follows(draws[index - 1]):
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _price(purse: Purse, draw: Draw) -> Price:
    return purse.of_draw(draw.policy, draw.prefix, until=draw.until, sampling=draw.sampling, draw=draw.number)


def _cut(purse: Purse, draw: Draw) -> Draw:
    """The draw, with as many tokens as the budget still allows. Raises: OutOfBudget when that is none."""
    if not purse.limits or purse.fitting([_price(purse, draw)]):
        return draw
    tokens = purse.most(lambda limit: _price(purse, draw.limited(limit)), draw.longest)
    if not tokens or not _price(purse, draw.limited(tokens))["policy_tokens"]:
        raise purse.out()
    return draw.limited(tokens)


def _note_cut(purse: Purse, asked: Draw, cut: Draw, found: Trajectory | str | None) -> None:
    """Remember that the budget, and nothing else, broke a draw off."""
    if cut is not asked and isinstance(found, Trajectory) and found.truncated:
        purse.fell_short()
