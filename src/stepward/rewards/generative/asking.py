"""Asking: a policy as a judge. Renders a question as a problem, samples what the judge writes, goes on from any place in it. Nothing is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepward.core import CountMismatch, Policy, Problem, Sampling, Step, Trajectory, Until
from stepward.engine.journaled import JournaledPolicy

_UNBOUND = 1 << 30  # a limit that never binds: what a judge writes is bounded by its own budget
_WARM = 0.7  # temperature of a second answer where the first was greedy and would only come again


@dataclass(frozen=True)
class Answer:
    """What a judge wrote: a trajectory whose problem is the prompt. Its first `lead` characters were put into the judge's mouth."""

    trajectory: Trajectory
    lead: int

    @property
    def text(self) -> str:
        """The judge's words, with what was appended to make it go on."""
        return self.trajectory.text[self.lead :]

    @property
    def cut_off(self) -> bool:
        """Did its budget end before it did?"""
        return self.trajectory.truncated

    def upto(self, n: int) -> Trajectory:
        """The open trajectory of the first n characters of `text`."""
        return cut_text(self.trajectory, self.lead + n)


def cut_text(trajectory: Trajectory, n: int) -> Trajectory:
    """The open trajectory whose text is the first n characters; a step that is cut becomes a shorter step."""
    steps: list[Step] = []
    for step in trajectory.steps:
        if n <= 0:
            break
        steps.append(step if len(step.written) <= n else Step(step.written[:n]))
        n -= len(step.written)
    return Trajectory(trajectory.problem, tuple(steps))


class Asker:
    """Asks one policy. The budget of an answer is `sampling.max_tokens`; its step limits are lifted, for a critique has as many paragraphs as it has."""

    def __init__(self, policy: Policy, sampling: Sampling) -> None:
        self.policy = policy
        self.sampling = replace(sampling, max_step_tokens=sampling.max_tokens, max_steps=_UNBOUND)

    async def ask(self, problem: Problem, lead: str, n: int, *, draw: int = 0, again: bool = False) -> list[Answer]:
        """n answers, drawn with noise draw, draw + 1, ...; `again`: a second attempt, never greedy.

        Raises: what the policy raises; CountMismatch when it returns another number of answers.
        """
        sampling = replace(self.sampling, temperature=_WARM) if again and self.sampling.temperature == 0.0 else self.sampling
        start = Trajectory(problem, (Step(lead),) if lead else ())
        drawn = await self.policy.sample(start, n, until=Until.END, sampling=sampling, draw=draw)
        if len(drawn) != n:
            raise CountMismatch(f"policy {self.policy.fingerprint} returned {len(drawn)} answers when asked for {n}")
        return [Answer(trajectory, len(lead)) for trajectory in drawn]

    async def go_on(self, prefix: Trajectory, lead: int, *, limit: int, draw: int = 0) -> Answer:
        """What the judge writes after an open prefix: up to the policy's next step end, at most `limit` tokens."""
        sampling = replace(self.sampling, max_tokens=_UNBOUND, max_step_tokens=limit)
        drawn = await self.policy.sample(prefix, 1, until=Until.STEP, sampling=sampling, draw=draw)
        if len(drawn) != 1:
            raise CountMismatch(f"policy {self.policy.fingerprint} returned {len(drawn)} answers when asked for 1")
        return Answer(drawn[0], lead)

    async def write_until(self, prefix: Trajectory, stops: Sequence[str], *, draw: int = 0) -> tuple[Trajectory, str | None]:
        """Write after an open prefix until one of `stops` has been written, the judge ends or the budget is spent.

        Returns the open trajectory, cut right behind the stop, and the stop (None without one). The policy is asked step by step, so that little is
        written beyond it; tokens are counted where the policy reports them, else four characters are one.
        """
        at, left, start = prefix, self.sampling.max_tokens, len(prefix.text)
        while left > 0 and not at.ended:
            n_before = len(at)
            at = (await self.go_on(at, 0, limit=left, draw=draw)).trajectory
            added = at.steps[n_before:]
            left -= max(1, sum(step.n_tokens if step.n_tokens is not None else len(step.written) // 4 for step in added))
            text = at.text[start:]
            hits = [(text.find(stop) + len(stop), stop) for stop in stops if stop in text]
            if hits:
                end, stop = min(hits)
                return cut_text(at, start + end), stop
        return cut_text(at, len(at.text)), None


def with_system(policy: Policy, system: str, prompt: str) -> str:
    """The prompt, opened by the system line unless the policy sends that line itself."""
    inner = policy.inner if isinstance(policy, JournaledPolicy) else policy
    own = getattr(inner, "system", None) or getattr(getattr(inner, "rendering", None), "system", None)
    return prompt if not system or own == system else f"{system}\n\n{prompt}"
