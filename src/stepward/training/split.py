"""Splitting examples into training and development sets so that no problem is in both."""

from __future__ import annotations

from collections.abc import Sequence

from stepward.core import Example, InputError, content_hash


def split_by_problem(examples: Sequence[Example], *, dev_share: float, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """(training, development): about `dev_share` of the problems, chosen by a hash of seed and problem, go to development with all their examples.

    Raises: InputError for a share outside (0, 1), or when there are fewer than two problems.
    """
    if not 0.0 < dev_share < 1.0:
        raise InputError(f"dev_share must lie in (0, 1), got {dev_share!r}")
    ranked = sorted({_question(example) for example in examples}, key=lambda key: content_hash("dev", str(seed), key))
    if len(ranked) < 2:
        raise InputError(f"cannot set a development set aside from {len(ranked)} problem; give --dev-data")
    chosen = set(ranked[: min(len(ranked) - 1, max(1, round(dev_share * len(ranked))))])
    training = [example for example in examples if _question(example) not in chosen]
    return training, [example for example in examples if _question(example) in chosen]


def _question(example: Example) -> str:
    """What is asked, and no more: the same question may come with and without an answer or a reference solution."""
    problem = example.trajectory.problem
    return content_hash("question", " ".join(problem.prompt.split()), *problem.images)
