"""Hinted: a policy that reads something more than the problem (a step from a similar solution, a lesson from a failed attempt)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stepward.core import DEFAULT_SAMPLING, Policy, Problem, Sampling, Trajectory, Until, Usage, content_hash, price_of_sample


@dataclass(frozen=True)
class Hinted:
    """Continues a prefix as `policy` does when `hint` stands after the problem's prompt. What it gives back belongs to the problem without the hint.

    An empty hint is the policy itself, draw for draw. For policies that read prompts: one of a closed language cannot, and refuses the problem.
    """

    policy: Policy
    hint: str

    @property
    def fingerprint(self) -> str:
        return f"{self.policy.fingerprint}/hinted/{content_hash(self.hint)[:16]}" if self.hint else self.policy.fingerprint

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        return price_of_sample(self.policy, self._with_hint(prefix), n, until=until, sampling=sampling, draw=draw)

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        drawn = await self.policy.sample(self._with_hint(prefix), n, until=until, sampling=sampling, draw=draw)
        return [Trajectory(prefix.problem, made.steps, finished=made.finished, truncated=made.truncated) for made in drawn]

    def _with_hint(self, prefix: Trajectory) -> Trajectory:
        return replace(prefix, problem=hinted(prefix.problem, self.hint)) if self.hint else prefix


def hinted(problem: Problem, hint: str) -> Problem:
    """The problem with a paragraph after its prompt."""
    return replace(problem, prompt=f"{problem.prompt}\n\n{hint}")
