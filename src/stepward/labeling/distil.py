"""Distilled: outcome labels without a reference answer, from what most of a teacher's answers say."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from stepward.core import (
    ABSTAINED,
    FAILURES,
    Environment,
    InputError,
    Policy,
    Problem,
    Sampling,
    Semantics,
    StepLabels,
    Trajectory,
    canonical_json,
    content_hash,
    metered,
)
from stepward.environments.episode import complete
from stepward.labeling.sheet import Sheet

OUTCOME_ONLY = f"{ABSTAINED}: only the answer is compared, at the last step"


@dataclass(frozen=True)
class Majority:
    """The answer that most of a teacher's solutions give, None for a tie or no answer; `share` of those with an answer, `n` of them."""

    answer: str | None
    share: float
    n: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """The last step is good iff the solution's answer is the one that most of `n` solutions by the teacher `policy` give, spread over `temperatures`.

    The answers are the environment's canonical ones (`Environment.answer`); nothing is graded, so no reference is needed. `confidence` and evidence hold the
    majority's share, the weight that the distillation gives to the label; the other steps are unlabelled. With a teacher that is right more often than it
    gives any single wrong answer, the pseudo-reference is right with a chance that goes to 1 with n; a teacher that prefers a wrong answer is
    followed into it, at any n. Labels the teacher's own solutions and others' alike. A tie, or no answer, labels nothing. Semantics: *value* of the ended
    solution. The idea of reward distillation from a teacher's majority (reconstructed from its description; the paper's training is the trainer's matter).
    """

    policy: Policy
    environment: Environment
    n: int = 16
    temperatures: tuple[float, ...] = (0.4, 0.7, 1.0)
    sampling: Sampling = Sampling()

    method: ClassVar[str] = "distilled"
    semantics: ClassVar[Semantics] = "value"

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        if self.n < 1 or not self.temperatures:
            raise InputError(f"Distilled needs n >= 1 and at least one temperature, got {self.n} and {self.temperatures}")

    @property
    def fingerprint(self) -> str:
        parts = [self.policy.fingerprint, self.environment.fingerprint, self.n, list(self.temperatures), self.sampling.to_record()]
        return f"{self.method}/{content_hash(canonical_json(parts))}"

    def describe(self) -> dict[str, Any]:
        parts = {"policy": self.policy.fingerprint, "environment": self.environment.fingerprint, "n": self.n}
        return {"method": self.method, **parts, "temperatures": list(self.temperatures), "sampling": self.sampling.to_record()}

    async def label(self, trajectory: Trajectory) -> StepLabels:
        """One label a step: the last one's."""
        sheet = Sheet(len(trajectory))
        with metered() as ledger:
            if len(trajectory):
                sheet.miss_all(OUTCOME_ONLY)
                await self._last(sheet, trajectory)
        return sheet.labels(self.semantics, self.describe(), ledger.usage)

    async def _last(self, sheet: Sheet, trajectory: Trajectory) -> None:
        last = len(trajectory) - 1
        answer = self.environment.answer(trajectory)
        if not trajectory.ended or (answer is None and trajectory.truncated):
            sheet.miss(last, "the solution has not come to an answer")
            return
        found = await self.majority(trajectory.problem)
        if found.answer is None:
            sheet.miss(last, found.reason or f"{ABSTAINED}: the teacher's answers are tied")
            return
        sheet.good_or_bad(last, answer == found.answer, pseudo_reference=found.answer, share=found.share, answers=found.n)
        sheet.confidence[last] = found.share

    async def majority(self, problem: Problem) -> Majority:
        """The teacher's majority answer to a problem; `n` solutions, as evenly over the temperatures as n allows."""
        counts = [self.n // len(self.temperatures) + (i < self.n % len(self.temperatures)) for i in range(len(self.temperatures))]
        requests = [(count, temperature, self.n * at) for at, (count, temperature) in enumerate(zip(counts, self.temperatures, strict=True)) if count]
        try:
            drawn = await asyncio.gather(*(self._solutions(problem, *request) for request in requests))
        except FAILURES as error:
            return Majority(None, 0.0, 0, f"the teacher failed: {error}")
        answers = [answer for ends in drawn for end in ends if (answer := self.environment.answer(end)) is not None]
        return majority_of(answers)

    async def _solutions(self, problem: Problem, n: int, temperature: float, draw: int) -> list[Trajectory]:
        sampling = replace(self.sampling, temperature=temperature)
        return await complete(self.policy, self.environment, Trajectory(problem), n, sampling=sampling, draw=draw)


def majority_of(answers: list[str]) -> Majority:
    """The most frequent answer and its share."""
    ranked = Counter(answers).most_common(2)
    if not ranked:
        return Majority(None, 0.0, 0, "no solution of the teacher states an answer")
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return Majority(None, ranked[0][1] / len(answers), len(answers))
    return Majority(ranked[0][0], ranked[0][1] / len(answers), len(answers))
