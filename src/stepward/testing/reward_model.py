"""check_reward_model: the conformance suite of the RewardModel protocol."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np

from stepward.core import Problem, RewardModel, StepScores, Trajectory, canonical_json
from stepward.testing.conformance import Check, awkward_trajectories, expect, run_checks, shuffled


def check_reward_model(model: RewardModel, trajectories: Sequence[Trajectory] = (), *, causal: bool = True, tolerance: float = 1e-5) -> list[str]:
    """Run every check of the RewardModel protocol, on awkward trajectories and on the given ones; return the checks' names.

    `causal=False` leaves out the check that a step's score does not depend on later steps (models that read the whole solution).
    `tolerance`: largest difference between two ways of computing the same value.

    Raises: NotConformant listing every failed check.
    """
    problem = trajectories[0].problem if trajectories else Problem("What is 1 + 1?", answer="2")
    cases = [*awkward_trajectories(problem), *trajectories]

    def same(left: StepScores, right: StepScores, length: int) -> bool:
        return bool(np.allclose(left.values[:length], right.values[:length], atol=tolerance, rtol=0, equal_nan=True))

    async def one_score_a_step() -> None:
        for case in cases:
            scores = await model.score(case)
            expect(len(scores) == len(case), f"{len(case)} steps but {len(scores)} scores for {case.text[:80]!r}")

    async def unknown_has_a_reason() -> None:
        for case in cases:
            scores = await model.score(case)
            for value, reason in zip(scores.values, scores.reasons, strict=True):
                expect(math.isnan(value) == bool(reason), f"value {value} with reason {reason!r}")

    async def scale_is_declared() -> None:
        for case in cases:
            scores = await model.score(case)
            expect(scores.scale == model.scale, f"the model declares scale {model.scale!r}, its scores {scores.scale!r}")

    async def company_does_not_matter() -> None:
        alone = [await model.score(case) for case in cases]
        mixed = shuffled(cases * 2)
        together = await asyncio.gather(*(model.score(case) for _, case in mixed))
        for (index, case), scores in zip(mixed, together, strict=True):
            reference = alone[index % len(cases)]
            expect(same(scores, reference, len(case)), f"scored together {scores.values}, alone {reference.values}: {case.text[:80]!r}")

    async def later_steps_do_not_matter() -> None:
        for case in cases:
            whole = await model.score(case)
            for k in range(1, len(case)):
                part = await model.score(case.prefix(k))
                expect(same(part, whole, k), f"the first {k} steps score {part.values} alone, {whole.values[:k]} before later steps: {case.text[:80]!r}")

    async def too_long_is_unscored() -> None:
        scores = await model.score(Trajectory.from_texts(problem, ["word " * 4000, "and so on " * 4000, "end"]))
        expect(len(scores) == 3, f"3 long steps but {len(scores)} scores")

    async def records_are_exact() -> None:
        for case in cases:
            scores = await model.score(case)
            again = StepScores.from_record(scores.to_record())
            expect(canonical_json(again.to_record()) == canonical_json(scores.to_record()), "the scores do not survive being written")

    checks: dict[str, Check] = {
        "one score a step": one_score_a_step,
        "unknown has a reason": unknown_has_a_reason,
        "the scale is as declared": scale_is_declared,
        "order and company do not matter": company_does_not_matter,
        "what is too long is unscored, not dropped": too_long_is_unscored,
        "scores survive being written": records_are_exact,
    }
    if causal:
        checks["later steps do not matter"] = later_steps_do_not_matter
    return run_checks(f"reward model {model.fingerprint}", checks)
