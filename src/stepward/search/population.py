"""Population: the particles of a filter with their weights, and the estimate that they carry. What a particle is worth is a strategy's business."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepward.core import Node
from stepward.core.aggregation import Floats
from stepward.search.resampling import Resampling, effective_sample_size, log_mean, n_uniforms, normalised, resample
from stepward.search.workbench import Stopped, Workbench


@dataclass(eq=False)
class Particle:
    """A prefix with its natural-log weight since the last resampling. A reference (particle Gibbs) follows the nodes of `path` whatever is resampled."""

    node: Node
    log_weight: float = 0.0
    path: tuple[Node, ...] = ()

    @property
    def is_reference(self) -> bool:
        return bool(self.path)


@dataclass(eq=False)
class Population:
    """n particles. `collected` sums the log mean weights at every resampling; `sizes` has the effective sample size after every step, before resampling (0:
    all weights are 0). `n_lost`: particles whose next step could not be had (a failed request, the end of the budget); the others stand for all.
    """

    particles: list[Particle]
    collected: float = 0.0
    sizes: list[float] = field(default_factory=list)
    n_lost: int = 0

    @classmethod
    def start(cls, root: Node, n: int, references: Sequence[tuple[Node, ...]] = ()) -> Population:
        """n particles at the root, the last of them references."""
        free = [Particle(root) for _ in range(n - len(references))]
        return cls([*free, *(Particle(root, path=path) for path in references)])

    @property
    def weights(self) -> Floats:
        """Normalised, [n]."""
        return normalised([particle.log_weight for particle in self.particles])

    @property
    def log_normaliser(self) -> float:
        """ln of the estimate of the normalising constant so far."""
        return self.collected + log_mean([particle.log_weight for particle in self.particles])

    @property
    def _alive(self) -> bool:
        """Whether any weight is not 0."""
        return any(particle.log_weight > -math.inf for particle in self.particles)

    @property
    def ended(self) -> bool:
        return all(particle.node.ended for particle in self.particles)

    async def move(self, bench: Workbench) -> list[Particle]:
        """One step of every particle that has not ended: copies of one node get children of their own. The particles that moved."""
        going = [particle for particle in self.particles if not particle.node.ended]
        copies: dict[int, list[Particle]] = {}
        for particle in going:
            if particle.is_reference:
                particle.node = particle.path[particle.path.index(particle.node) + 1]
            else:
                copies.setdefault(particle.node.index, []).append(particle)
        parents = [group[0].node for group in copies.values()]
        children = await bench.expand(parents, [len(group) for group in copies.values()]) if parents else []
        for parent, group in zip(parents, copies.values(), strict=True):
            mine = [child for child in children if child.parent is parent]
            for particle, child in zip(group, mine, strict=False):
                particle.node = child
            for particle in group[len(mine) :]:
                self.particles.remove(particle)
                going.remove(particle)
                self.n_lost += 1
        return going

    def weigh(self, particles: Sequence[Particle], weight: Callable[[Node, float], float]) -> None:
        """Give those particles their new log weight, weight(node, log weight so far). Raises: Stopped where no particle at all is scored."""
        for particle in particles:
            particle.log_weight = weight(particle.node, particle.log_weight)
            if math.isnan(particle.node.value):
                particle.node.drop(f"unscored: {particle.node.reason}")
        if all(math.isnan(particle.node.value) for particle in self.particles):
            raise Stopped(f"no particle could be scored: {self.particles[0].node.reason}")
        self.sizes.append(effective_sample_size(self.weights) if self._alive else 0.0)

    def revive(self) -> bool:
        """Where every weight has become 0, make the scored particles equal again, so that sampling can go on; the estimate stays 0. Whether that was needed."""
        if self._alive:
            return False
        self.collected = -math.inf
        for particle in self.particles:
            particle.log_weight = -math.inf if math.isnan(particle.node.value) else 0.0
        return True

    def resample(self, bench: Workbench, method: Resampling) -> None:
        """Draw the particles anew in proportion to their weights, which are equal afterwards; references stay (conditional resampling)."""
        weights = self.weights
        self.collected = self.log_normaliser
        kept = [particle for particle in self.particles if particle.is_reference]
        n = len(self.particles) - len(kept)
        ancestors = resample(weights, bench.random(n_uniforms(method, n)), n=n, method=method) if n else ()
        chosen = [self.particles[ancestor].node for ancestor in ancestors]
        alive = {node.index for node in (*chosen, *(particle.node for particle in kept))}
        for particle in self.particles:
            if particle.node.index not in alive:
                particle.node.drop("no particle was resampled from it")
        self.particles = [*(Particle(node) for node in chosen), *(Particle(particle.node, path=particle.path) for particle in kept)]

    def notes(self) -> dict[str, Any]:
        """For the result's source: log estimate of the normalising constant (None: it is 0), effective sample sizes, particles as [node, weight], losses."""
        estimate = self.log_normaliser
        return {
            "log_normaliser": None if math.isinf(estimate) else estimate,
            "effective_sample_sizes": [round(size, 6) for size in self.sizes],
            "particles": [[particle.node.index, float(weight)] for particle, weight in zip(self.particles, self.weights, strict=True)],
            "n_lost": self.n_lost,
        }
