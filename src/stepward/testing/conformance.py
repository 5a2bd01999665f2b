"""What all conformance suites share: named checks that are all run, and one error that lists those that failed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from stepward.core import Problem, Step, Trajectory
from stepward.engine.loop import run_sync

T = TypeVar("T")
Check = Callable[[], Awaitable[None]]

AWKWARD_TEXTS = (
    "",
    " ",
    "x = 1",
    "Ünïcödé ∑ 數學 🧮 \u202eright to left\u202c",
    "a line\nand another\n\nand a paragraph",
    "<|im_end|> </s> <extra_0> ки \\boxed{1}",
    "tab\there, null\u2400, quote \" ' and backslash \\",
)


class NotConformant(AssertionError):
    """The part breaks its protocol; the message lists every failed check."""


def expect(holds: bool, message: str) -> None:
    """Fail the running check with this message unless `holds`."""
    if not holds:
        raise NotConformant(message)


def run_checks(subject: str, checks: dict[str, Check]) -> list[str]:
    """Run every check on one event loop, also where another one is running (a notebook); return their names.

    Raises: NotConformant listing all failures, unexpected exceptions included.
    """

    async def run() -> list[str]:
        failures = []
        for name, check in checks.items():
            try:
                await check()
            except Exception as error:  # every kind of failure belongs in the list, none may hide the others
                failures.append(f"{name}: {error if isinstance(error, NotConformant) else repr(error)}")
        return failures

    failures = run_sync(run())
    if failures:
        raise NotConformant(f"{subject} fails {len(failures)} of {len(checks)} checks:\n- " + "\n- ".join(failures))
    return list(checks)


def shuffled(items: Sequence[T], seed: int = 0) -> list[tuple[int, T]]:
    """(index, item) pairs in a fixed random order."""
    pairs = list(enumerate(items))
    random.Random(seed).shuffle(pairs)
    return pairs


def awkward_trajectories(problem: Problem) -> list[Trajectory]:
    """No step, one step, empty and strange texts, an observation, many steps."""
    texts = list(AWKWARD_TEXTS)
    return [
        Trajectory(problem),
        Trajectory.from_texts(problem, ["The answer is 1."]),
        Trajectory.from_texts(problem, [""]),
        Trajectory.from_texts(problem, texts),
        Trajectory.from_texts(problem, texts[::-1], separator="\n"),
        Trajectory(problem, (Step("look up 2 + 2", "\n", observation="4"), Step("It is 4."))),
        Trajectory.from_texts(problem, [f"step {index}" for index in range(20)]),
    ]
