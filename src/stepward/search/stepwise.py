"""Stepwise refinement: a chain of steps in which a doubtful one is explained and written anew before the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stepward.core import InputError, Node, Policy, RewardModel, Until
from stepward.search.chain import How, Revisions, Say, check_how, check_say, critic_of, reviser_of, standing, usable
from stepward.search.critique import keep_better
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.feedback import Critic, critiques
from stepward.search.revise import Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class RefineSteps(Strategy):
    """Writes step by step; a step whose value is below `threshold` is explained and rewritten, and the better of old and new is kept.

    At each prefix `samples` next steps are drawn and the best one, of value v, is taken. If v < `threshold` (or unknown, as of a step that a limit cut off), a
    critic says what may be wrong and `n` rewritten steps compete with it; a rewritten one must be strictly better. v is the `evaluator`'s (none: the score of
    the newest step).
    criticise_by, revise_by, `critic`, `reviser`, `refiner`: as in critique-refine, for one step.

    Cost for T steps of l tokens: T x samples x l, and n x l, n scores and one critique for each doubtful step.
    Defaults: threshold 0.5, samples 1, n 1 (the paper publishes none).
    Difference: the paper's look-ahead (temporal difference) is an evaluator, to be given as one.
    (ReARTeR: Retrieval-Augmented Reasoning with Trustworthy Process Rewarding, 2025.)
    """

    model: RewardModel
    refiner: Policy | None = None
    evaluator: Evaluator | None = None
    threshold: float = 0.5
    samples: int = 1
    n: int = 1
    criticise_by: Say = "scores"
    revise_by: How = "prompt"
    critic: Critic | None = None
    reviser: Reviser | None = None

    name = "refine-steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, samples=self.samples, n=self.n)
        check_how(self, revise_by=self.revise_by)
        check_say(self, self.criticise_by)
        if self.threshold != self.threshold:
            raise InputError("RefineSteps.threshold is not a number; give the value below which a step is rewritten")

    async def grow(self, bench: Workbench) -> None:
        writer, revisions = self.refiner or self.policy, Revisions(bench)
        critic = self.critic or critic_of(self.criticise_by, writer, self.threshold)
        reviser = self.reviser or reviser_of(self.revise_by, writer, self.environment, until=Until.STEP, local=True)
        evaluator = self.evaluator or Scored(model=self.model, aggregation="last")
        node = bench.root
        while not node.ended:
            if len(node.trajectory) >= self.sampling.max_steps:
                raise Stopped(f"no more than {self.sampling.max_steps} steps are allowed (max_steps), and the chain had not ended")
            parent, children = node, await bench.expand([node], self.samples)
            await evaluator.evaluate(bench, children)
            (node,) = bench.keep(children, 1, key=usable)
            if not usable(node) >= self.threshold:
                (told,) = await critiques(bench, critic, [node.trajectory], [node.scores])
                (made,) = await revisions.of(reviser, [node], replace(told, first_suspect=len(parent.trajectory)), self.n)
                await evaluator.evaluate(bench, made)
                node = keep_better(node, made, key=usable)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        del bench
        return standing(ends)
