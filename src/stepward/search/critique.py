"""Generate, critique, refine: one draft, improved round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepward.core import Aggregation, Node, Policy, RewardModel, check_aggregation, top
from stepward.search.chain import How, Revisions, Say, better, check_how, check_say, critic_of, reviser_of, standing
from stepward.search.evaluator import Scored
from stepward.search.feedback import Critic, critiques
from stepward.search.revise import Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class CritiqueRefine(Strategy):
    """Drafts, criticises, rewrites and keeps the better, `rounds` times: the score of what is kept never falls.

    Round r: the critic reads b, the best so far; `n` revisions of b are written; b <- the best of them where its score is strictly higher. It ends early
    when the score of b reaches `enough`. An unscored revision replaces nothing, an unscored draft is replaced by anything scored.

    criticise_by: "scores" tells the steps scored below `threshold` (none: the model's own) and what a generative reward model wrote about them; "prompt" asks
    the refiner for a critique; `critic` takes their place. revise_by: "prompt" shows the refiner draft and critique, "resume" goes back to before the first
    suspected step; `reviser` takes their place. `refiner` writes (none: the policy).

    Cost: 1 + rounds x n solutions and scores, and `rounds` critiques.
    Defaults: rounds 3 as the refinement of Bag of Tricks: Benchmarking and Improving LLM Reasoning with Inference Time Computation (2025); n 1.
    Difference: the source of the loop criticises images in several dimensions and rewrites the prompt of their generator; here solutions are rewritten.
    (Self-Refine: Iterative Refinement with Self-Feedback, 2023, with a reward model to keep the best.)
    """

    model: RewardModel
    refiner: Policy | None = None
    rounds: int = 3
    n: int = 1
    enough: float | None = None
    threshold: float | None = None
    aggregation: Aggregation = "min"
    criticise_by: Say = "scores"
    revise_by: How = "prompt"
    critic: Critic | None = None
    reviser: Reviser | None = None

    name = "critique-refine"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, rounds=self.rounds, n=self.n)
        check_aggregation(self.aggregation)
        check_how(self, revise_by=self.revise_by)
        check_say(self, self.criticise_by)

    async def grow(self, bench: Workbench) -> None:
        writer, revisions = self.refiner or self.policy, Revisions(bench)
        critic = self.critic or critic_of(self.criticise_by, writer, self.threshold)
        reviser = self.reviser or reviser_of(self.revise_by, writer, self.environment)
        (best,) = await bench.complete([bench.root], 1)
        await self._judge.evaluate(bench, [best])
        for number in range(self.rounds):
            if self.enough is not None and best.value >= self.enough:
                return
            (told,) = await critiques(bench, critic, [best.trajectory], [best.scores], draw=number)
            (made,) = await revisions.of(reviser, [best], told, self.n)
            await self._judge.evaluate(bench, made)
            best = keep_better(best, made)

    @property
    def _judge(self) -> Scored:
        return Scored(model=self.model, aggregation=self.aggregation)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        del bench
        return standing(ends)


def keep_better(kept: Node, made: list[Node], *, key: Callable[[Node], float] = lambda node: node.value) -> Node:
    """The best of the new ones where it is strictly better than what was kept; whoever loses is dropped."""
    best = next(iter(top(made, 1, key=key)), kept)
    if not better(key(best), key(kept)):
        best = kept
    for node in (kept, *made):
        if node is not best:
            node.drop(f"not better than node {best.index}" if node.reason is None else f"unscored: {node.reason}")
    return best
