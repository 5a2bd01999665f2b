"""Strategies that draw n whole solutions and choose one: majority vote, best-of-n, weighted best-of-n and the votes between them."""

from __future__ import annotations

from dataclasses import dataclass

from stepward.core import Aggregation, InputError, Node, RewardModel, check_aggregation
from stepward.search.choose import frequency_reward_vote, hybrid_vote, majority_vote, weighted_vote
from stepward.search.evaluator import Evaluator, Scored
from stepward.search.strategy import Strategy
from stepward.search.workbench import OutOfBudget, Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class Majority(Strategy):
    """Draw `n` solutions, answer what most of them answer; ties go to the answer seen first (Self-Consistency, 2022). Cost: n solutions."""

    n: int = 16

    name = "majority"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n)

    async def grow(self, bench: Workbench) -> None:
        await bench.complete([bench.root], self.n)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        return majority_vote(bench.answers(ends))


@dataclass(frozen=True, kw_only=True)
class BestOfN(Strategy):
    """Draw `n` solutions, answer the one that the reward model likes best (Cobbe et al., Training Verifiers, 2021). Cost: n solutions, n scores.

    Where drawing and judging share a limit (calls, FLOPs, seconds) they take turns, so that what was drawn is also judged.
    Candidates that cannot be scored never win; if none can, nothing is chosen. Invariant to any increasing map of the scores.
    """

    model: RewardModel
    n: int = 16
    aggregation: Aggregation = "min"

    name = "best-of-n"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, n=self.n)
        check_aggregation(self.aggregation)

    @property
    def evaluator(self) -> Evaluator:
        """What a solution is worth."""
        return Scored(model=self.model, aggregation=self.aggregation)

    async def grow(self, bench: Workbench) -> None:
        await judged_solutions(bench, self.n, self.evaluator)


@dataclass(frozen=True, kw_only=True)
class WeightedBestOfN(BestOfN):
    """Draw `n` solutions, answer argmax over answers a of the summed value of the candidates that answer a (Li et al., DIVERSE, 2022).

    Scores that are no chances (logits) are first mapped to [0, 1] by their minimum and maximum, so that adding a constant to all of them changes nothing.
    Cost: n solutions, n scores.
    """

    name = "weighted"

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        return weighted_vote(bench.answers(ends), [end.value for end in ends], signed=self.evaluator.scale != "probability")


@dataclass(frozen=True, kw_only=True)
class HybridVote(BestOfN):
    """The majority's answer where at least a share `consensus` of the votes agrees, else the candidate of largest value.

    Cost: n solutions, n scores. HMR of Uncertainty-Based Methods for Automated Process Reward Data Construction and Output Aggregation (2025); the default of
    `consensus` is a reconstruction.
    """

    consensus: float = 0.5

    name = "hybrid-vote"

    def __post_init__(self) -> None:
        super().__post_init__()
        hybrid_vote([], [], consensus=self.consensus)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        return hybrid_vote(bench.answers(ends), [end.value for end in ends], consensus=self.consensus)


@dataclass(frozen=True, kw_only=True)
class FrequencyRewardVote(BestOfN):
    """The answer of largest alpha x mean value + (1 - alpha) x share, both mapped to [0, 1] over the answers by their minimum and maximum.

    Cost: n solutions, n scores. WRF of Uncertainty-Based Methods for Automated Process Reward Data Construction and Output Aggregation (2025); the default of
    alpha is a reconstruction.
    """

    alpha: float = 0.5

    name = "frequency-reward"

    def __post_init__(self) -> None:
        super().__post_init__()
        frequency_reward_vote([], [], alpha=self.alpha)

    def choose(self, bench: Workbench, ends: list[Node]) -> int | None:
        return frequency_reward_vote(bench.answers(ends), [end.value for end in ends], alpha=self.alpha)


async def solutions(bench: Workbench, n: int) -> list[Node]:
    """A portion of the search's solutions: `n`, or fewer where requests fail. That all of them fail does not end the search, which may ask for more.

    Raises: OutOfBudget.
    """
    try:
        return await bench.complete([bench.root], n)
    except OutOfBudget:
        raise
    except Stopped:
        return []


async def judged_solutions(bench: Workbench, n: int, evaluator: Evaluator) -> None:
    """Draw `n` solutions and judge them, in turns where the two share a limit (see `Workbench.portion`)."""
    while n:
        asked = bench.portion(n)
        await evaluator.evaluate(bench, await solutions(bench, asked))
        n -= asked


def at_least_one(strategy: Strategy, **counts: int) -> None:
    """Raises: InputError for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{type(strategy).__name__}.{name} must be at least 1, got {count}")
