"""LabelJob: what `stepward label` does with a problem or a solution, in this process or in a worker of a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stepward.cli.session import Session
from stepward.core import Environment, Labeler, Policy, Problem, Sampling, StepLabels, Trajectory
from stepward.core.record import FrozenDict
from stepward.engine.recall import Keeper
from stepward.environments.episode import solve
from stepward.labeling.completer import Completer, apart
from stepward.labeling.load import method_named
from stepward.labeling.methods import Services
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """Specifications only, so that it travels to any process; `per_problem` solutions are written for a problem, and a trajectory is labelled."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=FrozenDict)
    environment: str
    policy: str | None = None
    model_name: str | None = None
    prover: str | None = None
    prover_name: str | None = None
    judge: str | None = None
    tools: str = "all"
    sampling: Sampling
    per_problem: int = 1
    load: LoadOptions = DEFAULT_LOAD

    def labeler(self, work: Session, world: Environment, policy: Policy | None) -> Labeler:
        """The method with everything that it needs. Exact values are asked of the policy itself, the truth of the world itself."""
        method = method_named(self.method)
        needs = method.needs
        completing = self.completing(work, policy) if "policy" in needs else None
        services = Services(
            environment=world if self.method.startswith("oracle") else work.grading(world),
            policy=getattr(completing, "inner", completing) if self.method == "exact-value" else completing,
            judge=work.model(self.judge) if self.judge and "judge" in needs else None,
            tools=self.tools,
            sampling=apart(self.sampling),
        )
        return method.make(services, self.settings)

    def completing(self, work: Session, policy: Policy | None) -> Policy | None:
        """Who completes prefixes: the prover, or the policy that writes solutions."""
        return work.policy(self.prover, self.prover_name) if self.prover else policy

    def parts(self, work: Session) -> tuple[Environment, Policy | None]:
        """The world, and the policy if one is needed."""
        return work.environment(self.environment), work.policy(self.policy, self.model_name) if self.policy else None

    def solver(self, work: Session, world: Environment, policy: Policy | None) -> Callable[[Problem], Awaitable[list[Trajectory]]]:
        """How a problem is solved."""
        grading = work.grading(world)

        async def written(problem: Problem) -> list[Trajectory]:
            assert policy is not None  # checked by the verb
            return await solve(policy, grading, problem, self.per_problem, sampling=self.sampling)

        return written

    async def fitted(self, work: Session, world: Environment, policy: Policy | None, pilot: Sequence[Trajectory]) -> LabelJob:
        """The same job with the prior of adaptive labeling learned from some trajectories."""
        completing = self.completing(work, policy)
        assert completing is not None  # such methods need one
        from stepward.labeling.adaptive.fit import fit_prior

        prior = await fit_prior(pilot, Completer(policy=completing, environment=work.grading(world), sampling=apart(self.sampling)))
        return replace(self, settings={**self.settings, "prior": prior})

    def open(self, journal: Keeper | None) -> Callable[[Problem | Trajectory], Awaitable[Any]]:
        """For a worker: solutions of a problem, labels of a trajectory."""
        work = Session(journal, quiet=True, load=self.load)
        world, policy = self.parts(work)
        written, kept = self.solver(work, world, policy), work.labeler(self.labeler(work, world, policy))

        async def either(item: Problem | Trajectory) -> list[Trajectory] | StepLabels:
            return await (written(item) if isinstance(item, Problem) else kept.label(item))

        return either
