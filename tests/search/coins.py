"""Coins: a policy, environment and reward model of three tosses, so small that every law about it can be enumerated."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stepward.core import Outcome, Sampling, Step, StepScores, TokenLogprobs, Trajectory, Until, Usage, charge
from stepward.engine.noise import uniforms


@dataclass(frozen=True)
class Coins:
    """Writes "a" with chance 0.5, after an "a" 0.8, else "b", three times. A prefix is worth more the more its tosses agree with "abb"."""

    fingerprint: str = "coins"
    interactive: bool = False
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        made = []
        for index in range(n):
            grown = prefix
            while not grown.ended:
                [u] = uniforms(sampling.seed, prefix.key, draw + index, len(grown))
                toss = "a" if u < self.chance(grown.text, "a") else "b"
                step = Step(toss, n_tokens=1, logprob=math.log(self.chance(grown.text, toss)))
                grown = grown.extend(step, finished=len(grown) == 2)
                if until is Until.STEP:
                    break
            made.append(grown)
        charge(Usage(policy_tokens=sum(len(grown) - len(prefix) for grown in made), calls=1))
        return made

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs:
        text = trajectory.text
        return TokenLogprobs(tuple((math.log(self.chance(text[:at], toss)),) for at, toss in enumerate(text)))

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.array([self.worth(trajectory.text[:at]) for at in range(1, len(trajectory) + 1)]))

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.finished

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome(float(trajectory.text == "abb"))

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.text or None

    def chance(self, before: str, toss: str) -> float:
        """P(toss | tosses before)."""
        a = 0.8 if before.endswith("a") else 0.5
        return a if toss == "a" else 1.0 - a

    def worth(self, text: str) -> float:
        agreeing = sum(one == other for one, other in zip(text, "abb", strict=False))
        return (0.1, 0.3, 0.6, 1.0)[agreeing] if len(text) == 3 else 0.2 + 0.3 * agreeing / len(text)

    def target(self) -> dict[str, float]:
        """P(x) v(x), normalised, of all solutions x."""
        weights = {}
        for tosses in itertools.product("ab", repeat=3):
            text = "".join(tosses)
            weights[text] = math.prod(self.chance(text[:at], toss) for at, toss in enumerate(text)) * self.worth(text)
        total = sum(weights.values())
        return {text: weight / total for text, weight in weights.items()}
