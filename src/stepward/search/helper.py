"""A helper under a budget: a policy writes, and asks another one for single steps where a table says that this pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from stepward.core import InputError, Node, Policy, RewardModel, Tree
from stepward.core.record import content_hash
from stepward.search.chain import usable
from stepward.search.evaluator import Scored
from stepward.search.intervention import Bins, Episode, Plan
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Stopped, Workbench


@runtime_checkable
class HelpRule(Protocol):
    """Whether to ask for help with the next step, from the scores of the steps so far (NaN: unscored)."""

    @property
    def fingerprint(self) -> str: ...

    def asks(self, bench: Workbench, scores: Sequence[float]) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class HelpAtRandom:
    """Asks with chance `rate`: to collect the episodes that a table is made of, and the rule to beat."""

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise InputError(f"HelpAtRandom.rate must lie in [0, 1], got {self.rate!r}")

    @property
    def fingerprint(self) -> str:
        return f"help-at-random/{self.rate!r}"

    def asks(self, bench: Workbench, scores: Sequence[float]) -> bool:
        del scores
        return bench.random()[0] < self.rate


@dataclass(frozen=True)
class HelpByPlan:
    """Asks where a plan on binned scores does; beyond its horizon as at its last step."""

    bins: Bins
    plan: Plan

    def __post_init__(self) -> None:
        if self.plan.helps.shape[1] != self.bins.n_states:
            raise InputError(f"HelpByPlan: the plan is for {self.plan.helps.shape[1]} states, but {len(self.bins.edges)} edges make {self.bins.n_states}")

    @property
    def fingerprint(self) -> str:
        return f"help-by-plan/{content_hash(repr(self.bins.edges), np.packbits(self.plan.helps).tobytes(), repr(self.plan.helps.shape))}"

    def asks(self, bench: Workbench, scores: Sequence[float]) -> bool:
        del bench
        state = 0
        for score in scores:
            state = self.bins.state(score, state)
        return bool(self.plan.helps[min(len(scores), len(self.plan.helps) - 1), state])


@dataclass(frozen=True, kw_only=True)
class HelperUnderBudget(Strategy):
    """Writes one solution step by step with `policy`, and asks `helper` for a step where `rule` says so.

    The rule of the method is a table: V(s) = max{E[V(s') | alone], E[V(s') | helped] - penalty} over states of binned step scores, with the smallest penalty
    whose expected number of helps U(s_0) stays within the budget of helps C (see `intervention.cheapest_penalty`). To make one: run with `HelpAtRandom` on
    problems with known outcomes, `episode` every result, `tabulate`, `cheapest_penalty`, and run with `HelpByPlan`.

    `help_samples` steps are drawn from the helper and the best-scored one that no limit cut off is taken: with the policy as its own helper, help is more
    search.
    Cost for T steps: T steps and T scores, help_samples steps and scores instead of one where help is asked.
    Defaults: rate 0.5 for random help (reconstructed). Differences: the plan knows the number of steps so far and has a finite horizon;
    the paper trains a classifier to imitate the table, here it acts itself.
    (Self-Regulation and Requesting Interventions, 2025.)
    """

    model: RewardModel
    helper: Policy
    rule: HelpRule = HelpAtRandom()
    help_samples: int = 1

    name = "helper"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, help_samples=self.help_samples)

    async def grow(self, bench: Workbench) -> None:
        newest = Scored(model=self.model, aggregation="last")
        node, scores = bench.root, list[float]()
        while not node.ended:
            if len(node.trajectory) >= self.sampling.max_steps:
                raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and the chain had not ended")
            if self.rule.asks(bench, scores):
                children = await bench.expand([node], self.help_samples, policy=self.helper, kind="intervene")
            else:
                children = await bench.expand([node])
            await newest.evaluate(bench, children)
            (node,) = bench.keep(children, 1, key=usable)
            scores.append(node.value)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        """The end of the chain, scored or not: there is nothing to choose from."""
        del bench
        return next((index for index, end in enumerate(ends) if not end.dropped), None)


def episode(tree: Tree, outcome: float | None) -> Episode:
    """What a search by `HelperUnderBudget` tells the table: the chain's scores and where it was helped."""
    node = next((end for end in tree.ends if not end.dropped), tree.root)
    steps = node.path[1:]
    return Episode(tuple(step.value for step in steps), tuple(step.kind == "intervene" for step in steps), outcome)
