"""NoisyJudge: an environment's truth seen through known error rates, as a reward model. For tests and benchmarks of labelers that ask a judge."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from stepward.core import ABSTAINED, Floats, Granularity, InputError, Scale, StepScores, Trajectory, Usage, canonical_json, charge, content_hash
from stepward.engine.noise import row_key, uniforms
from stepward.rewards.oracle import LabelOracle

_SHARED = "shared noise"


@dataclass(frozen=True)
class NoisyJudge:
    """score_t = share of `k` verdicts that call step t right; each verdict is the truth flipped with a known chance, or an abstention.

    `false_alarm`: chance that a right step is called wrong; `miss`: chance that a wrong step is called right; `abstain`: chance of no verdict. Right means
    what `semantics` says: *prefix* (no error so far) or *local* (the step follows from what was stated). Verdicts are independent given the truth, from
    noise named by (seed, trajectory, step, draw): what other judges, steps or calls do does not matter, and a rerun says the same.

    `shared`: chance, for each step, that the noise of all draws, and of all judges with this `shared_seed`, is one and the same: their errors are then
    correlated by `shared`, and more votes help no more. A step on which every draw abstains is unscored ("abstained: ..."). With an even `k` a tied
    vote is 0.5, which is not below the threshold.

    A verdict costs `words_per_step` tokens written for each step, and the words of the problem and the solution read. `aspects`: "votes", the draws with
    a verdict.

    Raises: InputError for a chance outside [0, 1] or k below 1.
    """

    environment: LabelOracle
    _: KW_ONLY
    false_alarm: float = 0.1
    miss: float = 0.1
    abstain: float = 0.0
    k: int = 1
    semantics: Literal["prefix", "local"] = "prefix"
    seed: int = 0
    shared: float = 0.0
    shared_seed: int = 0
    words_per_step: int = 20
    name: str = ""  # tells variants of one judge apart: each has noise of its own

    granularity: ClassVar[Granularity] = "step"
    scale: ClassVar[Scale] = "probability"

    def __post_init__(self) -> None:
        for chance in ("false_alarm", "miss", "abstain", "shared"):
            if not 0.0 <= getattr(self, chance) <= 1.0:
                raise InputError(f"NoisyJudge.{chance} must lie in [0, 1], got {getattr(self, chance)!r}")
        if self.k < 1:
            raise InputError(f"NoisyJudge.k must be at least 1, got {self.k!r}")

    @cached_property
    def fingerprint(self) -> str:
        """Names the environment, the rates and the noise."""
        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "environment"}
        return f"noisy-judge/{content_hash(self.environment.fingerprint, canonical_json(settings))[:16]}"

    def variant(self, name: str) -> NoisyJudge:
        """The same judge asked in another way, or once more: the same rates, `k` 1, and noise of its own (but for what is shared)."""
        return replace(self, name=f"{self.name}/{name}", k=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        """Shape [S], in [0, 1]; unscored where the environment has no truth or every draw abstains. Raises what the environment's oracle raises."""
        truth = self.environment.labels(trajectory, self.semantics)
        usage = self.price(trajectory)
        charge(usage)
        verdicts = [self.verdicts(trajectory, step, good) for step, good in enumerate(truth.hard)]
        known = [row[~np.isnan(row)] for row in verdicts]
        values = np.array([float(row.mean()) if len(row) else math.nan for row in known], dtype=np.float64)
        reasons = [
            (reason or "the environment has no truth about the step") if good is None else f"{ABSTAINED}: no draw gave a verdict" if not len(row) else None
            for good, reason, row in zip(truth.hard, truth.reasons, known, strict=True)
        ]
        source = {"model": self.fingerprint, "judge": "noisy", "k": self.k}
        votes = np.array([float(len(row)) for row in known], dtype=np.float64)
        return StepScores(values, tuple(reasons), self.scale, source=source, usage=usage, aspects={"votes": votes})

    def price(self, trajectory: Trajectory) -> Usage:
        """What `score` charges."""
        n_words = len(trajectory.problem.prompt.split()) + len(trajectory.text.split())
        return Usage(reward_tokens=self.k * n_words, reward_written=self.k * self.words_per_step * len(trajectory), calls=1)

    def verdicts(self, trajectory: Trajectory, step: int, good: bool | None) -> Floats:
        """The `k` verdicts on a step whose truth is `good`, shape [k]: 1 right, 0 wrong, NaN none."""
        if good is None:
            return np.full(self.k, math.nan)
        noise = np.array([self._noise(trajectory, step, draw) for draw in range(self.k)])
        error = self.false_alarm if good else self.miss
        flipped = np.where(noise[:, 0] < error, not good, good).astype(np.float64)
        return np.where(noise[:, 1] < self.abstain, math.nan, flipped)

    def _noise(self, trajectory: Trajectory, step: int, draw: int) -> Floats:
        """Two uniform numbers: one that flips, one that abstains."""
        together, *common = uniforms(self.shared_seed, f"{_SHARED}|{trajectory.key}", 0, step, 3)
        if together < self.shared:
            return np.array(common)
        stream, _ = row_key(self.seed, f"noisy judge|{self.name}", 0)
        return uniforms(stream, trajectory.key, draw, step, 2)
