"""check_labeler: the conformance suite of the Labeler protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stepward.core import Labeler, StepLabels, Trajectory, canonical_json
from stepward.testing.conformance import Check, awkward_trajectories, expect, run_checks, shuffled


def check_labeler(labeler: Labeler, trajectories: Sequence[Trajectory], *, reproducible: bool = True, any_text: bool = True) -> list[str]:
    """Run every check of the Labeler protocol on the given trajectories, their prefixes and awkward texts; return the checks' names.

    `any_text=False` leaves out the awkward texts (a labeler of a closed language).
    `reproducible=False` leaves out the checks that need equal labels for equal requests.

    Raises: NotConformant listing every failed check.
    """
    expect(bool(trajectories), "check_labeler needs at least one trajectory")
    problem = trajectories[0].problem
    cases = [Trajectory(problem), *(t.prefix(1) for t in trajectories if len(t)), *trajectories, *(awkward_trajectories(problem) if any_text else ())]

    async def one_label_a_step() -> None:
        for case in cases:
            labels = await labeler.label(case)
            expect(len(labels) == len(case), f"{len(case)} steps but {len(labels)} labels for {case.text[:80]!r}")

    async def first_error_agrees() -> None:
        for case in cases:
            labels = await labeler.label(case)
            at = labels.first_error
            if at is not None and at >= 0:
                expect(labels.hard[at] is False, f"the first error is step {at}, but its hard label is {labels.hard[at]}")
                expect(all(good is True for good in labels.hard[:at]), f"a step before the first error {at} is not labelled good: {labels.hard}")

    async def origin_is_told() -> None:
        for case in cases:
            expect(bool((await labeler.label(case)).source), "labels must say what made them (source)")

    async def company_does_not_matter() -> None:
        alone = [await labeler.label(case) for case in cases]
        mixed = shuffled(cases)
        together = await asyncio.gather(*(labeler.label(case) for _, case in mixed))
        for (index, case), labels in zip(mixed, together, strict=True):
            expect(labels == alone[index], f"labelled together {labels.values}, alone {alone[index].values}: {case.text[:80]!r}")

    async def records_are_exact() -> None:
        for case in cases:
            labels = await labeler.label(case)
            again = StepLabels.from_record(labels.to_record())
            expect(canonical_json(again.to_record()) == canonical_json(labels.to_record()), "the labels do not survive being written")

    checks: dict[str, Check] = {
        "one label a step": one_label_a_step,
        "the first error agrees with the hard labels": first_error_agrees,
        "labels say where they come from": origin_is_told,
        "labels survive being written": records_are_exact,
    }
    if reproducible:
        checks["order and company do not matter"] = company_does_not_matter
    return run_checks(f"labeler {labeler.fingerprint}", checks)
