"""Budget forcing: a policy made to think for at least and at most so many tokens. Whole solutions only; what it thinks with is another policy."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from stepward.core import DEFAULT_SAMPLING, InputError, Policy, RequestFailed, Sampling, Step, Trajectory, Until, Usage, content_hash, price_of_sample


class BudgetForced:
    """Whole solutions of `policy` whose number of tokens is forced into a range.

    Too short: an end before `min_tokens` tokens is taken back and replaced by `cue` ("Wait"), behind which the policy writes on; at most `continues` times.
    Too long: after `max_tokens` tokens the solution is cut off, and `answer_cue` and up to `answer_tokens` tokens follow, so that it states an answer; an
    empty answer_cue leaves it truncated. Cues are text of the step that follows them, and count no tokens: nobody sampled them.

    It needs a policy that goes on behind any text (local models, servers that continue a turn). Draws are independent: draw i of a prefix is the policy's
    draw i of the same prefix, and of what was forced so far.

    Cost: all that the policy writes, that is between min_tokens (unless the continues run out) and max_tokens + answer_tokens tokens, and each continuation
    reads what is there. s1: Simple test-time scaling (2025): cue "Wait", up to 2 to 6 continues; the range and the answer's cue belong to its prompts there.

    Raises: InputError for limits that make no range; RequestFailed, from `sample`, for a policy that does not tell how many tokens it wrote.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        min_tokens: int = 0,
        max_tokens: int = 2048,
        cue: str = "Wait",
        continues: int = 2,
        answer_cue: str = "Final answer:",
        answer_tokens: int = 64,
        separator: str = "\n\n",
    ) -> None:
        if not 0 <= min_tokens <= max_tokens or max_tokens < 1:
            raise InputError(f"BudgetForced needs 0 <= min_tokens <= max_tokens and max_tokens >= 1, got {min_tokens} and {max_tokens}")
        if continues < 0 or answer_tokens < 1 or not cue or not separator:
            raise InputError("BudgetForced needs continues >= 0, answer_tokens >= 1, a cue and a separator")
        self.policy, self.min_tokens, self.max_tokens, self.continues = policy, min_tokens, max_tokens, continues
        self.cue, self.answer_cue, self.answer_tokens, self.separator = cue, answer_cue, answer_tokens, separator

    @property
    def fingerprint(self) -> str:
        """The policy's, and all settings."""
        settings = (self.min_tokens, self.max_tokens, self.cue, self.continues, self.answer_cue, self.answer_tokens, self.separator)
        return "forced:" + content_hash(self.policy.fingerprint, repr(settings))

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n whole solutions from an open prefix. Raises: InputError for Until.STEP; what the policy raises."""
        if until is Until.STEP:
            raise InputError("budget forcing works on whole solutions, not on steps; use a strategy that samples those (best-of-n, majority)")
        return list(await asyncio.gather(*(self._one(prefix, sampling, draw + index) for index in range(n))))

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most tokens written; FLOPs are not told, for what is read again depends on what was written."""
        most = price_of_sample(self.policy, prefix, n, until=until, sampling=self._limited(sampling, self.answer_tokens), draw=draw)
        return Usage(policy_tokens=most.policy_tokens, calls=n * (2 + self.continues))

    async def _one(self, prefix: Trajectory, sampling: Sampling, draw: int) -> Trajectory:
        thinking = self._limited(sampling, 0)
        [solution] = await self.policy.sample(prefix, 1, until=Until.END, sampling=thinking, draw=draw)
        for _ in range(self.continues):
            if not solution.finished or not self.min_tokens or _n_tokens(solution) >= self.min_tokens or len(solution) >= sampling.max_steps:
                break
            solution = await self._write_on(solution, self.cue, thinking, draw)
        full = solution.truncated and sampling.max_tokens > self.max_tokens and _n_tokens(solution) >= self.max_tokens
        if full and self.answer_cue and len(solution) < sampling.max_steps:
            solution = await self._write_on(solution, self.answer_cue, self._limited(sampling, self.answer_tokens), draw)
        return solution

    def _limited(self, sampling: Sampling, more: int) -> Sampling:
        return replace(sampling, max_tokens=min(sampling.max_tokens, self.max_tokens + more))

    async def _write_on(self, solution: Trajectory, cue: str, sampling: Sampling, draw: int) -> Trajectory:
        """The solution without its end, then the cue and what the policy writes behind it."""
        steps = list(solution.steps)
        if steps and not steps[-1].separator:
            steps[-1] = replace(steps[-1], separator=self.separator)
        before = Trajectory(solution.problem, tuple(steps))
        cued = before.extend(Step(cue, n_tokens=0, logprob=0.0))
        limits = self._as_counted(cued, replace(sampling, max_steps=sampling.max_steps + 1), draw)
        if limits is None:
            return Trajectory(solution.problem, solution.steps, truncated=True)
        [grown] = await self.policy.sample(cued, 1, until=Until.END, sampling=limits, draw=draw)
        if len(grown) == len(cued):
            return grown
        first, *others = grown.steps[len(cued) :]
        return Trajectory(solution.problem, (*before.steps, replace(first, text=cue + first.text), *others), grown.finished, grown.truncated)

    def _as_counted(self, prefix: Trajectory, sampling: Sampling, draw: int) -> Sampling | None:
        """The sampling with a limit that leaves max_tokens - n_tokens(prefix) tokens. Policies count a prefix as they read it, cues included."""
        left = sampling.max_tokens - _n_tokens(prefix)
        room = price_of_sample(self.policy, prefix, 1, until=Until.END, sampling=sampling, draw=draw).policy_tokens
        limit = sampling.max_tokens - room + left
        return replace(sampling, max_tokens=limit) if left > 0 and limit > 0 else None


def _n_tokens(solution: Trajectory) -> int:
    """Raises: RequestFailed where a step does not tell: taken as nothing, it would be forced without end, or never be full."""
    uncounted = next((index for index, step in enumerate(solution.steps) if step.n_tokens is None), None)
    if uncounted is not None:
        raise RequestFailed(
            f"budget forcing counts tokens, and step {uncounted + 1} does not tell its number (n_tokens); use a policy that does: a local one, or a server "
            "that reports log-probabilities"
        )
    return sum(step.n_tokens or 0 for step in solution.steps)
