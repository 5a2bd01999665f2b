"""Locate: the first prefix that can no longer be finished right, by halving, with a second look at the answer. What a probe is and costs is the caller's."""

from __future__ import annotations

from dataclasses import dataclass

from stepward.labeling.probing import Probe, bisect


@dataclass(frozen=True)
class Bracket:
    """`low`: the last place known to be good, `high`: the first known to be bad; neighbours when the search came to its end.

    `probed`: the places that were probed, in order. `failed`: a probe could not answer, so the places between stay undecided.
    """

    low: int
    high: int
    probed: tuple[int, ...] = ()
    failed: bool = False


async def locate(probe: Probe, low: int, high: int, *, confirm: Probe | None = None) -> Bracket:
    """Halve between a good place `low` and a bad place `high` until they are neighbours: at most ceil(log2(high - low)) probes.

    Probes are taken to be monotone: True up to the first error, False from it on. Each that wrongly answers False moves the answer left for good, so
    with independent probes that are right with chance p_t left of the error and always right from it on, the answer is right with chance
    prod p_t over the probed t left of the error. `confirm`, when given, looks at the answer once more, harder: where it finds the place good after all,
    the search goes on between there and the next place that was found bad. The answer is then too far left only if a confirmation is wrong.
    """
    bad, probed = [high], []
    while True:
        base = low + 1
        found = await bisect(lambda step, base=base: probe(base + step), high - base, end_fails=True)  # type: ignore[misc]
        probed += [base + step for step in found.verdicts]
        bad += [base + step for step, good in found.verdicts.items() if good is False]
        low = max([low, *(base + step for step, good in found.verdicts.items() if good)])
        high = min(place for place in bad if place > low)
        if found.first is None:
            return Bracket(low, high, tuple(probed), failed=True)
        if confirm is None or high == bad[0] or not await confirm(high):
            return Bracket(low, high, tuple(probed))
        low, high = high, min(place for place in bad if place > high)
