"""tools:words checks letters, orders and lists of words, and nothing but problems that are lists of words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stepward.core import Problem, Trajectory
from stepward.rewards.verifiers import State, StepContext
from stepward.rewards.words import Words

S, R = State.SUPPORTED, State.REFUTED
PROBLEM = "kite bean bear ant"
FIRST = 'The first letter: "kite": "k" (11). "bean": "b" (2). "bear": "b" (2). "ant": "a" (1).'
GROUPS = 'We now have: (1) "ant" < (2) ["bean" ? "bear"] < (11) "kite".'
FOURTH = 'Now let\'s sort this subpart ["bean" ? "bear"] by looking at their fourth letters. The fourth letter: "bean": "n" (14). "bear": "r" (18).'
HENCE = 'We now have: (14) "bean" < (18) "bear" for the subpart. Hence, we have "ant" < "bean" < "bear" < "kite".'
ANSWER = "I have now sorted all the words. The answer is ant bean bear kite"
STEPS = [FIRST, GROUPS, FOURTH, HENCE, ANSWER]


def kinds(steps: Sequence[str], index: int, problem: str = PROBLEM) -> set[tuple[State, str]]:
    context = StepContext(Trajectory.from_texts(Problem(problem), list(steps)), index)
    return {(verdict.state, verdict.kind) for verdict in asyncio.run(Words().verify(context))}


def test_a_right_solution_is_supported_step_by_step() -> None:
    for index in range(len(STEPS)):
        found = kinds(STEPS, index)
        assert found
        assert {state for state, _ in found} == {S}, (STEPS[index], found)


@pytest.mark.parametrize(
    ("index", "old", "new", "kind"),
    [
        (0, '"b" (2). "bear"', '"d" (2). "bear"', "letter"),
        (0, '"a" (1)', '"a" (2)', "letter"),
        (0, ' "bear": "b" (2).', "", "list of words"),
        (1, '(2) ["bean" ? "bear"] < (11) "kite"', '(2) ["bean" ? "bear" ? "kite"]', "place"),
        (1, ' < (11) "kite"', "", "list of words"),
        (2, '"r" (18)', '"a" (1)', "letter"),
        (3, '(14) "bean" < (18) "bear"', '(14) "bear" < (18) "bean"', "order"),
        (3, ' < "kite"', "", "list of words"),
        (4, "bean bear", "bear bean", "answer"),
        (4, "bean bear", "bean", "answer"),
    ],
)
def test_each_kind_of_slip_is_refuted(index: int, old: str, new: str, kind: str) -> None:
    steps = list(STEPS)
    assert old in steps[index]
    steps[index] = steps[index].replace(old, new)
    assert (R, kind) in kinds(steps, index)


def test_other_problems_are_not_read() -> None:
    assert kinds(STEPS, 0, "Sort 3 words: kite bean ant.") == set()
    assert not Words().reads(StepContext(Trajectory.from_texts(Problem("What is 1 + 1?"), ["2"]), 0))
