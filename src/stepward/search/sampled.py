"""Strategies that draw n whole solutions and choose one: majority vote, best-of-n, weighted best-of-n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepward.core import (
    FAILURES,
    Aggregation,
    Environment,
    InputError,
    Node,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    SearchResult,
    Tree,
    canonical_json,
    check_aggregation,
    content_hash,
    metered,
)
from stepward.core.usage import Ledger
from stepward.environments.episode import complete
from stepward.search.choose import argmax, majority_vote, weighted_vote
from stepward.search.evaluate import evaluate


@dataclass(frozen=True, kw_only=True)
class Majority:
    """Draw `n` solutions, answer what most of them answer; ties go to the answer seen first (Self-Consistency, 2022)."""

    policy: Policy
    environment: Environment
    n: int = 16
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        check_n(self.n)

    @property
    def fingerprint(self) -> str:
        return fingerprint("majority", self.policy, self.environment, self.n, self.sampling.to_record())

    async def search(self, problem: Problem) -> SearchResult:
        with metered() as ledger:
            tree = Tree(problem)
            reason = await draw(tree, self)
            answers = [self.environment.answer(node.trajectory) for node in tree.ends]
        return conclude(tree, majority_vote(answers), ledger, self.fingerprint, reason or "no candidate states an answer")


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """Draw `n` solutions, answer the one that the reward model likes best (Cobbe et al., Training Verifiers, 2021).

    Candidates that cannot be scored never win; if none can, nothing is chosen. Invariant to any increasing map of the scores.
    """

    policy: Policy
    environment: Environment
    model: RewardModel
    n: int = 16
    aggregation: Aggregation = "min"
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        check_n(self.n)
        check_aggregation(self.aggregation)

    @property
    def fingerprint(self) -> str:
        return fingerprint("best-of-n", self.policy, self.environment, self.model, self.n, self.aggregation, self.sampling.to_record())

    async def search(self, problem: Problem) -> SearchResult:
        with metered() as ledger:
            tree = Tree(problem)
            reason = await draw(tree, self)
            await evaluate(tree.ends, self.model, self.aggregation)
        return conclude(tree, argmax([node.value for node in tree.ends]), ledger, self.fingerprint, reason or unscored(tree.ends))


@dataclass(frozen=True, kw_only=True)
class WeightedBestOfN:
    """Draw `n` solutions, answer argmax over answers a of the summed value of the candidates that answer a (Li et al., DIVERSE, 2022)."""

    policy: Policy
    environment: Environment
    model: RewardModel
    n: int = 16
    aggregation: Aggregation = "min"
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        check_n(self.n)
        check_aggregation(self.aggregation)

    @property
    def fingerprint(self) -> str:
        return fingerprint("weighted-best-of-n", self.policy, self.environment, self.model, self.n, self.aggregation, self.sampling.to_record())

    async def search(self, problem: Problem) -> SearchResult:
        with metered() as ledger:
            tree = Tree(problem)
            reason = await draw(tree, self)
            await evaluate(tree.ends, self.model, self.aggregation)
            answers = [self.environment.answer(node.trajectory) for node in tree.ends]
        chosen = weighted_vote(answers, [node.value for node in tree.ends])
        return conclude(tree, chosen, ledger, self.fingerprint, reason or "no candidate has both an answer and a score")


async def draw(tree: Tree, search: Majority | BestOfN | WeightedBestOfN) -> str | None:
    """Add `n` whole solutions under the root; the reason when none could be drawn."""
    try:
        for end in await complete(search.policy, search.environment, tree.root.trajectory, search.n, sampling=search.sampling):
            tree.add(tree.root, end)
    except FAILURES as error:
        return f"sampling failed: {error}"
    return None


def conclude(tree: Tree, chosen: int | None, ledger: Ledger, source: str, reason: str, failure: str | None = None) -> SearchResult:
    """The result with candidate number `chosen` among the tree's ends, or with the reason why there is none.

    `failure` says what ended the search early; it stays in the result's source even if there was something to choose from.
    """
    ends = tree.ends
    report: dict[str, Any] = {"search": source, "n_candidates": len(ends), "n_unscored": sum(node.reason is not None for node in ends)}
    if failure is not None:
        report["failure"] = failure
    if chosen is None:
        return SearchResult(None, tree, ledger.usage, reason, report)
    return SearchResult(ends[chosen].trajectory, tree, ledger.usage, None, report)


def unscored(nodes: list[Node]) -> str:
    return next((f"no candidate could be scored: {node.reason}" for node in nodes if node.reason), "there is no candidate")


def check_n(n: int) -> None:
    if n < 1:
        raise InputError(f"n must be at least 1 candidate, got {n}")


def fingerprint(name: str, *parts: object) -> str:
    """Name and hash of a strategy's parts and settings."""
    return f"{name}/{content_hash(canonical_json([getattr(part, 'fingerprint', part) for part in parts]))}"
