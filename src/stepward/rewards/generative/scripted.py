"""Scripted judges: policies that write what a function says, with known chances. For tests and examples of judges; no language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepward.core import InputError, Sampling, Step, Trajectory, Until, Usage, charge
from stepward.core.price import room
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.engine.noise import uniforms
from stepward.policies.sampler.steps import cut_step

_TOKEN = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True)
class Asked:
    """What a scripted judge sees: the prompt, what has been written after it, and which draw this is."""

    prompt: str
    written: str
    seed: int
    draw: int
    key: str

    def chance(self, name: str) -> float:
        """A uniform number in (0, 1), the same for the same prompt, seed, draw and name, whatever was written."""
        return float(uniforms(self.seed, f"{self.key}:{name}", self.draw, 0)[0])

    def rest_of(self, text: str, *, after: str = "") -> str:
        """What is left to write of `text`, which is begun behind the last `after` in what was written (behind the prompt, for none)."""
        begun = self.written.rsplit(after, 1)[-1] if after else self.written
        return text[len(begun) :]


Writer = Callable[[Asked], str]
"""All that the judge writes from here to its end."""
Teller = Callable[[Asked, Sequence[str]], Sequence[float]]
"""Natural-log probability of every choice as the next text."""


class ScriptedJudge:
    """A policy that writes `writer(asked)`; words are its tokens. `name` stands for the writer in the fingerprint."""

    def __init__(self, writer: Writer, *, name: str = "judge", separator: str = "\n\n") -> None:
        self.writer, self.name, self.separator = writer, name, separator
        self.asked: list[Asked] = []

    @property
    def fingerprint(self) -> str:
        return f"scripted-judge:{self.name}"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """n continuations; see `Policy.sample`. `asked` remembers every draw."""
        if prefix.ended or n < 1:
            raise InputError(f"sample needs an open prefix and n >= 1, got n = {n!r}")
        drawn = [self._draw(prefix, until, sampling, draw + index) for index in range(n)]
        n_prefix = count_tokens(prefix.problem.prompt + prefix.text)
        n_written = sum(step.n_tokens or 0 for trajectory in drawn for step in trajectory.steps[len(prefix) :])
        paid = n_prefix if draw == 0 else 0
        charge(Usage(policy_tokens=n_written, policy_prefill=paid, policy_cached=n * n_prefix - paid, calls=1))
        return drawn

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most that `sample` charges."""
        n_prefix = count_tokens(prefix.problem.prompt + prefix.text)
        written = n * room(prefix, sum(step.n_tokens or 0 for step in prefix.steps), until=until, sampling=sampling)
        paid = n_prefix if draw == 0 else 0
        return Usage(policy_tokens=written, policy_prefill=paid, policy_cached=n * n_prefix - paid, calls=1)

    def _draw(self, prefix: Trajectory, until: Until, sampling: Sampling, draw: int) -> Trajectory:
        asked = Asked(prefix.problem.prompt, prefix.text, sampling.seed, draw, prefix.problem.key)
        self.asked.append(asked)
        rest = self.writer(asked)
        room = sampling.max_tokens - sum(step.n_tokens or 0 for step in prefix.steps)
        grown = Trajectory(prefix.problem, prefix.steps)
        while True:
            if room <= 0 or len(grown) >= sampling.max_steps:
                return Trajectory(grown.problem, grown.steps, truncated=True)
            cut = cut_step(rest, self.separator)
            written = rest if cut is None else cut.text + cut.separator
            tokens = _TOKEN.findall(written)
            limit = min(room, sampling.max_step_tokens)
            if len(tokens) > limit:
                return grown.extend(Step("".join(tokens[:limit]), n_tokens=limit), truncated=True)
            if cut is None:
                step = Step(rest, n_tokens=len(tokens)) if rest.strip() else Step("", rest, n_tokens=len(tokens))
                return grown.extend(step, finished=True)
            grown, rest, room = grown.extend(Step(cut.text, cut.separator, n_tokens=len(tokens))), cut.rest, room - len(tokens)
            if until is Until.STEP:
                full = room <= 0 or len(grown) >= sampling.max_steps
                return Trajectory(grown.problem, grown.steps, truncated=True) if full else grown


class TellingJudge(ScriptedJudge):
    """A scripted judge that also tells how likely given words are (`core.ChoicePolicy`)."""

    def __init__(self, writer: Writer, teller: Teller, *, name: str = "judge", separator: str = "\n\n") -> None:
        super().__init__(writer, name=name, separator=separator)
        self.teller = teller

    async def choice_logprobs(self, prefix: Trajectory, choices: Sequence[str]) -> tuple[float, ...]:
        """What `teller` says; see `ChoicePolicy.choice_logprobs`."""
        n_prefix = count_tokens(prefix.problem.prompt + prefix.text)
        charge(Usage(policy_prefill=n_prefix, calls=1))
        return tuple(self.teller(Asked(prefix.problem.prompt, prefix.text, 0, 0, prefix.problem.key), choices))


def count_tokens(text: str) -> int:
    """How many words, as scripted judges count them."""
    return len(_TOKEN.findall(text))
