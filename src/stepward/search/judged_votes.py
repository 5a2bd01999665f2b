"""Votes on what judges say: solutions that a judge accepts, and judgements that a judge of judgements accepts. Judges are reward models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stepward.core import Aggregation, InputError, Node, Problem, RewardModel, Scale, Step, StepScores, Trajectory, check_aggregation
from stepward.labeling.judges.asking import drawn
from stepward.search.choose import majority_vote
from stepward.search.evaluator import Evaluator, set_value
from stepward.search.sampled import BestOfN, at_least_one, judged_solutions
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """v = 1 where the judge finds no error, 0 where it names one."""

    model: RewardModel

    scale: ClassVar[Scale] = "probability"

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        def take(index: int, scores: StepScores) -> None:
            nodes[index].scores = scores
            error = None if scores.n_unscored == len(scores) else scores.first_error()  # a judge that only abstains has accepted nothing
            set_value(nodes[index], math.nan if error is None else float(error < 0), next((reason for reason in scores.reasons if reason), "not judged"))

        await bench.score(self.model, [node.trajectory for node in nodes], take=take)


@dataclass(frozen=True, kw_only=True)
class SelfRerank(Strategy):
    """Draw `n` solutions, let the judge name the first error of each, and answer the majority of those in which it finds none; of all where it rejects all.

    The judge is meant to be the policy itself as a critic (`--model critic:...`): whether that helps is a question of its precision P(right | accepted),
    which is low on hard problems. A judge that accepts right and wrong solutions alike changes the majority vote by chance only. Solutions that it cannot
    judge are not accepted. A node's value is 1 accepted, 0 rejected; `source["notes"]`: n_accepted.

    Cost: n solutions and n judgements, in turns where they share a limit.
    Is PRM Necessary? Problem-Solving RL Implicitly Induces PRM Capability in LLMs (2025), from its abstract: "Self-PRM".
    """

    model: RewardModel
    n: int = 16

    name = "self-rerank"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n)

    @property
    def evaluator(self) -> Evaluator:
        """What a solution is worth."""
        return Accepted(model=self.model)

    async def grow(self, bench: Workbench) -> None:
        try:
            await judged_solutions(bench, self.n, self.evaluator)
        finally:
            bench.notes["n_accepted"] = sum(node.value == 1.0 for node in bench.tree.ends)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        answers = bench.answers(ends)
        accepted = majority_vote([answer if end.value == 1.0 else None for answer, end in zip(answers, ends, strict=True)])
        return majority_vote(answers) if accepted is None else accepted


@dataclass(frozen=True, kw_only=True)
class MetaVote(BestOfN):
    """Best-of-n by `k` judgements of each solution: S = sum of the scores of the `k_meta` judgements that a meta-judge trusts most.

    The judge gives k answers of its own noise each; the meta-judge, a reward model, scores every judgement, read as one step behind problem and solution.
    k_meta = k is the plain sum and asks no meta-judge. Sums of k integer scores take k times as many values as one score, so ties fall with k. Judgements
    that failed are left out and the sum is scaled up to k_meta; judgements that the meta-judge cannot score are trusted least. Drawing and judging take turns
    where they share a limit; a search that is stopped before the meta-judge was asked trusts all judgements that it has.

    Cost: n solutions, n k judgements, and n k scores of the meta-judge where k_meta < k. Inference-Time Scaling for Generalist Reward Modeling (2025), with
    k_meta = k / 2 from there. Difference: solutions are judged one by one, where the paper shows them all to the judge in an order shuffled for each judgement.
    """

    meta: RewardModel | None = None
    n: int = 8
    k: int = 8
    k_meta: int | None = None
    aggregation: Aggregation = "mean"

    name = "meta-vote"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, k=self.k, k_meta=self.n_trusted)
        check_aggregation(self.aggregation)
        if self.n_trusted > self.k:
            raise InputError(f"MetaVote.k_meta must be at most k = {self.k}, got {self.k_meta}")
        if self.n_trusted < self.k and self.meta is None:
            raise InputError(
                f"MetaVote needs a meta-judge (meta) to trust {self.n_trusted} of {self.k} judgements; give one, or k_meta={self.k} for the plain sum"
            )
        drawn(self.model, self.k)

    @property
    def n_trusted(self) -> int:
        """Judgements that are summed: k_meta, by default half of k (at least one), or all of them without a meta-judge."""
        if self.k_meta is not None:
            return self.k_meta
        return self.k if self.meta is None else max(1, self.k // 2)

    @property
    def evaluator(self) -> Evaluator:
        """What a solution is worth."""
        return Trusted(model=self.model, meta=self.meta, k=self.k, k_meta=self.n_trusted, aggregation=self.aggregation)


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """v = sum of the scores of those `k_meta` of k judgements that the meta-judge trusts most."""

    model: RewardModel
    meta: RewardModel | None
    k: int
    k_meta: int
    aggregation: Aggregation

    @property
    def scale(self) -> Scale:
        return self.model.scale if self.k_meta == 1 else "logit"

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        judgements: list[list[StepScores]] = [[] for _ in nodes]
        trust: list[list[float]] | None = None
        try:
            for judge in drawn(self.model, self.k):
                await bench.score(judge, [node.trajectory for node in nodes], take=lambda index, scores: judgements[index].append(scores))
            trust = await self._trust(bench, nodes, judgements)
        finally:
            for place, (node, heard) in enumerate(zip(nodes, judgements, strict=True)):
                if heard:
                    self._sum_up(node, heard, None if trust is None else trust[place])

    def _sum_up(self, node: Node, heard: list[StepScores], trust: list[float] | None) -> None:
        """The node's value from its judgements; all of them count where it is not known whom to trust."""
        known = [index for index, scores in enumerate(heard) if not math.isnan(scores.overall(self.aggregation))]
        best = known if trust is None else sorted(known, key=lambda index: -trust[index])[: self.k_meta]
        total = math.fsum(heard[index].overall(self.aggregation) for index in best)
        node.scores = heard[best[0]] if best else heard[0]
        set_value(node, total * self.k_meta / len(best) if best else math.nan, next((r for r in heard[0].reasons if r), "not judged"))

    async def _trust(self, bench: Workbench, nodes: Sequence[Node], judgements: list[list[StepScores]]) -> list[list[float]]:
        """The meta-judge's score of every judgement; -inf where it has none."""
        if self.k_meta == self.k or self.meta is None:
            return [[0.0] * self.k for _ in nodes]
        asked = [judgement(node.trajectory, scores) for node, heard in zip(nodes, judgements, strict=True) for scores in heard]
        found = [scores.overall("last") for scores in await bench.score(self.meta, asked)]
        flat = [-math.inf if math.isnan(value) else value for value in found]
        return [flat[start : start + self.k] for start in range(0, len(flat), self.k)]


def judgement(solution: Trajectory, scores: StepScores) -> Trajectory:
    """A judgement as a meta-judge reads it: the problem and its solution as the prompt, rationales and scores of the steps as the one step."""
    said = [
        "\n".join(part for part in (rationale or "", f"Score of step {index + 1}: {'none' if math.isnan(value) else format(value, 'g')}") if part)
        for index, (rationale, value) in enumerate(zip(scores.rationales, scores.values, strict=True))
    ]
    prompt = f"{solution.problem.prompt}\n\n{solution.text}"
    return Trajectory(Problem(prompt), (Step("\n".join(said)),), finished=True)
