"""Self-guided MCTS: every new step is valued and backed up at once, reflections grow beside steps, and the progress reward that it was published with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from stepward.core import Aggregation, InputError, LogprobPolicy, Node, Policy, RewardModel, Scale, StepScores, TokenLogprobs, Usage, check_aggregation
from stepward.labeling.trees.selection import uct
from stepward.search.evaluator import set_value
from stepward.search.guided_tree import GuidedTree, drawn
from stepward.search.priority import open_children
from stepward.search.sampled import at_least_one
from stepward.search.watching import announce
from stepward.search.waves import Request, ask_all
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class SelfGuidedMCTS(GuidedTree):
    """Descend by Q + c sqrt(ln N_p / (N + 1)), draw `expansions` next steps, back up the value of every one of them; `iterations` times.

    reflector: a policy that writes one more child of every expansion, a reflection (kind "reflect") from which the search goes on as from a step; at most
    `reflections` in all. A prefix of `max_depth` edges is not expanded, nor one again that only ends follow; after one was met, the next descent stops at
    each inner node with chance `expand_probability`, times `decay` a level, to expand that one again. The search ends early at an end of value above `accept`.
    The end of largest value answers. Where there is none in the end, or when half of a budget is spent, the best prefix is completed once.

    `evaluator` is meant to be `ProgressReward`. Cost for I iterations and steps of l tokens: at most I (expansions + 1) l policy tokens, that many values.
    Defaults: the authors' code (30 iterations, 5 queries, c 0, depth 4, 0.2 times 0.8 a level, 10 reflections), but for `accept`, 0 there, which suits log
    ratios and no probabilities. (Think&Cite: Improving Attributed Text Generation with Self-Guided Tree Search and Progress Reward Modeling, 2024.)
    Differences: retrieval and citation belong to the environment; ties go to the first; an end, once met, is not visited again (with c = 0 the code meets it
    for ever); the limit of reflections ends them, not the search. (EduFlow, 2025, also grows reflections in MCTS, and votes over the ends.)
    """

    iterations: int = 30
    expansions: int = 5
    c: float = 0.0
    max_depth: int | None = 4
    expand_probability: float = 0.2
    decay: float = 0.8
    accept: float | None = None
    reflector: Policy | None = None
    reflections: int = 10

    name = "self-guided-mcts"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, iterations=self.iterations, expansions=self.expansions)
        if not (self.c >= 0.0 and 0.0 <= self.expand_probability <= 1.0 and 0.0 <= self.decay <= 1.0):
            raise InputError(f"SelfGuidedMCTS needs c >= 0, expand_probability and decay in [0, 1], got {self.c}, {self.expand_probability} and {self.decay}")
        if self.reflections < 0 or (self.max_depth is not None and self.max_depth < 1):
            raise InputError(f"SelfGuidedMCTS needs reflections >= 0 and max_depth >= 1 or None, got {self.reflections} and {self.max_depth}")

    async def explore(self, bench: Workbench) -> None:
        again = finished = False
        for _ in range(self.iterations):
            if bench.root.closed:
                break
            node, stopped = self.descend(bench, self.expand_probability if again else 0.0)
            again = self.max_depth is not None and node.depth >= self.max_depth
            if again and self.expand_probability == 0.0:
                node.closed = True  # no stop at another node would lead away from it
            if not stopped and node.parent is not None and node.children:
                node.closed = again = True  # all that it leads to has ended
            if again:
                await asyncio.sleep(0)  # many of these in a row must not keep other searches waiting
                continue
            for child in await self.expand(bench, node, self.expansions):
                child.backup(child.value)
            if self.accept is not None and any(end.value > self.accept for end in bench.tree.ends):
                return
            if not finished and self.half_spent(bench):
                finished = True
                await self.finish(bench, best_prefix(bench))
        await self.finish(bench, best_prefix(bench))

    def descend(self, bench: Workbench, stop: float) -> tuple[Node, bool]:
        """The leaf below, or with chance `stop` at every inner node (times `decay` a level) that node; and whether it was such a stop."""
        node = bench.root
        while children := [child for child in open_children(node) if not child.ended]:
            if stop and bench.random()[0] < stop:
                return node, True
            above = node.visits
            node = max(children, key=lambda child: uct(child.q, child.visits + 1, above, c=self.c))
            stop *= self.decay
        return node, False

    async def propose(self, bench: Workbench, node: Node, n: int) -> list[Node]:
        children = await super().propose(bench, node, n)
        if self.reflector is None or sum(other.kind == "reflect" for other in bench.tree) >= self.reflections:
            return children
        return children + await drawn(bench, node, 1, policy=self.reflector, kind="reflect")


def best_prefix(bench: Workbench) -> Node:
    """The prefix of largest Q that has not ended, of equals the deepest."""
    known = [node for node in bench.tree if not math.isnan(node.q) and not node.ended]
    return max(known, key=lambda node: (node.q, node.depth), default=bench.root)


@dataclass(frozen=True, kw_only=True)
class ProgressReward:
    """v = mean over tokens of [ln pi(token) - ln pi_ref(token)] + weight x the model's aggregated score, where there is a `model`.

    `tuned` is pi, a policy that preferences were learned by, `reference` pi_ref, the one it was tuned from: how much more the tuned one believes in the text, a
    token. Invariant to repeating the same ratio. Both must tell log-probabilities and cut text into the same tokens; where they do not the value is unknown.
    Two requests a node, and one of the model. (Think&Cite, 2024, where the second reward is the F1 of citations.)

    Raises: InputError for policies that tell no log-probabilities. A budget of FLOPs cannot be kept, since their price is not known beforehand (Unpriced).
    """

    tuned: LogprobPolicy
    reference: LogprobPolicy
    model: RewardModel | None = None
    weight: float = 1.0
    aggregation: Aggregation = "last"

    scale: ClassVar[Scale] = "logratio"

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        for name in ("tuned", "reference"):
            if not isinstance(getattr(self, name), LogprobPolicy):
                raise InputError(f"ProgressReward.{name} must tell log-probabilities of given text; {getattr(self, name)!r} does not: use a local policy")

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        price = Usage() if bench.budget.flops is None else None  # they write nothing; what reading costs is not told
        found = [(math.nan, "the two policies were not compared")] * len(nodes)
        await ask_all(
            bench, [Request(partial(self._ratio, node), price, 2, "comparing the log-probabilities of a prefix") for node in nodes], found.__setitem__
        )
        if self.model is None:
            for node, (ratio, reason) in zip(nodes, found, strict=True):
                set_value(node, ratio, reason)
        else:

            def take(index: int, scores: StepScores) -> None:
                ratio, reason = found[index]
                nodes[index].scores = scores
                why = reason or next((said for said in scores.reasons if said), None) or "there is no step to score"
                set_value(nodes[index], ratio + self.weight * scores.overall(self.aggregation), why)

            await bench.score(self.model, [node.trajectory for node in nodes], take=take)  # half a value is none: what it does not reach stays unknown
        announce(bench.tree)

    async def _ratio(self, node: Node) -> tuple[float, str]:
        tuned, reference = await asyncio.gather(self.tuned.logprobs(node.trajectory), self.reference.logprobs(node.trajectory))
        return mean_log_ratio(tuned, reference)


def mean_log_ratio(tuned: TokenLogprobs, reference: TokenLogprobs) -> tuple[float, str]:
    """(sum ln pi - sum ln pi_ref) / number of tokens, or NaN with the reason: no token, or other tokens."""
    lengths: list[Any] = [[len(step) for step in side.steps] for side in (tuned, reference)]
    if lengths[0] != lengths[1]:
        return math.nan, "the two policies cut the text into different tokens"
    n = sum(lengths[0])
    return ((tuned.total - reference.total) / n, "") if n else (math.nan, "there is no token to compare")
