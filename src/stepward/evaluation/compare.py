"""Comparison of searches on the same problems: accuracy against compute, paired tests, and which strategies are worth their compute.

Estimates and intervals come from statistics.py, tests from paired.py, the hull from frontier.py; how a comparison is drawn is in report/strategies.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np

from stepward.core import Floats, InputError, SearchResult, Trajectory, Usage
from stepward.environments.episode import GRADING_FAILED
from stepward.evaluation.frontier import at_hull, dominating
from stepward.evaluation.paired import holm, paired_test
from stepward.evaluation.statistics import RESAMPLES, Estimate, difference_estimate, finite_or_none, mean_estimates

Cost = Literal["policy_tokens", "reward_tokens", "tokens", "flops"]
COSTS: dict[Cost, str] = {
    "policy_tokens": "policy tokens a problem",
    "reward_tokens": "reward tokens a problem",
    "tokens": "policy and reward tokens a problem",
    "flops": "FLOPs a problem",
}
Unanswered = Literal["skip", "wrong"]
Standing = Literal["hull", "undominated", "dominated", "unknown"]
_HULL_RESAMPLES = 1000
_MOST_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters of the models, for the FLOPs of those that do not count their own: 2 x parameters x tokens processed."""

    policy: float | None = None
    reward: float | None = None

    def flops(self, usage: Usage) -> float:
        """Counted FLOPs, or those of the sizes where a size is given."""
        if self.policy is None and self.reward is None:
            return float(usage.flops)
        read_and_written = usage.policy_tokens + usage.policy_prefill
        return 2.0 * ((self.policy or 0.0) * read_and_written + (self.reward or 0.0) * (usage.reward_tokens + usage.reward_written))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One strategy on P problems. `correct` [P]: outcome of the chosen solution in [0, 1], NaN where it is not known, for `reasons` [P].

    `costs`: [P] each. `failures`: how often something went wrong, by what.
    """

    name: str
    family: str
    problems: tuple[str, ...]
    correct: Floats
    reasons: tuple[str | None, ...]
    costs: Mapping[Cost, Floats]
    failures: Mapping[str, int]

    @classmethod
    def of(cls, name: str, results: Sequence[SearchResult], *, family: str = "", sizes: Sizes = Sizes(), unanswered: Unanswered = "skip") -> Trial:
        """From results whose chosen solutions are graded. `unanswered`: whether a problem without an answer counts as wrong, or is left out.

        Without an answer: nothing is chosen, or what is chosen was cut off and has no grade for that.
        Where the grader failed, the problem is left out either way.
        """
        empty = 0.0 if unanswered == "wrong" else math.nan
        correct = [empty if _unanswered(result) else _outcome(result.chosen) for result in results]
        reasons = [_why_unknown(result) for result in results]
        usages = [result.usage for result in results]
        reward = [float(usage.reward_tokens + usage.reward_written) for usage in usages]
        policy = [float(usage.policy_tokens) for usage in usages]
        costs: dict[Cost, Floats] = {
            "policy_tokens": np.array(policy),
            "reward_tokens": np.array(reward),
            "tokens": np.array(policy) + np.array(reward),
            "flops": np.array([sizes.flops(usage) for usage in usages]),
        }
        return cls(
            name=name,
            family=family or name,
            problems=tuple(result.tree.problem.key for result in results),
            correct=np.array(correct, dtype=np.float64),
            reasons=tuple(reasons),
            costs=costs,
            failures=_failures(results, reasons),
        )


@dataclass(frozen=True)
class Row:
    """A strategy in the comparison.

    `standing`: "hull" (no other, and no mixture of two others, is as right for as little), "undominated" (a mixture is, no single one), "dominated" by strategy
    `by`, or "unknown" without any known outcome. `hull_share`: the share of resampled sets of problems on which it is on the hull.
    """

    name: str
    accuracy: Estimate
    cost: Estimate
    n_unknown: int
    standing: Standing
    by: str | None
    hull_share: float

    @property
    def words(self) -> str:
        """The standing, and by whom it is dominated."""
        return f"dominated by {self.by}" if self.standing == "dominated" else self.standing


@dataclass(frozen=True)
class Pair:
    """`difference` = accuracy of `first` minus `second` on the problems where both are known. `p`: two-sided, by `test`; `p_holm` corrected for all pairs."""

    first: str
    second: str
    difference: Estimate
    test: str
    p: float
    p_holm: float

    @property
    def clear(self) -> bool:
        """Whether the difference survives the correction at 5 %."""
        return self.p_holm < 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Strategies on the same problems, against the compute `x`. With a `baseline`, pairs are with it only, and the correction is for those."""

    trials: Sequence[Trial]
    x: Cost = "policy_tokens"
    baseline: str | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.trials:
            raise InputError("a comparison needs at least one strategy")
        names = Counter(trial.name for trial in self.trials)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"strategy {twice[0]!r} is there twice; give its runs different names")
        for trial in self.trials:
            if trial.problems != self.trials[0].problems:
                raise InputError(
                    f"{trial.name!r} and {self.trials[0].name!r} are not of the same problems in the same order: {_overlap(trial, self.trials[0])}"
                )
        if self.baseline is not None and self.baseline not in names:
            raise InputError(f"the baseline {self.baseline!r} is not among the strategies: {', '.join(names)}")
        if self.x == "flops" and not any(trial.costs["flops"].any() for trial in self.trials):
            raise InputError("no policy or model here counts FLOPs; give their sizes (--policy-parameters, --reward-parameters), or compare by tokens")

    @property
    def problems(self) -> tuple[str, ...]:
        return self.trials[0].problems

    @cached_property
    def accuracies(self) -> list[Estimate]:
        """Of each strategy, on the problems where its outcome is known; all from the same resamples."""
        matrix = np.stack([trial.correct for trial in self.trials], axis=1)
        return mean_estimates(matrix, self.problems, resamples=self.resamples, seed=self.seed)

    def mean_costs(self, what: Cost) -> list[Estimate]:
        """Mean cost a problem of each strategy, over all problems."""
        matrix = np.stack([trial.costs[what] for trial in self.trials], axis=1)
        return mean_estimates(matrix, self.problems, resamples=self.resamples, seed=self.seed, proportions=False)

    @cached_property
    def nothing_known(self) -> str | None:
        """In a sentence that no outcome is known for any strategy, and the most frequent reasons why; None where one is known."""
        if any(not np.isnan(trial.correct).all() for trial in self.trials):
            return None
        reasons = Counter(reason for trial in self.trials for reason in trial.reasons if reason).most_common(_MOST_REASONS)
        return f"No outcome is known for any strategy: {'; '.join(f'{reason[:160]} ({count:,} times)' for reason, count in reasons)}."

    @cached_property
    def rows(self) -> list[Row]:
        """A row a strategy, in the given order."""
        costs = self.mean_costs(self.x)
        x, y = np.array([cost.value for cost in costs]), np.array([accuracy.value for accuracy in self.accuracies])
        on_hull, shares = at_hull(x, y), self._hull_shares()
        rows = []
        for place, trial in enumerate(self.trials):
            better = dominating(x, y, place)
            unknown_y = math.isnan(y[place])
            standing: Standing = "unknown" if unknown_y else "hull" if on_hull[place] else "undominated" if better is None else "dominated"
            by = None if better is None or on_hull[place] else self.trials[better].name
            unknown = int(np.isnan(trial.correct).sum())
            rows.append(Row(trial.name, self.accuracies[place], costs[place], unknown, standing, by, float(shares[place])))
        return rows

    @cached_property
    def pairs(self) -> list[Pair]:
        """Paired differences, with Holm's correction of their p-values for the number of pairs."""
        named = {trial.name: trial for trial in self.trials}
        if self.baseline is None:
            couples = list(combinations(self.trials, 2))
        else:
            couples = [(trial, named[self.baseline]) for trial in self.trials if trial.name != self.baseline]
        tested = [paired_test(first.correct, second.correct, self.problems, seed=self.seed) for first, second in couples]
        corrected = holm([p for _, p in tested])
        return [
            Pair(
                first.name,
                second.name,
                self._difference(first, second),
                test,
                p,
                adjusted,
            )
            for (first, second), (test, p), adjusted in zip(couples, tested, corrected, strict=True)
        ]

    def _difference(self, first: Trial, second: Trial) -> Estimate:
        """Without an interval where fewer than two problems are known on both sides: one that is drawn again and again does not vary."""
        found = difference_estimate(first.correct, second.correct, self.problems, resamples=self.resamples, seed=self.seed)
        both = ~(np.isnan(first.correct) | np.isnan(second.correct))
        if len({key for key, known in zip(self.problems, both, strict=True) if known}) > 1:
            return found
        return Estimate(found.value, math.nan, math.nan, found.n, "no interval: fewer than 2 problems are known on both sides")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; what is not known is null."""
        every = {what: self.mean_costs(what) for what in COSTS}
        return {
            "n_problems": len(self.problems),
            "x": self.x,
            "nothing_known": self.nothing_known,
            "strategies": [
                {
                    "name": row.name,
                    "accuracy": row.accuracy.to_json(),
                    "cost": {what: every[what][place].to_json() for what in COSTS},
                    "n_unknown": row.n_unknown,
                    "standing": row.standing,
                    "dominated_by": row.by,
                    "hull_share": finite_or_none(row.hull_share),
                    "failures": dict(trial.failures),
                }
                for place, (row, trial) in enumerate(zip(self.rows, self.trials, strict=True))
            ],
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "difference": pair.difference.to_json(),
                    "test": pair.test,
                    "p": finite_or_none(pair.p),
                    "p_holm": finite_or_none(pair.p_holm),
                }
                for pair in self.pairs
            ],
            "correction": f"Holm, {len(self.pairs)} pairs",
        }

    def _hull_shares(self) -> Floats:
        """The share of resampled sets of problems on which each strategy is on the hull; NaN for fewer than 2 problems."""
        n = len(self.problems)
        if n < 2:
            return np.full(len(self.trials), math.nan)
        correct = np.stack([trial.correct for trial in self.trials], axis=1)
        known = ~np.isnan(correct)
        rng = np.random.default_rng(self.seed)
        weights = rng.multinomial(n, np.full(n, 1.0 / n), size=_HULL_RESAMPLES).astype(np.float64)
        right, counted = weights @ np.where(known, correct, 0.0), weights @ known.astype(np.float64)
        y = np.divide(right, counted, out=np.full_like(right, math.nan), where=counted > 0.0)
        x = weights @ np.stack([trial.costs[self.x] for trial in self.trials], axis=1) / n
        counts = np.zeros(len(self.trials))
        for one_x, one_y in zip(x, y, strict=True):
            counts[at_hull(one_x, one_y)] += 1.0
        return counts / _HULL_RESAMPLES


def _outcome(chosen: Trajectory | None) -> float:
    return math.nan if chosen is None or chosen.outcome is None or chosen.outcome.value is None else chosen.outcome.value


def _unanswered(result: SearchResult) -> bool:
    """Nothing is chosen, or what is chosen was cut off before it could be graded; not where grading itself failed."""
    if result.chosen is None:
        return True
    outcome = result.chosen.outcome
    return result.chosen.truncated and outcome is not None and not outcome.scored and not (outcome.reason or "").startswith(GRADING_FAILED)


def _why_unknown(result: SearchResult) -> str | None:
    if result.chosen is None:
        reason: str | None = result.reason or "nothing was chosen"
    else:
        outcome = result.chosen.outcome
        reason = "not graded" if outcome is None else None if outcome.scored else outcome.reason
    return None if reason is None else _of_any(result, reason)


def _of_any(result: SearchResult, reason: str) -> str:
    """The reason without the problem's id, so that the same one is counted as the same."""
    return reason.replace(f"problem {result.tree.problem.id!r}", "the problem")


def _overlap(trial: Trial, other: Trial) -> str:
    """How many problems two strategies have and share."""
    here, there = set(trial.problems), set(other.problems)
    words = f"{len(trial.problems):,} and {len(other.problems):,} results of {len(here):,} and {len(there):,} problems, {len(here & there):,} of them in both"
    return words + ("; some problem is there twice" if len(here) < len(trial.problems) or len(there) < len(other.problems) else "")


def _failures(results: Sequence[SearchResult], reasons: Sequence[str | None]) -> dict[str, int]:
    found = Counter(f"unscored: {reason[:160]}" for reason in reasons if reason)
    found.update(f"stopped: {_of_any(result, str(result.source['stopped']))[:160]}" for result in results if "stopped" in result.source)
    found.update({"failed requests": sum(int(result.source.get("n_failed_requests", 0)) for result in results)})
    return {name: count for name, count in found.most_common() if count}
