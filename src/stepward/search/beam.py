"""Step beam search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stepward.core import Aggregation, InputError, Node, RewardModel, check_aggregation
from stepward.search.choose import argmax, weighted_vote
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class StepBeam(Strategy):
    """Keep the `width` best prefixes, extend each `expansions` times by one step, until all that are kept have ended.

    The beam starts with width x expansions first steps, so that about width x expansions prefixes are alive at every depth; prefixes
    that have ended keep their place while they stay among the best. The answer is the best end ("best") or the weighted vote of all ends
    ("vote"). width = k, expansions = 1 draws k independent chains. (Snell et al., Scaling LLM Test-Time Compute Optimally, 2024.)
    A step that a limit cut off before it states an answer takes no place while anything else is left to keep.
    Difference from the public code: a candidate is scored once, at the step that it just wrote; ends are never duplicated.
    Cost for T steps of l tokens: width x expansions x T x l policy tokens.
    """

    model: RewardModel
    width: int = 4
    expansions: int = 4
    aggregation: Aggregation = "min"
    answer_by: Literal["best", "vote"] = "best"

    name = "beam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer_by not in ("best", "vote"):
            raise InputError(f"StepBeam.answer_by must be 'best' or 'vote', got {self.answer_by!r}")
        check_aggregation(self.aggregation)
        at_least_one(self, width=self.width, expansions=self.expansions)

    @property
    def evaluator(self) -> Evaluator:
        """What a candidate is worth; variants of the beam replace it."""
        return Scored(model=self.model, aggregation=self.aggregation)

    @property
    def n_first(self) -> int:
        """How many first steps are drawn."""
        return self.width * self.expansions

    async def grow(self, bench: Workbench) -> None:
        kept = frontier = [bench.root]
        for level in range(self.sampling.max_steps):
            children = await bench.expand(frontier, self.n_children(bench, frontier) if level else self.n_first)
            await self.evaluator.evaluate(bench, children)
            kept = self.select(bench, without_cut_off(bench, [*(node for node in kept if node.ended), *children]))
            frontier = [node for node in kept if not node.ended]
            if not frontier:
                return
        raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and {len(frontier)} kept prefixes had not ended")

    def n_children(self, bench: Workbench, frontier: list[Node]) -> int:
        """How many children each kept prefix gets, behind the first steps; variants of the beam replace it."""
        del bench, frontier
        return self.expansions

    def select(self, bench: Workbench, candidates: list[Node]) -> list[Node]:
        return bench.keep(candidates, self.width)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        values = [end.value for end in ends]
        if self.answer_by == "best":
            return argmax(values)
        return weighted_vote(bench.answers(ends), values, signed=self.evaluator.scale != "probability")


def without_cut_off(bench: Workbench, candidates: list[Node]) -> list[Node]:
    """The candidates less those that are cut off, which are dropped; all of them where nothing else is left to keep."""
    open_or_answering = [node for node, cut in zip(candidates, cut_off(bench, candidates), strict=True) if not cut]
    if not open_or_answering:
        return candidates
    for node in candidates:
        if node not in open_or_answering:
            node.drop("cut off")
    return open_or_answering


def cut_off(bench: Workbench, nodes: list[Node]) -> list[bool]:
    """Of each node whether a limit ended it before it states an answer."""
    return [node.trajectory.truncated and answer is None for node, answer in zip(nodes, bench.answers(nodes), strict=True)]
