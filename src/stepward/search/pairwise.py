"""A step beam whose finalists are compared in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepward.core import Aggregation, InputError, Node, Policy
from stepward.search.beam import StepBeam
from stepward.search.choose import argmax, mean_preferences
from stepward.search.preference import Preference, price_of_pairs, round_robin
from stepward.search.purse import check_price
from stepward.search.select import near_max
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class PairwiseBeam(StepBeam):
    """A step beam; when all of its `width` prefixes have ended, every two of them are compared, and the one with the largest mean preference answers.

    Scores of a reward model are noisy from one solution to the next; a model that sees both solutions need not be. `delta` > 0 keeps prefixes at random: each
    of the `width` places is uniform among the remaining candidates within `delta` of the best remaining value, so that near ties are not always decided
    alike. A finalist's `visits` and `value_sum` in the tree count its comparisons. Where they could not be made (budget, failures), the largest value answers.
    A width that holds all candidates makes the search exhaustive. `preference` compares, or a `judge`: a policy with the prompt of `PairwiseJudge`, asked in
    both orders. Cost for T steps of l tokens: width x expansions x T x l policy tokens, and width (width - 1) / 2 comparisons.
    (BPP-Search: Enhancing Tree of Thought Reasoning for Mathematical Modeling Problem Solving, 2024; delta: its Random Greedy.)
    Defaults: width 3, the paper's 2 to 3. Difference: steps are the policy's, not the five stages of a modelling problem.
    """

    judge: Policy | None = None
    preference: Preference | None = None
    width: int = 3
    aggregation: Aggregation = "last"
    delta: float = 0.0

    name = "pairwise-beam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.judge is None) == (self.preference is None):
            raise InputError("PairwiseBeam needs a judge (a policy that is asked which of two solutions is better) or a preference, one of them")
        if not self.delta >= 0.0:
            raise InputError(f"PairwiseBeam.delta must be at least 0, got {self.delta!r}")
        if self.answer_by != "best":
            raise InputError(f"PairwiseBeam chooses its answer by comparisons, so answer_by must be 'best', got {self.answer_by!r}")
        check_price(self, self.comparer.fingerprint, lambda solution: price_of_pairs(self.comparer, solution.problem, [(solution, solution)]))

    @property
    def comparer(self) -> Preference:
        """Who compares the finalists."""
        if self.preference is not None:
            return self.preference
        from stepward.rewards.generative import PairwiseJudge

        assert self.judge is not None
        return PairwiseJudge(self.judge)

    async def grow(self, bench: Workbench) -> None:
        await super().grow(bench)
        finalists = [node for node in bench.tree.ends if node.dropped is None]
        preferences = await round_robin(bench, self.comparer, [node.trajectory for node in finalists])
        for node, row, mean in zip(finalists, preferences, mean_preferences(preferences), strict=True):
            node.visits = sum(not math.isnan(chance) for chance in row)
            node.value_sum = mean * node.visits if node.visits else 0.0

    def select(self, bench: Workbench, candidates: list[Node]) -> list[Node]:
        if not self.delta:
            return super().select(bench, candidates)
        picked = near_max([node.value for node in candidates], self.width, delta=self.delta, uniforms=bench.random(min(self.width, len(candidates))))
        rank = {candidates[index].index: -place for place, index in enumerate(picked)}
        why = f"not drawn among those within {self.delta:g} of the best"
        return bench.keep(candidates, self.width, key=lambda node: rank.get(node.index, -math.inf), why=why)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        compared = argmax([end.q if end.visits else math.nan for end in ends])
        return super().choose(bench, ends) if compared is None else compared
