"""Every strategy as an agent's: in a world that answers each step, with and without a budget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from stepward.core import Policy, Problem, Sampling, SearchResult, Trajectory, Until, Usage, canonical_json
from stepward.search.budget import NO_BUDGET, Budget
from stepward.search.load import STRATEGIES
from stepward.testing.planted import PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughModel, RoughPolicy
from stepward.testing.search_trials import Trial, search_of

WORLD = PlantedTree(interactive=True)
PROBLEMS = [WORLD.random(seed, depth=3, branching=2) for seed in range(3)]


@dataclass(frozen=True)
class Attentive:
    """A policy that checks that it is shown what the world has said to every step before."""

    policy: Policy = field(default_factory=lambda: RoughPolicy(PlantedPolicy(interactive=True)))
    fingerprint: str = "attentive"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        playing = prefix.problem in PROBLEMS  # and not criticising, say
        assert until is Until.STEP or not playing, "a world that answers is asked after every step"
        for k, step in enumerate(prefix.steps if playing else ()):
            said = (await WORLD.observe(Trajectory(prefix.problem, prefix.steps[: k + 1]))).steps[-1].observation
            assert step.observation == said, f"step {k} of {prefix.text!r} came without its observation"
        return await self.policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> Usage:
        assert isinstance(self.policy, RoughPolicy)
        return self.policy.price(prefix, n, until=until, sampling=sampling, draw=draw)


def results(strategy: str, problems: list[Problem], budget: Budget) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        searches = [search_of(Trial(0, strategy, problem, Attentive(), WORLD, RoughModel(), Sampling(), budget)) for problem in problems]
        return list(await asyncio.gather(*(search.search(problem) for search, problem in zip(searches, problems, strict=True))))

    return asyncio.run(run())


@pytest.mark.parametrize("budget", [NO_BUDGET, Budget(policy_tokens=30), Budget(calls=12)], ids=["free", "tokens", "calls"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_plays_a_world_that_answers(strategy: str, budget: Budget) -> None:
    """The policy sees every observation, whatever finished is at a leaf, the result is the same alone, together and again, and the budget holds."""
    found = results(strategy, PROBLEMS, budget)
    for problem, result in zip(PROBLEMS, found, strict=True):
        assert result.source["calls"] > 0
        for end in result.tree.ends:
            assert WORLD.is_finished(end.trajectory) or end.trajectory.truncated
            assert all(step.observation for step in end.trajectory.steps[:-1])
        if budget.policy_tokens is not None:
            assert result.usage.policy_tokens <= budget.policy_tokens
        if budget.calls is not None:
            assert result.source["calls"] <= budget.calls
        (alone,) = results(strategy, [problem], budget)
        assert canonical_json(alone.to_record()) == canonical_json(result.to_record())
    if not budget.limits:
        assert any(result.chosen is not None for result in found)
