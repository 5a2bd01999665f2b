"""Best-of-N: accuracy against compute for ways of choosing among samples, from one bank of samples. Nothing is sampled or scored here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stepward.core import Aggregation, CountMismatch, Floats, InputError, StepScores, Trajectory
from stepward.evaluation.selection import SUBSETS, bon_curve, pass_at_k, subsets, vote
from stepward.evaluation.statistics import RESAMPLES, Estimate, difference_estimate, finite_or_none, mean_estimates

Method = Literal["single", "majority", "best_of", "weighted", "oracle_pass"]
METHODS: tuple[Method, ...] = ("single", "majority", "best_of", "weighted", "oracle_pass")
USES_REWARD: frozenset[str] = frozenset({"best_of", "weighted"})
_KEYS: dict[Method, str] = {"majority": "majority@{}", "best_of": "best_of_{}", "weighted": "weighted_{}", "oracle_pass": "oracle_pass@{}"}


@dataclass(frozen=True, kw_only=True, eq=False)
class ProblemSamples:
    """N samples of one problem: canonical `answers` (None: none stated), `correct` in [0, 1] (NaN: ungraded), `scores` (NaN: unscored), tokens.

    `policy_tokens` are those that the policy wrote, `reward_tokens` those that the reward model processed; NaN where not measured. Arrays [N].
    """

    problem_id: str
    answers: tuple[str | None, ...]
    correct: Floats
    scores: Floats
    policy_tokens: Floats
    reward_tokens: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(self.answers))
        for name in ("correct", "scores", "policy_tokens", "reward_tokens"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != (len(self.answers),):
                raise CountMismatch(f"problem {self.problem_id!r}: {len(self.answers)} answers but {name} has shape {array.shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_trajectories(cls, trajectories: Sequence[Trajectory], scores: Sequence[StepScores], *, how: Aggregation | str = "min") -> ProblemSamples:
        """From graded trajectories of one problem and their step scores, aggregated by `how`; steps on which the model abstained are skipped."""
        if not trajectories or len(trajectories) != len(scores):
            raise CountMismatch(f"need one StepScores a trajectory and at least one, got {len(trajectories)} trajectories and {len(scores)} scores")
        if len({trajectory.problem.id for trajectory in trajectories}) > 1:
            raise InputError("all trajectories of one ProblemSamples must share their problem")
        outcomes = [trajectory.outcome for trajectory in trajectories]
        return cls(
            problem_id=trajectories[0].problem.id,
            answers=tuple(None if outcome is None else outcome.answer for outcome in outcomes),
            correct=np.array([math.nan if outcome is None or outcome.value is None else outcome.value for outcome in outcomes]),
            scores=np.array([score.aggregate(how, unscored="propagate" if score.n_failed else "skip") for score in scores]),
            policy_tokens=np.array([sum(math.nan if step.n_tokens is None else step.n_tokens for step in t.steps) for t in trajectories], dtype=np.float64),
            reward_tokens=np.array([score.usage.reward_tokens + score.usage.reward_written for score in scores], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Accuracy of one method with k samples, and what k samples cost on average."""

    method: str
    k: int
    estimate: Estimate
    policy_tokens: float
    reward_tokens: float

    def to_json(self) -> dict[str, Any]:
        """`{value, low, high, n, policy_tokens, reward_tokens}`."""
        return summary_entry(self.estimate, policy_tokens=self.policy_tokens, reward_tokens=self.reward_tokens)


