"""Probing: how many rollouts one prefix gets, and which prefixes are asked. What a label is made of is the methods' matter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stepward.core import NO_ERROR, Count, InputError, Trajectory
from stepward.labeling.completer import Rollout, RolloutBank

Stop = Callable[[Count, int], bool]
"""Whether drawing may end, given the count so far and the number of draws that are left."""
Judge = Callable[[Rollout], bool | None]
"""Whether a rollout counts as a success; None: as neither."""
Probe = Callable[[int], Awaitable[bool | None]]
"""Whether a solution can still be finished from after this step (0-based); None when nothing came back."""
Then = Literal["first_hit", "first_error", "bracket"]


def successes(wanted: int) -> Stop:
    """Inverse-binomial sampling: end with this many successes. One success settles the label "any rollout succeeds"."""
    return lambda count, _: count.successes >= wanted


def settled(bar: float, n: int) -> Stop:
    """The label "share of n rollouts > bar" cannot change any more, whatever the rollouts that are left bring; for bar 0 that is the first success."""

    def stop(count: Count, left: int) -> bool:
        surely_above = count.successes > bar * n
        never_above = count.rollouts > 0 and (count.successes + left) <= bar * (count.rollouts + left)
        return surely_above or never_above

    return stop


@dataclass(frozen=True)
class Drawn:
    """What was drawn from one prefix. `last`: graded rollouts of the last request. `reason`: why the drawing says nothing, None when it is complete."""

    rollouts: tuple[Rollout, ...]
    count: Count
    last: int
    reason: str | None

    @property
    def any(self) -> bool | None:
        """Whether one succeeded: the label of hard estimation at threshold 0, None when unknown."""
        return True if self.count.successes else None if self.reason is not None else False


async def draw(
    bank: RolloutBank, prefix: Trajectory, n: int, *, stop: Stop | None = None, batch: int | None = None, judge: Judge = lambda rollout: rollout.success
) -> Drawn:
    """Up to `n` rollouts from an open prefix, in requests of `batch` (all at once by default), until `stop` says that it is enough.

    The draws are the same, in the same order, whatever `batch` and `stop`: stopping only leaves the rest out. A rollout that cannot be graded uses up
    a draw and counts as neither. When a request fails, the drawing is incomplete and says so.

    Raises: InputError for n or batch below 1.
    """
    size = n if batch is None else batch
    if n < 1 or size < 1:
        raise InputError(f"n and batch must be at least 1, got n={n}, batch={batch}")
    made: list[Rollout] = []
    count, last, failed = Count(0, 0), 0, False
    while len(made) < n and not failed:
        got = await bank.draw(prefix, min(size, n - len(made)))
        verdicts = [judge(rollout) for rollout in got]
        graded = [verdict for verdict in verdicts if verdict is not None]
        made += got
        failed = not got
        last = len(graded) or last
        count = Count(count.successes + sum(graded), count.rollouts + len(graded), count.unscored + len(verdicts) - len(graded))
        if stop is not None and stop(count, n - len(made)):
            break
    return Drawn(tuple(made), count, last, bank.why_none(prefix) if failed or not count.rollouts else None)


async def draw_each(
    bank: RolloutBank,
    prefixes: Sequence[Trajectory],
    n: int,
    *,
    stop: Stop | None = None,
    batch: int | None = None,
    judge: Judge = lambda rollout: rollout.success,
) -> list[Drawn]:
    """`draw` at every prefix, at the same time."""
    return list(await asyncio.gather(*(draw(bank, prefix, n, stop=stop, batch=batch, judge=judge) for prefix in prefixes)))


@dataclass(frozen=True)
class Located:
    """Where a search put the first failing step: -1 for none, None when a probe came back empty. `verdicts`: what the probes said, in their order."""

    first: int | None
    verdicts: Mapping[int, bool | None]


async def forward(probe: Probe, n: int, *, end_fails: bool) -> Located:
    """Steps 0..n-1 in their order until one fails. `end_fails`: step n is known to fail (a wrong last step), so that the search finds it if no other."""
    verdicts: dict[int, bool | None] = {}
    for step in range(n):
        verdicts[step] = await probe(step)
        if not verdicts[step]:
            return Located(None if verdicts[step] is None else step, verdicts)
    return Located(n if end_fails else NO_ERROR, verdicts)


async def backward(probe: Probe, n: int, *, end_fails: bool) -> Located:
    """Steps n-1..0 until one succeeds, which speaks for all before it: the same cut as probing every step and propagating successes, for fewer probes."""
    verdicts: dict[int, bool | None] = {}
    first: int | None = n if end_fails else NO_ERROR
    for step in range(n - 1, -1, -1):
        verdicts[step] = await probe(step)
        if verdicts[step]:
            break
        first = step if verdicts[step] is False else None
    return Located(first, verdicts)


async def bisect(probe: Probe, n: int, *, end_fails: bool, first_probe: int | None = None) -> Located:
    """The first failing step by halving: at most ceil(log2(n + 1)) probes.

    Exact where verdicts are monotone (once failing, always failing); a false verdict sends it to the wrong side for good. `first_probe` moves the first
    probe away from the middle, which may cost more probes.
    """
    verdicts: dict[int, bool | None] = {}
    low, high = 0, n  # the answer lies in low..high; n stands for the end
    while low < high:
        middle = (low + high) // 2 if verdicts or first_probe is None else min(max(first_probe, low), high - 1)
        verdicts[middle] = await probe(middle)
        if verdicts[middle] is None:
            return Located(None, verdicts)
        low, high = (middle + 1, high) if verdicts[middle] else (low, middle)
    return Located(low if low < n or end_fails else NO_ERROR, verdicts)


async def ranked(probe: Probe, order: Sequence[int], n: int, *, end_fails: bool, then: Then = "first_hit") -> Located:
    """Probe in a given order of suspicion, until one fails.

    `then`, on a failing step: "first_hit" ends with it, though an earlier step may fail too; "first_error" goes on with those of `order` before
    it, so that no failing step of `order` comes before the answer; "bracket" also lets a success clear all earlier steps, as bisection does: exact
    where verdicts are monotone, and it probes least.
    """
    verdicts: dict[int, bool | None] = {}
    first, cleared, unknown = n, NO_ERROR, False
    for step in order:
        if not cleared < step < first:
            continue
        verdicts[step] = await probe(step)
        if verdicts[step] is False:
            first = step
            if then == "first_hit":
                return Located(first, verdicts)
        elif verdicts[step] and then == "bracket":
            cleared = step
    unknown = any(good is None and cleared < step < first for step, good in verdicts.items())
    return Located(None if unknown else first if first < n or end_fails else NO_ERROR, verdicts)
