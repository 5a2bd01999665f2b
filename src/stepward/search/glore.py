"""GLoRe: a draft, refined as a whole and from its first wrong step, where an outcome reward model doubts it."""

from __future__ import annotations

from dataclasses import dataclass

from stepward.core import Aggregation, InputError, Node, Policy, RewardModel, check_aggregation
from stepward.search.chain import How, Revisions, check_how, reviser_of
from stepward.search.evaluator import Scored
from stepward.search.feedback import Feedback, suspect
from stepward.search.revise import Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class GLoRe(Strategy):
    """Refines a draft that the reward model doubts, as a whole and from its first wrong step; the best of draft and refinements is the answer.

    When: ORM(draft) < `gate` (none: always; an unscored draft is doubted). Where: t = the first step with SORM_t < `threshold`. How: the global refinement
    reads the draft; the local one keeps steps 0..t-1 verbatim and goes on from there (left out where no step is suspected). Answer: argmax of the ORM over
    the `n` drafts and their refinements, the first of equals, so with an exact ORM never worse than the draft.

    `model` is the ORM, read by `aggregation`; `locator` the step-wise ORM that names the step (none: the same model). `refiner` writes the refinements (none:
    the policy). globally, locally: "prompt" shows it the draft, "resume" goes back without a word, for policies that take no instructions. `global_reviser`
    and `local_reviser` take the place of both.

    Cost: n drafts and n scores; for each doubted draft a solution (global), the rest of one (local), two scores, and one of the locator if it is another model.
    Defaults: threshold 0.5 (the paper's); gate 0.5 and n 1 (reconstructed). Differences: the paper's refiners are models trained for it.
    (GLoRe: When, Where, and How to Improve LLM Reasoning via Global and Local Refinements, 2024.)
    """

    model: RewardModel
    locator: RewardModel | None = None
    refiner: Policy | None = None
    n: int = 1
    gate: float | None = 0.5
    threshold: float = 0.5
    aggregation: Aggregation = "last"
    globally: How = "prompt"
    locally: How = "resume"
    global_reviser: Reviser | None = None
    local_reviser: Reviser | None = None

    name = "glore"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n)
        check_aggregation(self.aggregation)
        check_how(self, globally=self.globally, locally=self.locally)
        if self.gate is not None and self.gate != self.gate:
            raise InputError("GLoRe.gate is not a number; give a score, or none to refine every draft")

    async def grow(self, bench: Workbench) -> None:
        drafts, left = list[Node](), self.n
        while left:
            n = bench.portion(left)
            drawn = await bench.complete([bench.root], n)
            await self._outcome.evaluate(bench, drawn)
            drafts, left = [*drafts, *drawn], left - n
        doubted = [draft for draft in drafts if self.gate is None or not draft.value >= self.gate]
        located = [draft.scores for draft in doubted]
        if self.locator is not None:
            located = list(await bench.score(self.locator, [draft.trajectory for draft in doubted]))
        feedback = [Feedback(first_suspect=None if scores is None else suspect(scores, self.threshold), scores=scores) for scores in located]
        revisions = Revisions(bench)
        whole = await revisions.of(self._global, doubted, [Feedback(scores=told.scores) for told in feedback])
        suspected = [(draft, told) for draft, told in zip(doubted, feedback, strict=True) if told.first_suspect is not None]
        local = await revisions.of(self._local, [draft for draft, _ in suspected], [told for _, told in suspected])
        await self._outcome.evaluate(bench, [revision for made in (*whole, *local) for revision in made])

    @property
    def _outcome(self) -> Scored:
        return Scored(model=self.model, aggregation=self.aggregation)

    @property
    def _global(self) -> Reviser:
        return self.global_reviser or reviser_of(self.globally, self.refiner or self.policy, self.environment)

    @property
    def _local(self) -> Reviser:
        return self.local_reviser or reviser_of(self.locally, self.refiner or self.policy, self.environment, local=True)
