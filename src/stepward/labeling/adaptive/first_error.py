"""label_first_error: the search for the first error. The model behind it is in `changepoint`, the next question in `choice`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from stepward.core import NO_ERROR, Count, StepLabels, Trajectory
from stepward.labeling.adaptive.chain import Chain
from stepward.labeling.adaptive.changepoint import Posterior, infer
from stepward.labeling.adaptive.choice import Costs, information
from stepward.labeling.adaptive.prior import Prior
from stepward.labeling.adaptive.witness import Witness
from stepward.labeling.completer import Completer, RolloutBank


async def label_first_error(
    completer: Completer,
    trajectory: Trajectory,
    *,
    prior: Prior,
    error: float,
    least_gain: float,
    batch: int,
    max_rollouts: int,
    witnesses: Sequence[Witness] = (),
    pool: Count | None = None,
    level: float = 0.95,
) -> StepLabels:
    """Ask where an answer tells most about the first error per token, until it is settled; see `Adaptive`."""
    if len(trajectory) == 0:
        return StepLabels(np.array([]), "prefix", first_error=NO_ERROR)
    search = await Search.begin(completer, trajectory, witnesses, pool)
    while True:
        posterior = infer(search.chain, prior)
        if posterior.first_error.max() >= 1.0 - error:
            why = "settled"
            break
        question, worth = search.best_question(posterior)
        if worth < least_gain or worth <= 0.0:
            why = "nothing left worth its tokens"
            break
        if isinstance(question, int) and len(search.bank.rollouts) >= max_rollouts:
            why = "max_rollouts reached"
            break
        await search.ask(question, min(batch, max_rollouts - len(search.bank.rollouts)))
    if search.knows_nothing:
        return StepLabels.unlabelled(len(trajectory), search.why_nothing, semantics="prefix")
    return _labels(search, posterior, why, level)


@dataclass(eq=False)
class Search:
    """What is known about one trajectory, and what can still be asked: rollouts from its open prefixes, and witnesses that were not heard.

    said: what witnesses said about each step. closed: prefixes from which no rollout can be had.
    """

    trajectory: Trajectory
    chain: Chain
    bank: RolloutBank
    costs: Costs
    waiting: list[Witness]
    said: list[list[dict[str, Any]]]
    closed: set[int]

    @classmethod
    async def begin(cls, completer: Completer, trajectory: Trajectory, witnesses: Sequence[Witness], pool: Count | None) -> Search:
        """What is known for nothing: the outcome of the trajectory, and those of other solutions of its problem."""
        outcome = await completer.grade(trajectory) if trajectory.ended else None
        chain = Chain(len(trajectory), None if outcome is None else outcome.correct)
        if pool is not None:
            chain.pool(pool.successes, pool.rollouts)
        costs = Costs(np.array([step.n_tokens or max(1, len(step.text.split())) for step in trajectory.steps], dtype=np.float64))
        closed = {len(trajectory)} if trajectory.ended else set()
        return cls(trajectory, chain, RolloutBank(completer), costs, list(witnesses), [[] for _ in trajectory.steps], closed)

    def best_question(self, posterior: Posterior) -> tuple[int | Witness, float]:
        """The prefix or witness that tells most about the first error per token, and the nats that an average rollout's tokens buy there."""
        gains = information(posterior)
        gains[[t for t in self.closed if t < len(gains)]] = 0.0
        prices = self.costs.expected(len(gains))
        rates = gains / prices
        place = int(rates.argmax())
        question, rate = cast("int | Witness", place), float(rates[place])
        for witness in self.waiting:
            told = witness.information(posterior) / (witness.tokens + 1e-9)
            if told >= rate:
                question, rate = witness, told
        return question, rate * float(prices.mean())

    async def ask(self, question: int | Witness, n: int) -> None:
        """Hear a witness, or draw `n` rollouts from a prefix; one that gives no graded rollout is not asked again."""
        if isinstance(question, Witness):
            self.waiting.remove(question)
            for notes, note in zip(self.said, await question.testify(self.trajectory, self.chain), strict=True):
                notes += [note] if note else []
            return
        made = await self.bank.draw(self.trajectory.prefix(question), n)
        self.chain.add(self.trajectory, made)
        for rollout in made:
            self.costs.see(question, rollout.n_tokens)
        if not any(rollout.success is not None for rollout in made):
            self.closed.add(question)

    @property
    def knows_nothing(self) -> bool:
        """Neither an outcome nor a graded rollout nor a verdict."""
        return self.chain.outcome is None and not self.chain.rollouts.any() and not any(self.said)

    @property
    def why_nothing(self) -> str:
        prefixes = [self.trajectory.prefix(t) for t in range(len(self.trajectory))]
        tried = [prefix for prefix in prefixes if self.bank.at(prefix) or prefix.key in self.bank.reasons]
        return self.bank.why_none(tried[0]) if tried else "nothing is known: no outcome and no rollouts"


def _labels(search: Search, posterior: Posterior, why: str, level: float) -> StepLabels:
    chain, n = search.chain, len(search.trajectory)
    place = int(posterior.first_error.argmax())
    good = np.clip(posterior.good, 0.0, 1.0)
    hard = tuple(step < place for step in range(n))
    means = posterior.means
    evidence = []
    for step in range(n):
        notes: list[dict[str, Any]] = [{"kind": "first error", "probability": round(float(posterior.first_error[step]), 6)}]
        if step + 1 < len(means):
            low, high = posterior.interval(step + 1, level)
            notes.append({"kind": "value", "mean": round(float(means[step + 1]), 6), "low": round(low, 6), "high": round(high, 6), "interval": "credible"})
        same = int(chain.passes[step]), int(chain.deviations[step])
        if any(same):
            notes.append({"kind": "agreement", "same_step": same[0], "other_step": same[1]})
        evidence.append((*notes, *search.said[step]))
    counts = [Count(int(s), int(k)) if k else None for s, k in zip(chain.successes[1:], chain.rollouts[1:], strict=True)]
    ended = {"stopped": why, "rollouts": len(search.bank.rollouts), "no_error": round(float(posterior.first_error[-1]), 6)}
    return StepLabels(
        good,
        "prefix",
        hard,
        place if place < n else NO_ERROR,
        counts=tuple(counts),
        confidence=np.where(np.array(hard), good, 1.0 - good),
        evidence=tuple(evidence),
        source=ended,
    )
