"""Particle filtering over steps: particles of a filter move by the policy and are weighed by a reward model. Particle Gibbs is in gibbs.py."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stepward.core import Aggregation, InputError, Node, RewardModel, check_aggregation
from stepward.search.choose import argmax, weighted_vote
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.population import Population
from stepward.search.resampling import Resampling, check_resampling, resample
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Stopped, Workbench

_CLIP = 1e-7  # of values before their logit, as in the public code


@dataclass(frozen=True, kw_only=True)
class ParticleFilter(Strategy):
    """`n` particles write step by step and are resampled in proportion to weights from the reward model, so that good prefixes are copied and bad ones die.

    psi = logit(v), v clipped to [1e-7, 1 - 1e-7], or ln v (`potential` "log"). Weights: "incremental" ln w_t = psi_t - psi_{t-1} with psi_0 = 0, the
    sequential Monte Carlo form, whose particles follow P(solution) exp(psi) and whose product of mean weights is an unbiased estimate of
    E_policy[exp psi(end)] (its ln is `source["notes"]["log_normaliser"]`; with v = V exact and potential "log" that is ln V of the bare problem); "current"
    ln w_t = psi_t, as public code has it, which weighs early steps again at every step and estimates nothing. Particles are resampled where 1 / sum p^2 <
    `ess_threshold` x n (1: after every step). Ended particles stay in the draw with weight increment 1. The answer is the surviving particle of largest
    value ("argmax"), one drawn in proportion to weight ("sample"), or the weighted vote ("vote").

    Cost for T steps of l tokens: n T l policy tokens and n T scores. Particles that cannot be scored get weight 0; where every weight is 0 the scored ones
    go on as equals and the estimate is 0.

    A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo Methods (2025). Defaults: multinomial, every step,
    argmax as its public code (its_hub); its weights are "current", which is not the default here for the reason above.
    """

    model: RewardModel
    n: int = 8
    weighting: Literal["incremental", "current"] = "incremental"
    potential: Literal["logit", "log"] = "logit"
    resampling: Resampling = "multinomial"
    ess_threshold: float = 1.0
    answer_by: Literal["argmax", "sample", "vote"] = "argmax"
    aggregation: Aggregation = "last"

    name = "particles"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n)
        check_aggregation(self.aggregation)
        check_resampling(self.resampling)
        for field, known in (("weighting", ("incremental", "current")), ("potential", ("logit", "log")), ("answer_by", ("argmax", "sample", "vote"))):
            if getattr(self, field) not in known:
                raise InputError(f"{type(self).__name__}.{field} must be one of {', '.join(known)}, got {getattr(self, field)!r}")
        if self.model.scale != "probability":
            raise InputError(
                f"{type(self).__name__} weighs chances, but {self.model.fingerprint} gives {self.model.scale} scores; calibrate it (stepward calibrate)"
            )
        if not 0.0 <= self.ess_threshold <= 1.0:
            raise InputError(f"{type(self).__name__}.ess_threshold is a share of n and must lie in [0, 1], got {self.ess_threshold!r}; 1 is every step")

    @property
    def evaluator(self) -> Evaluator:
        """What a prefix is worth."""
        return Scored(model=self.model, aggregation=self.aggregation)

    async def grow(self, bench: Workbench) -> None:
        await self.sweep(bench, Population.start(bench.root, self.n))

    async def sweep(self, bench: Workbench, population: Population) -> None:
        """Move, weigh and resample until all particles have ended."""
        for _ in range(self.sampling.max_steps):
            moved = await population.move(bench)
            fresh = [particle.node for particle in moved if math.isnan(particle.node.value) and particle.node.reason is None]
            await self.evaluator.evaluate(bench, fresh)
            population.weigh(population.particles if self.weighting == "current" else moved, self.reweighed)
            scarce = population.revive() or population.sizes[-1] < self.ess_threshold * len(population.particles)
            if scarce or self.ess_threshold >= 1.0:
                await self.renew(bench, population)
            told = population.notes()
            if self.weighting == "current":  # products of such weights count early steps several times
                del told["log_normaliser"]
            bench.notes.update(told)
            if population.ended:
                return
        raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and not all particles had ended")

    async def renew(self, bench: Workbench, population: Population) -> None:
        population.resample(bench, self.resampling)

    def psi(self, node: Node) -> float:
        """The potential of a scored node; 0 at the root, -inf where it is unscored."""
        if node.parent is None:
            return 0.0
        value = node.value
        if math.isnan(value):
            return -math.inf
        if self.potential == "log":
            return math.log(value) if value > 0.0 else -math.inf
        clipped = min(max(value, _CLIP), 1.0 - _CLIP)
        return math.log(clipped) - math.log1p(-clipped)

    def reweighed(self, node: Node, log_weight: float) -> float:
        """The log weight of a particle that has just moved to `node`."""
        psi = self.psi(node)
        if self.weighting == "current" or math.isinf(psi) or node.parent is None:
            return psi
        before = self.psi(node.parent)
        return log_weight + psi - (0.0 if math.isinf(before) else before)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        weights = Counter[int]()  # by node
        for index, weight in bench.notes.get("particles", ()):
            weights[index] += weight
        surviving = [place for place, end in enumerate(ends) if end.index in weights and not math.isnan(end.value)]
        places = surviving or list(range(len(ends)))
        return self.pick(bench, [ends[place] for place in places], [weights[ends[place].index] for place in places], places)

    def pick(self, bench: Workbench, ends: Sequence[Node], weights: Sequence[float], places: Sequence[int]) -> int | None:
        """The place of the particle that answers; where no weight is known (a search cut off), the end of largest value."""
        known = [0.0 if math.isnan(end.value) else weight for end, weight in zip(ends, weights, strict=True)]
        total = sum(known)
        if total <= 0.0 or self.answer_by == "argmax":
            chosen = argmax([end.value for end in ends])
        elif self.answer_by == "vote":
            chosen = weighted_vote(bench.answers(ends), [weight if weight > 0.0 else math.nan for weight in known])
        else:
            chosen = int(resample(np.array(known) / total, bench.random(1), n=1)[0])
        return None if chosen is None else places[chosen]
