"""Line labels of programs: bisection over lines of code, neutral lines, and any environment's grade."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest
from tests.labeling.chains import WORLD, Ends, Ladder, by_length, label

from stepward.core import InputError, Outcome, Problem, Trajectory
from stepward.labeling.code_lines import CodeLines

TASK = Problem("write f")


def program(lines: list[str], *, finished: bool = True) -> Trajectory:
    return Trajectory.from_texts(TASK, lines, separator="\n", finished=finished)


@dataclass(frozen=True)
class Suite(Ends):
    """Passes a program iff no line of it has a bug that no later line mends."""

    async def grade(self, trajectory: Trajectory) -> Outcome:
        if trajectory.steps and trajectory.steps[-1].text in ("right", "wrong"):
            return await super().grade(trajectory)
        return Outcome(float(not any("bug" in step.text for step in trajectory.steps)))


def mending(prefix: Trajectory) -> float:
    """A prefix with the fatal bug cannot be mended; any other can."""
    return 0.0 if any("bug" in step.text for step in prefix.steps) else 0.7


@pytest.mark.parametrize("m", [1, 2, 3, 7, 16, 33])
def test_it_finds_the_first_line_that_cannot_be_mended_in_logarithmically_many_probes(m: int) -> None:
    for bad in {0, 1, m // 2, m - 1} & set(range(m)):
        lines = [f"x{i} = {i}" + ("  bug" if i == bad else "") for i in range(m)]
        found = label(CodeLines(policy=Ladder(mending, 40), environment=Suite(), n=16), program(lines))
        assert found.first_error == bad
        assert found.hard == tuple(i < bad for i in range(m))
        assert sum(count is not None for count in found.counts) <= math.ceil(math.log2(m))


def test_it_equals_a_linear_scan() -> None:
    """On the same rollouts: the first prefix of which none of the n completions passes."""
    values = [0.9, 0.9, 0.6, 0.5, 0.0, 0.0, 0.0, 0.0]
    policy = Ladder(by_length(values), 8)
    lines = [f"line {i}" for i in range(7)] + ["wrong"]
    found = label(CodeLines(policy=policy, environment=WORLD, n=12), program(lines))
    rollouts = [asyncio.run(CodeLines(policy=policy, environment=WORLD).completer.rollouts(program(lines).prefix(k), 12)) for k in range(1, 8)]
    linear = next((at for at, made in enumerate(rollouts) if not any(rollout.success for rollout in made)), 7)
    assert found.first_error == linear == 3


def test_comments_and_blank_lines_are_neutral_and_never_tried() -> None:
    lines = ["# solve it", "a = 1", "", "b = 2  bug", "# done", "c = 3", "", "# end"]
    found = label(CodeLines(policy=Ladder(mending, 40), environment=Suite(), n=16), program(lines))
    assert found.first_error == 3
    assert found.hard == (True, True, True, False, False, False, False, False)
    marked = [step for step, items in enumerate(found.evidence) if {"neutral": True} in map(dict, items)]
    assert marked == [0, 2, 4, 6, 7]
    assert all(found.counts[step] is None for step in marked)
    assert sum(count is not None for count in found.counts) <= 2, "three lines of code take two probes"


def test_the_grade_of_a_program_that_ends_in_a_comment_is_that_of_its_last_line_of_code() -> None:
    found = label(CodeLines(policy=Ladder(mending, 40), environment=Suite(), n=16), program(["a = 1", "b = 2  bug", "# end"]))
    assert found.first_error == 1


def test_a_program_that_passes_is_good_and_costs_nothing() -> None:
    found = label(CodeLines(policy=Ladder(mending, 40), environment=Suite()), program(["a = 1", "# fine", "b = 2"]))
    assert found.hard == (True, True, True)
    assert found.usage.policy_tokens == 0


def test_an_unfinished_program_may_have_no_error_yet() -> None:
    found = label(CodeLines(policy=Ladder(mending, 40), environment=Suite(), n=16), program(["a = 1", "b = 2"], finished=False))
    assert found.first_error == -1
    bad = label(CodeLines(policy=Ladder(mending, 40), environment=Suite(), n=16), program(["a = 1", "b = 2  bug"], finished=False))
    assert bad.first_error == 1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="n >= 1"):
        CodeLines(policy=Ladder(mending, 3), environment=Suite(), n=0)
