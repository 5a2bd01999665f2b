"""Early rejection: step beam search that judges steps by their first tokens and finishes the good ones only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stepward.core import Node
from stepward.search.beam import StepBeam, cut_off, without_cut_off
from stepward.search.breaking import Breaking, Finishing, Patient
from stepward.search.sampled import at_least_one
from stepward.search.workbench import Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class EarlyRejection(StepBeam):
    """A step beam whose candidates are broken off after `tau` tokens: the partial text is scored, the `width` best are finished, the others never are.

    Nothing is scored again when it is whole: a finished step keeps the score of its first tau tokens, and so does the answer. Steps that are whole within
    tau tokens are not written on. With tau at least as long as every step this is StepBeam, draw for draw.

    A finished step continues the very tokens of its beginning where the policy can take a step up (local models, servers); with any other policy the same draw
    is asked for again, which gives the same text and pays for tau tokens twice. In the tree a broken-off step is a node of kind "partial"; the node that
    finishes it has the same parent and `revises` it.

    Where all that was finished turns out cut off, without an answer, the next best are finished instead.

    Cost per level of N = width x expansions candidates and steps of l > tau tokens: N tau + width (l - tau) policy tokens (N tau + width l where a draw is
    asked for again), N scores of partial texts. The gap between the best and the others being sub-Gaussian, P(best dropped) <= (N - 1) exp(-c tau gap^2).

    Accelerating LLM Reasoning via Early Rejection with Partial Reward Modeling (2025). Defaults of its public code: tau 64, and a quarter of the candidates
    kept; it keeps 4 of 16. Differences from it: ended candidates stay in the beam; steps are as long as the sampling allows (there 256 tokens).
    """

    tau: int = 64

    name = "early-rejection"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, tau=self.tau)

    async def grow(self, bench: Workbench) -> None:
        breaking = Breaking(self.policy, self.tau)
        bench.environment = Patient(bench.environment, breaking) if bench.environment.interactive else bench.environment
        kept = frontier = [bench.root]
        expansions = self.n_first
        for level in range(self.sampling.max_steps):
            begun = await bench.expand(frontier, expansions, policy=breaking)
            for node in begun:
                if breaking.broke_off(node.trajectory):
                    node.kind = "partial"
                    node.trajectory = replace(node.trajectory, truncated=False)
            await self.evaluator.evaluate(bench, begun)
            candidates = without_cut_off(bench, [*(node for node in kept if node.ended), *begun])
            kept = await self.select_whole(bench, breaking, candidates, f"going on with step {level}")
            frontier = [node for node in kept if not node.ended]
            expansions = self.expansions
            if not frontier:
                return
        raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and {len(frontier)} kept prefixes had not ended")

    async def select_whole(self, bench: Workbench, breaking: Breaking, candidates: list[Node], name: str) -> list[Node]:
        """The candidates to keep, finished. Where all of them turn out cut off, the next best are finished instead."""
        while True:
            chosen = self.select(bench, candidates)
            kept = await self.finished(bench, breaking, chosen, name)
            candidates = [node for node in candidates if node not in chosen]
            if not candidates or not all(cut_off(bench, kept)):
                return without_cut_off(bench, kept)
            for node in kept:
                node.drop("cut off")
            for node in candidates:  # they are wanted after all
                node.closed, node.dropped = False, None
            name += ", again"

    async def finished(self, bench: Workbench, breaking: Breaking, kept: list[Node], name: str) -> list[Node]:
        """The kept nodes, with every broken-off step replaced by the whole one; those that could not be finished are dropped."""
        partial = [node for node in kept if node.kind == "partial"]
        if not partial:
            return kept
        draws = [(node.trajectory, breaking.draw_of(node.trajectory)) for node in partial]
        finishing = Finishing(self.policy, draws, name)
        parents = [node.parent for node in partial if node.parent is not None]
        whole: dict[int, Node] = {}
        for child in await bench.expand(parents, policy=finishing):
            begun = partial[finishing.place_of(child.trajectory)]
            child.revises, child.value, child.scores, child.reason = begun.index, begun.value, begun.scores, begun.reason
            begun.closed = True
            whole[begun.index] = child
        for node in partial:
            if node.index not in whole:
                node.drop("could not be finished")
        return [whole.get(node.index, node) for node in kept if node.kind != "partial" or node.index in whole]
