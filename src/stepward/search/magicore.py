"""MAgICoRe: refine all samples of hard problems by reviews of their low steps, vote on easy ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepward.core import InputError, Node, Policy, RewardModel
from stepward.search.chain import How, Revisions, Say, check_how, check_say, critic_of, reviser_of
from stepward.search.choose import majority_vote, weighted_vote
from stepward.search.evaluator import set_value
from stepward.search.feedback import Critic, critiques
from stepward.search.revise import Reviser
from stepward.search.sampled import at_least_one
from stepward.search.strategy import Strategy
from stepward.search.watching import announce
from stepward.search.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class MAgICoRe(Strategy):
    """Samples `k` solutions; where they are hard to decide between, reviews and rewrites them all, keeps the best `k` of old and new, and votes.

    A solution is worth w = o + p, with o its outcome score and p the product of its step scores, both probabilities. The problem is hard iff the mean w of the
    samples with the majority's answer is below `center` and the answers are uncertain by o or by p: confidence 2 (1 - sigmoid(H)) < `confidence`, H the
    entropy (nats) of the answers weighted by their summed o, or p. In each of `iterations` rounds, while hard: every solution of the pool is reviewed
    ("scores" or "prompt", with scores out of 10; steps below `threshold` are to be explained) and rewritten once; the `k` of largest w of old and new are the
    pool. Answer: the answer with the largest sum of w in the pool, represented by its best solution.

    `model` gives the step scores, `orm` the outcome (its score of the last step; none: the model's). `center` None is the mean w of the problem's own samples;
    the authors take the mean over the data set of every problem's first sample (`mean_worth`); their division by the standard deviation cannot change a sign.
    `refiner` reviews and writes (none: the policy). revise_by "resume" goes back to before the first step below `threshold`.

    Cost: k solutions, 2 k scores; each round as many again, and k reviews. Defaults: k 40, 3 iterations, 0.6 and 0.5 of the authors' repository, which samples
    at temperature 0.8 and top-p 0.95.
    Differences: rounds go on from the pool (theirs judges and rewrites the newest solutions only, and votes on the last two rounds); solutions without an
    answer neither vote nor count in the entropy; unscored ones do not either.
    (MAgICoRe: Multi-Agent, Iterative, Coarse-to-Fine Refinement for Reasoning, 2024.)
    """

    model: RewardModel
    orm: RewardModel | None = None
    refiner: Policy | None = None
    k: int = 40
    iterations: int = 3
    center: float | None = None
    confidence: float = 0.5
    threshold: float = 0.6
    criticise_by: Say = "prompt"
    revise_by: How = "prompt"
    critic: Critic | None = None
    reviser: Reviser | None = None

    name = "magicore"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, k=self.k, iterations=self.iterations)
        check_how(self, revise_by=self.revise_by)
        check_say(self, self.criticise_by)
        for model in (self.model, self.orm or self.model):
            if model.scale != "probability":
                raise InputError(f"MAgICoRe adds probabilities, but {model.fingerprint} gives scores on the scale {model.scale!r}; calibrate it first")
        if not 0.0 <= self.confidence <= 1.0:
            raise InputError(f"MAgICoRe.confidence must lie in [0, 1], got {self.confidence!r}")

    async def grow(self, bench: Workbench) -> None:
        writer, revisions = self.refiner or self.policy, Revisions(bench)
        critic = self.critic or critic_of(self.criticise_by, writer, self.threshold)
        reviser = self.reviser or reviser_of(self.revise_by, writer, self.environment)
        outcomes: dict[int, float] = {}
        pool, left = list[Node](), self.k
        while left:
            n = bench.portion(left)
            drawn = await bench.complete([bench.root], n)
            await self._weigh(bench, drawn, outcomes)
            pool, left = [*pool, *drawn], left - n
        for iteration in range(self.iterations):
            if not self._hard(bench, pool, outcomes):
                return
            reviews = await critiques(bench, critic, [node.trajectory for node in pool], [node.scores for node in pool], draw=iteration * self.k)
            made = await revisions.of(reviser, pool, reviews)
            revised = [revision for revision_of in made for revision in revision_of]
            await self._weigh(bench, revised, outcomes)
            pool = bench.keep([*pool, *revised], self.k)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        """The weighted vote of those that were not dropped."""
        return weighted_vote(bench.answers(ends), [math.nan if end.dropped else end.value for end in ends])

    async def _weigh(self, bench: Workbench, nodes: Sequence[Node], outcomes: dict[int, float]) -> None:
        """value = o + p; `outcomes` keeps o. Where two models share a budget they take turns, lest the first spend it all."""
        shared = self.orm is not None and bench.budget.counted.keys() - {"policy_tokens"}
        for batch in [[node] for node in nodes] if shared else [nodes]:
            trajectories = [node.trajectory for node in batch]
            steps = await bench.score(self.model, trajectories)
            whole = await bench.score(self.orm, trajectories) if self.orm is not None else steps
            for node, scores, outcome in zip(batch, steps, whole, strict=True):
                outcomes[node.index], node.scores = outcome.overall("last"), scores
                reasons = (reason for reason in (*scores.reasons, *outcome.reasons) if reason)
                set_value(node, outcomes[node.index] + scores.overall("product"), next(reasons, "there is no step to score"))
        announce(bench.tree)

    def _hard(self, bench: Workbench, pool: Sequence[Node], outcomes: dict[int, float]) -> bool:
        known = [node for node in pool if not math.isnan(node.value)]
        answers = bench.answers(known)
        o = [outcomes[node.index] for node in known]
        p = [node.value - outcome for node, outcome in zip(known, o, strict=True)]
        return is_hard(answers, o, p, center=self.center, confidence=self.confidence)


def is_hard(answers: Sequence[str | None], o: Sequence[float], p: Sequence[float], *, center: float | None = None, confidence: float = 0.5) -> bool:
    """Whether a problem needs refinement (see `MAgICoRe`), from its solutions' answers, outcome scores o and products p of step scores, in [0, 1].

    False where no solution states an answer: nothing tells its answers apart. Solutions without an answer count only in the mean that stands for `center` None.
    """
    chosen = majority_vote(answers)
    if chosen is None:
        return False
    worth = [one + other for one, other in zip(o, p, strict=True)]
    middle = math.fsum(worth) / len(worth) if center is None else center
    agreeing = [value for value, answer in zip(worth, answers, strict=True) if answer == answers[chosen]]
    doubtful = math.fsum(agreeing) / len(agreeing) < middle - 1e-12  # rounding is no doubt
    return doubtful and min(answer_confidence(answers, o), answer_confidence(answers, p)) < confidence


def answer_confidence(answers: Sequence[str | None], weights: Sequence[float]) -> float:
    """2 (1 - sigmoid(H)) in (0, 1], H the entropy (nats) of the answers, each weighted by its summed weights >= 0.

    1 for one answer; below 0.5 iff H > ln 3, when more than three answers share the weight. Where all weights are 0, every solution weighs the same (the
    authors' quotient is then not a number, and no problem hard).
    """
    votes = [(answer, weight) for answer, weight in zip(answers, weights, strict=True) if answer is not None]
    if not any(weight for _, weight in votes):
        votes = [(answer, 1.0) for answer, _ in votes]
    totals: dict[str, float] = {}
    for answer, weight in votes:
        totals[answer] = totals.get(answer, 0.0) + weight
    whole = math.fsum(totals.values())
    shares = [total / whole for total in totals.values() if total > 0.0]
    entropy = -math.fsum(share * math.log(share) for share in shares)
    return 2.0 / (1.0 + math.exp(entropy))


def mean_worth(firsts: Sequence[float]) -> float:
    """`center` for a data set, from o + p of the first sample of every problem; unknown ones are left out. Raises: InputError when none is known."""
    known = [value for value in firsts if not math.isnan(value)]
    if not known:
        raise InputError("mean_worth needs at least one known value")
    return math.fsum(known) / len(known)
