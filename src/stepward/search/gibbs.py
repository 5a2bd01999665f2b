"""Particle Gibbs: particle filters in a row, each conditioned on a solution of the one before. The filter is in particles.py."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Literal

from stepward.core import FAILURES, InputError, LogprobPolicy, Node, Policy, TokenLogprobs, Trajectory, Tree, Usage
from stepward.search.particles import ParticleFilter
from stepward.search.population import Particle, Population
from stepward.search.resampling import normalised, resample
from stepward.search.sampled import at_least_one
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class ParticleGibbs(ParticleFilter):
    """`sweeps` particle filters of `n` particles each; `references` solutions drawn from one sweep, in proportion to weight, take part in the next untouched.

    The references cannot die in resampling, but others can be resampled from them: such a copy is the reference cut to the current step, and writes on
    its own. With incremental weights and one reference that is conditional sequential Monte Carlo: each sweep leaves the law P(solution) exp(psi) as
    it is, whatever n, so that more sweeps come nearer to it where more particles would cost too much at once. Resampling is multinomial, for which that
    holds.

    `ancestors` "sampled": at every resampling a reference draws which prefix it is taken to continue, particle i with chance in proportion to w_i
    P(rest of reference | prefix_i) exp(psi(prefix_i + rest) - psi(prefix_i)); sweeps then mix where "kept" references would be copied to all. It needs a
    policy with log-probabilities, sampled from as it is (temperature 1, top_p 1, top_k 0), and an environment that does not answer.

    Cost: sweeps x T l (n - references) policy tokens and as many scores as steps ("sampled": up to n more scores and n readings of a solution a step). The
    answer comes from the last sweep. `source["notes"]["log_normaliser"]` is that of the first.

    A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo Methods (2025), one reference as there; its public
    code (its_hub) has no ancestor sampling: Particle Gibbs with Ancestor Sampling (2014). An ancestor-sampled path holds steps that nobody wrote there.
    """

    sweeps: int = 2
    references: int = 1
    ancestors: Literal["kept", "sampled"] = "kept"

    name = "particle-gibbs"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, sweeps=self.sweeps, references=self.references)
        if self.references >= self.n:
            raise InputError(f"ParticleGibbs.references must be fewer than its n = {self.n} particles, got {self.references}")
        if self.resampling != "multinomial":
            raise InputError(f"ParticleGibbs resamples by 'multinomial' only, got {self.resampling!r}; other schemes would not leave the law as it is")
        if self.ancestors not in ("kept", "sampled"):
            raise InputError(f"ParticleGibbs.ancestors must be 'kept' or 'sampled', got {self.ancestors!r}")
        if self.ancestors == "sampled":
            self._check_ancestors()

    async def grow(self, bench: Workbench) -> None:
        references: list[tuple[Node, ...]] = []
        estimate: float | None = None
        for number in range(self.sweeps):
            population = Population.start(bench.root, self.n, references)
            try:
                await self.sweep(bench, population)
            finally:
                if number and "log_normaliser" in bench.notes:  # references bias the estimates of later sweeps
                    bench.notes["log_normaliser"] = estimate
            estimate = bench.notes.get("log_normaliser")
            drawn = resample(population.weights, bench.random(self.references), n=self.references)
            references = [tuple(population.particles[place].node.path) for place in drawn]

    async def renew(self, bench: Workbench, population: Population) -> None:
        if self.ancestors == "sampled":
            for reference in [particle for particle in population.particles if particle.is_reference and not particle.node.ended]:
                reference.path = await self._path_through(bench, population, reference)
        population.resample(bench, self.resampling)

    async def _path_through(self, bench: Workbench, population: Population, reference: Particle) -> tuple[Node, ...]:
        """The reference's path with its past drawn anew."""
        rest = reference.path[reference.path.index(reference.node) + 1 :]
        spliced: dict[int, Trajectory] = {}  # by the node that the rest would continue
        for particle in population.particles:
            if not particle.node.ended and particle.log_weight > -math.inf:
                spliced[particle.node.index] = _continued(particle.node.trajectory, reference.path[-1].trajectory, len(reference.node.trajectory))
        spliced[reference.node.index] = reference.path[-1].trajectory
        fits = dict(zip(spliced, await self._fits(bench, list(spliced.values()), len(reference.node.trajectory)), strict=True))
        weights = [
            particle.log_weight - self.psi(particle.node) + fits[particle.node.index]
            if particle.node.index in fits and particle.log_weight > -math.inf  # a weight of 0 has no ratio: -inf less -inf
            else -math.inf
            for particle in population.particles
        ]
        if max(weights) == -math.inf:
            return reference.path
        ancestor = population.particles[int(resample(normalised(weights), bench.random(1), n=1)[0])].node
        if ancestor is reference.node:
            return reference.path
        end = spliced[ancestor.index]
        path = ancestor.path
        for old in rest:
            n_steps = len(old.trajectory)
            path.append(bench.add(path[-1], end if old is rest[-1] else end.prefix(n_steps)))
        reference.node = ancestor
        return tuple(path)

    async def _fits(self, bench: Workbench, wholes: list[Trajectory], start: int) -> list[float]:
        """ln P(steps from `start` on | those before) + psi(end) of each; -inf where it cannot be told."""

        policy = _inner(self.policy)
        assert isinstance(policy, LogprobPolicy)
        read = policy.logprobs

        async def read_all() -> list[TokenLogprobs | BaseException]:
            return await asyncio.gather(*(read(whole) for whole in wholes), return_exceptions=True)

        readings = await bench.ask(read_all(), calls=len(wholes), price=Usage())  # reading writes no token, and FLOPs are refused
        tops = Tree(bench.problem)  # to weigh what is not in the search's tree
        nodes = [tops.add(tops.root, whole) for whole in wholes]
        await self.evaluator.evaluate(bench, nodes)
        fits = []
        for reading, node in zip(readings, nodes, strict=True):
            if isinstance(reading, BaseException):
                if not isinstance(reading, FAILURES):
                    raise reading
                bench.failures.append(f"reading failed: {reading}")
                fits.append(-math.inf)
            else:
                fits.append(math.fsum(math.fsum(step) for step in reading.steps[start:]) + self.psi(node))
        return fits

    def _check_ancestors(self) -> None:
        if not isinstance(_inner(self.policy), LogprobPolicy):
            raise InputError(f"ancestors='sampled' needs a policy with log-probabilities, which {self.policy.fingerprint} lacks; use a local one, or 'kept'")
        if self.weighting != "incremental":
            raise InputError("ancestors='sampled' needs weighting='incremental': other weights have no law that references could be drawn from")
        if self.budget.flops is not None:
            raise InputError("ancestors='sampled' cannot keep a budget of FLOPs, for readings tell no price; give policy_tokens or calls, or use 'kept'")
        if self.environment.interactive:
            raise InputError("ancestors='sampled' puts steps behind others, which an environment that answers does not allow; use 'kept'")
        if (self.sampling.temperature, self.sampling.top_p, self.sampling.top_k) != (1.0, 1.0, 0):
            raise InputError("ancestors='sampled' needs temperature 1, top_p 1 and top_k 0: the policy tells the probabilities of that law only; or use 'kept'")


def _inner(policy: Policy) -> Policy:
    """The policy that a journal's wrapper holds: readings are not journaled."""
    inner: Policy = getattr(policy, "inner", policy)
    return inner


def _continued(prefix: Trajectory, whole: Trajectory, start: int) -> Trajectory:
    """The prefix with the steps of `whole` from `start` on, which nobody wrote again: they carry no measurements."""
    copied = (replace(step, n_tokens=None, logprob=None) for step in whole.steps[start:])
    return Trajectory(prefix.problem, (*prefix.steps, *copied), finished=whole.finished, truncated=whole.truncated)
