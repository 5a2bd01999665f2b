"""Choosing among finished candidates: pure functions on answers and weights. Ties go to the first; unknown never beats known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepward.core.errors import CountMismatch, InputError


def argmax(weights: Sequence[float]) -> int | None:
    """Index of the largest weight; None when all are unknown (NaN)."""
    known = [index for index, weight in enumerate(weights) if not math.isnan(weight)]
    return max(known, key=lambda index: weights[index]) if known else None


def weighted_vote(answers: Sequence[str | None], weights: Sequence[float], *, signed: bool | None = None) -> int | None:
    """Representative of the answer a that maximises sum of w_i over {i: answer_i = a}: its candidate of largest weight.

    Candidates without an answer or with an unknown weight do not vote; None when nobody votes. Signed weights are first mapped to [0, 1] by their minimum
    and maximum (all 1 when they are equal), so that more votes never count against an answer. `signed` True: they are, whatever their signs, which makes
    the vote the same for w + c as for w; that is for scales without a zero, such as logits. None or False: they are where one of them is negative.
    """
    if len(answers) != len(weights):
        raise CountMismatch(f"{len(answers)} answers but {len(weights)} weights")
    voters = [index for index, (answer, weight) in enumerate(zip(answers, weights, strict=True)) if answer is not None and not math.isnan(weight)]
    if not voters:
        return None
    mapped = _non_negative({index: weights[index] for index in voters}, signed=bool(signed))
    totals: dict[str | None, float] = {}
    for index in voters:
        totals[answers[index]] = totals.get(answers[index], 0.0) + mapped[index]
    winner = max(totals, key=lambda answer: totals[answer])
    return max((index for index in voters if answers[index] == winner), key=lambda index: mapped[index])


def majority_vote(answers: Sequence[str | None]) -> int | None:
    """Index of the first candidate with the most frequent answer; None when no candidate states an answer (Wang et al., Self-Consistency, 2022)."""
    return weighted_vote(answers, [1.0] * len(answers))


def hybrid_vote(answers: Sequence[str | None], weights: Sequence[float], *, consensus: float = 0.5) -> int | None:
    """The majority's answer where at least a share `consensus` of the voters gives it, else the candidate of largest weight.

    HMR of Uncertainty-Based Methods for Automated Process Reward Data Construction and Output Aggregation (2025); the threshold is a reconstruction. consensus
    0 is the majority vote, above 1 best-of-n. The voters are the candidates with an answer.

    Raises: InputError for a negative or unknown threshold.
    """
    if not consensus >= 0.0:
        raise InputError(f"consensus must be a share of votes, at least 0, got {consensus!r}")
    _check(answers, weights)
    chosen = majority_vote(answers)
    if chosen is None:
        return argmax(weights)
    voters = [answer for answer in answers if answer is not None]
    agreeing = sum(answer == answers[chosen] for answer in voters)
    best = argmax([math.nan if answer is None else weight for answer, weight in zip(answers, weights, strict=True)])
    return chosen if agreeing / len(voters) >= consensus or best is None else best


def frequency_reward_vote(answers: Sequence[str | None], weights: Sequence[float], *, alpha: float = 0.5) -> int | None:
    """Representative of the answer a that maximises alpha norm(mean weight of a) + (1 - alpha) norm(share of a).

    norm maps the answers' numbers to [0, 1] by their minimum and maximum; where all are equal it gives 0. alpha 0 is the majority vote, 1 the largest mean
    weight. Adding a constant to all weights changes nothing. WRF of Uncertainty-Based Methods for Automated Process Reward Data Construction and Output
    Aggregation (2025); alpha is a reconstruction. Candidates without an answer or a weight do not vote.

    Raises: InputError for alpha outside [0, 1].
    """
    if not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha must lie in [0, 1], got {alpha!r}")
    groups = _groups(answers, weights)
    if not groups:
        return None
    reward = _normed({answer: sum(weights[index] for index in group) / len(group) for answer, group in groups.items()})
    share = _normed({answer: float(len(group)) for answer, group in groups.items()})
    winner = max(groups, key=lambda answer: alpha * reward[answer] + (1.0 - alpha) * share[answer])
    return max(groups[winner], key=lambda index: weights[index])


def pairwise_choice(preferences: Sequence[Sequence[float]]) -> int | None:
    """The candidate with the largest `mean_preferences`; None where nothing is known of any. A single candidate needs no comparison."""
    return 0 if len(preferences) == 1 else argmax(mean_preferences(preferences))


def mean_preferences(preferences: Sequence[Sequence[float]]) -> list[float]:
    """For each candidate i the mean over others j of P(i beats j), both orders averaged: [p_ij + 1 - p_ji] / 2; NaN pairs are left out, NaN where all are.

    A total order where the preferences are transitive (round robin of BPP-Search, 2024).

    Raises: CountMismatch for a matrix that is not square.
    """
    n = len(preferences)
    if any(len(row) != n for row in preferences):
        raise CountMismatch(f"preferences must be a square matrix, got rows of {[len(row) for row in preferences]}")
    duels = [[chance for j in range(n) if j != i and not math.isnan(chance := _duel(preferences, i, j))] for i in range(n)]
    return [sum(known) / len(known) if known else math.nan for known in duels]


def node_weighted_vote(answers: Sequence[str | None], paths: Sequence[Sequence[int]], rewards: Sequence[float]) -> int | None:
    """Representative of the answer whose subtree of edges carries most reward: each node of the tree adds its reward once to every answer below it.

    `paths`: the nodes from root to end of every candidate; `rewards`: one a node, NaN adds nothing. ("edge" vote of LLM Reasoners, 2024.)
    """
    if len(answers) != len(paths):
        raise CountMismatch(f"{len(answers)} answers but {len(paths)} paths")
    below: dict[str, set[int]] = {}
    for answer, path in zip(answers, paths, strict=True):
        if answer is not None:
            below.setdefault(answer, set()).update(path)
    if not below:
        return None
    worth = {answer: sum(rewards[node] for node in nodes if not math.isnan(rewards[node])) for answer, nodes in below.items()}
    winner = max(worth, key=lambda answer: worth[answer])
    return next(index for index, answer in enumerate(answers) if answer == winner)


def _duel(preferences: Sequence[Sequence[float]], i: int, j: int) -> float:
    one, other = preferences[i][j], preferences[j][i]
    if math.isnan(one) or math.isnan(other):
        return one if math.isnan(other) else 1.0 - other
    return (one + 1.0 - other) / 2.0


def _check(answers: Sequence[str | None], weights: Sequence[float]) -> None:
    if len(answers) != len(weights):
        raise CountMismatch(f"{len(answers)} answers but {len(weights)} weights")


def _groups(answers: Sequence[str | None], weights: Sequence[float]) -> dict[str, list[int]]:
    """Candidates with an answer and a weight, by answer, in the order in which answers appear."""
    _check(answers, weights)
    groups: dict[str, list[int]] = {}
    for index, (answer, weight) in enumerate(zip(answers, weights, strict=True)):
        if answer is not None and not math.isnan(weight):
            groups.setdefault(answer, []).append(index)
    return groups


def _normed(numbers: dict[str, float]) -> dict[str, float]:
    low, high = min(numbers.values()), max(numbers.values())
    return {answer: (number - low) / (high - low) if high > low else 0.0 for answer, number in numbers.items()}


def _non_negative(weights: dict[int, float], *, signed: bool) -> dict[int, float]:
    low, high = min(weights.values()), max(weights.values())
    if low >= 0.0 and not signed:
        return weights
    return {index: (weight - low) / (high - low) if high > low else 1.0 for index, weight in weights.items()}