def summary_entry(estimate: Estimate, *, policy_tokens: float, reward_tokens: float) -> dict[str, Any]:
    """One method's line of a summary: `{value, low, high, n, policy_tokens, reward_tokens}`, tokens a problem."""
    bounds = {name: finite_or_none(getattr(estimate, name)) for name in ("value", "low", "high")}
    return bounds | {"n": estimate.n, "policy_tokens": finite_or_none(policy_tokens), "reward_tokens": finite_or_none(reward_tokens)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Accuracy of every method for k = 1..K on the same P problems.

    `per_problem[method]` [P, K]: expected correctness with k samples, NaN where a problem has fewer than k graded samples. `policy_tokens` and
    `reward_tokens`: means of one sample. `reward_cost`: cost of a reward-model token in policy tokens (parameters of one over the other).
    """

    per_problem: Mapping[str, Floats]
    problem_ids: tuple[str, ...]
    policy_tokens: float
    reward_tokens: float
    reward_cost: float
    n_unscored: int
    n_ungraded: int
    seed: int
    points: Mapping[str, tuple[CurvePoint, ...]]

    @property
    def max_k(self) -> int:
        return int(next(iter(self.per_problem.values())).shape[1])

    def point(self, method: Method, k: int) -> CurvePoint:
        """The point of `method` with k samples."""
        if not 1 <= k <= self.max_k:
            raise InputError(f"k must lie in 1..{self.max_k}, got {k}")
        return self.points[_known(method)][k - 1]

    def cost(self, method: Method, k: float) -> float:
        """Compute of k samples in policy-token equivalents: k (policy tokens + reward_cost x reward tokens, where the method needs scores)."""
        samples = 1.0 if _known(method) == "single" else k
        return samples * (self.policy_tokens + (self.reward_cost * self.reward_tokens if method in USES_REWARD else 0.0))

    def difference(self, first: Method, second: Method, k: int) -> Estimate:
        """Paired difference first - second with k samples each."""
        self.point(first, k), self.point(second, k)
        return difference_estimate(self.per_problem[first][:, k - 1], self.per_problem[second][:, k - 1], self.problem_ids, seed=self.seed)

    def difference_at_equal_compute(self, first: Method, second: Method, k: int) -> Estimate:
        """Paired difference first - second where `first` has k samples and `second` as many as cost the same, interpolated between integers.

        Unknown (NaN) when the second method would need more than K samples.
        """
        self.point(first, k)
        if _known(second) == "single":
            raise InputError("a single sample cannot be given more compute; compare at equal k, or with 'majority'")
        wanted = self.cost(first, k) / self.cost(second, 1)
        if math.isnan(wanted) or not 1.0 <= wanted <= self.max_k:
            return Estimate(math.nan, math.nan, math.nan, 0, f"unknown: equal compute needs {wanted:.1f} samples, the bank has {self.max_k}")
        low = int(wanted)
        high, share = min(low + 1, self.max_k), wanted - low
        other = self.per_problem[second]
        return difference_estimate(
            self.per_problem[first][:, k - 1], (1.0 - share) * other[:, low - 1] + share * other[:, high - 1], self.problem_ids, seed=self.seed
        )

    def summary(self, k: int = 16) -> dict[str, dict[str, Any]]:
        """`pass@1`, `majority@k`, `best_of_k`, `weighted_k`, `oracle_pass@k`, each `{value, low, high, n, policy_tokens, reward_tokens}`."""
        entries = {"pass@1": self.point("single", 1).to_json()}
        return entries | {key.format(k): self.point(method, k).to_json() for method, key in _KEYS.items()}


def best_of_n(
    bank: Sequence[ProblemSamples], *, max_k: int | None = None, reward_cost: float = 1.0, count: int = SUBSETS, seed: int = 0, resamples: int = RESAMPLES
) -> Curves:
    """Curves over k = 1..max_k (default: the smallest number of samples of a problem) of five ways to use k samples.

    single: one sample (pass@1, the same for all k). majority: most frequent answer. best_of: best score. weighted: largest sum of scores.
    oracle_pass: at least one correct, the ceiling of all of them. Best-of and pass are exact over all subsets of k; votes are averaged over up
    to `count` subsets. Ungraded samples are left out and counted; intervals resample problems, and all methods share their resamples.

    Raises: InputError for an empty bank.
    """
    if not bank:
        raise InputError("best_of_n needs at least one problem with samples")
    ks = max_k or min(len(samples.answers) for samples in bank)
    masks: dict[int, tuple[NDArray[np.bool_], list[int]]] = {}
    rows = [_problem_curves(samples, ks, masks, count, seed) for samples in bank]
    per_problem: dict[str, Floats] = {method: np.stack([row[method] for row in rows]) for method in METHODS}
    ids = tuple(samples.problem_id for samples in bank)
    policy, reward = (float(np.mean([getattr(samples, name).mean() for samples in bank])) for name in ("policy_tokens", "reward_tokens"))
    estimates = mean_estimates(np.concatenate([per_problem[method] for method in METHODS], axis=1), ids, resamples=resamples, seed=seed)
    points: dict[str, tuple[CurvePoint, ...]] = {
        method: tuple(
            CurvePoint(
                method=method,
                k=k,
                estimate=estimates[index * ks + k - 1],
                policy_tokens=policy * (1 if method == "single" else k),
                reward_tokens=reward * k if method in USES_REWARD else 0.0,
            )
            for k in range(1, ks + 1)
        )
        for index, method in enumerate(METHODS)
    }
    return Curves(
        per_problem=per_problem,
        problem_ids=ids,
        policy_tokens=policy,
        reward_tokens=reward,
        reward_cost=reward_cost,
        n_unscored=sum(int(np.isnan(samples.scores).sum()) for samples in bank),
        n_ungraded=sum(int(np.isnan(samples.correct).sum()) for samples in bank),
        seed=seed,
        points=points,
    )


def _problem_curves(samples: ProblemSamples, ks: int, masks: dict[int, tuple[NDArray[np.bool_], list[int]]], count: int, seed: int) -> dict[str, Floats]:
    graded = ~np.isnan(samples.correct)
    correct, scores = samples.correct[graded], samples.scores[graded]
    answers = [answer for answer, keep in zip(samples.answers, graded, strict=True) if keep]
    size, reach = len(answers), min(ks, len(answers))
    curves: dict[str, Floats] = {method: np.full(ks, np.nan) for method in METHODS}
    if size == 0:
        return curves
    curves["single"][:] = correct.mean()
    curves["best_of"][:reach] = bon_curve(scores, correct)[:reach]
    n_correct = int((correct >= 1.0).sum())
    curves["oracle_pass"][:reach] = [pass_at_k(size, n_correct, k) for k in range(1, reach + 1)]
    if size not in masks:  # the subsets of all sizes k in one stack, and how many there are of each
        stack = [subsets(size, k, count=count, seed=seed) for k in range(1, reach + 1)]
        masks[size] = np.concatenate(stack), [len(rows) for rows in stack]
    rows, lengths = masks[size]
    starts = np.cumsum([0, *lengths[:-1]])
    for method, weights in (("majority", np.ones(size)), ("weighted", scores)):
        curves[method][:reach] = np.add.reduceat(vote(answers, weights, correct, rows), starts) / lengths
    return curves


def _known(method: str) -> str:
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    return method
