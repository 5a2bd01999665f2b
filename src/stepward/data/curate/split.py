"""Splitting examples so that no problem is in two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepward.core import Example, InputError, Problem, content_hash


def question_key(problem: Problem) -> str:
    """What is asked, and no more: the same question may come with and without an answer or a reference solution, or in other white space."""
    return content_hash("question", " ".join(problem.prompt.split()), *problem.images)


def split_by_problem(examples: Sequence[Example], shares: Mapping[str, float], *, seed: int = 0) -> dict[str, list[Example]]:
    """The examples by part. `shares`: name of each part and its share of the problems, e.g. {"train": 0.8, "dev": 0.1, "test": 0.1}.

    A problem's place is its rank by a hash of seed and question, so it does not depend on the order of the examples. Every part gets at least one
    problem; the first gets what rounding leaves.

    Raises: InputError for shares that are not positive or do not sum to 1, or for fewer problems than parts.
    """
    if not shares or any(not share > 0.0 for share in shares.values()) or abs(sum(shares.values()) - 1.0) > 1e-9:
        raise InputError(f"shares must be positive and sum to 1, got {dict(shares)}")
    keys = [question_key(example.trajectory.problem) for example in examples]
    ranked = sorted(set(keys), key=lambda key: content_hash("dev", str(seed), key))
    if len(ranked) < len(shares):
        raise InputError(f"cannot split {len(ranked)} problem(s) into {len(shares)} parts: {', '.join(shares)}")
    first, *others = shares
    part: dict[str, str] = {}
    taken = 0
    for index, name in enumerate(others):
        still = len(others) - index - 1
        n = min(len(ranked) - taken - 1 - still, max(1, round(shares[name] * len(ranked))))
        part |= dict.fromkeys(ranked[taken : taken + n], name)
        taken += n
    return {name: [example for example, key in zip(examples, keys, strict=True) if part.get(key, first) == name] for name in shares}


def split_in_two(examples: Sequence[Example], *, dev_share: float, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """(training, development) with about `dev_share` of the problems in development.

    Raises: InputError for a share outside (0, 1), or when there are fewer than two problems.
    """
    if not 0.0 < dev_share < 1.0:
        raise InputError(f"dev_share must lie in (0, 1), got {dev_share!r}")
    n = len({question_key(example.trajectory.problem) for example in examples})
    if n < 2:
        raise InputError(f"cannot set a development set aside from {n} problem; give --dev-data")
    parts = split_by_problem(examples, {"train": 1.0 - dev_share, "dev": dev_share}, seed=seed)
    return parts["train"], parts["dev"]
