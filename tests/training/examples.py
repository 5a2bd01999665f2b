"""Labelled trajectories whose truth is decidable from a word of each step."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from stepward.core import Example, Problem, StepLabels, Trajectory

WORDS = ("apples", "has", "Tom", "pencils", "box", "total", "fruits")


def decidable(n: int, *, seed: int = 0, n_steps: int = 4) -> list[Example]:
    """A step is good exactly when it says "good" and not "bad"."""
    draw = random.Random(seed)

    def make(index: int) -> Example:
        hard = [draw.random() < 0.7 for _ in range(n_steps)]
        texts = [" ".join(draw.sample([("good" if good else "bad"), *draw.choices(WORDS, k=3)], 4)) for good in hard]
        first = next((k for k, good in enumerate(hard) if not good), -1)
        return Example(Trajectory.from_texts(Problem(f"How many? {index}"), texts), StepLabels.from_hard(hard, semantics="local", first_error=first))

    return [make(index) for index in range(n)]


def soft(n: int, *, seed: int = 0, value_of: Callable[[str], float]) -> list[Example]:
    """Steps of one word each, labelled with the value of the word."""
    draw = random.Random(seed)

    def make(index: int) -> Example:
        texts = [draw.choice(["good", "bad", "fine"]) for _ in range(4)]
        return Example(Trajectory.from_texts(Problem(f"{index}"), texts), StepLabels(np.array([value_of(text) for text in texts]), "value"))

    return [make(index) for index in range(n)]
