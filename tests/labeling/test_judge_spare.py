"""Spare: invariances of reference-guided labels, alignment, the graded last step, and what becomes of malformed answers."""

from __future__ import annotations

import asyncio
import math
from itertools import permutations

import pytest
from tests.labeling.judged import PROBLEM, WORLD, judge, label, shown_steps, solution, solved, truths

from stepward.core import InputError, Outcome, Problem, Trajectory
from stepward.labeling.judges import Spare, reference_example
from stepward.labeling.judges.spare import BY_REFERENCE
from stepward.labeling.judges.tasks import aligned
from stepward.rewards.generative.scripted import Asked
from stepward.rewards.oracle import OracleReward
from stepward.testing import check_labeler
from stepward.testing.noisy_judge import NoisyJudge

CASE = solution("3 + 4 = 7.", "7 is odd.", "The answer is 8.", outcome=Outcome(0.0, "8"))


def comparer(asked: Asked, order: tuple[int, ...] | None = None) -> str:
    """Right iff the step is one of the reference steps, by which it is aligned."""
    reference = [line.split(": ", 1)[1] for line in asked.prompt.split("[Solution]")[0].splitlines() if line.startswith("Reference step ")]
    lines = []
    for number, text in enumerate(shown_steps(asked), 1):
        found = reference.index(text) + 1 if text in reference else None
        lines.append(f"Step {number}: (reference {found or 'none'}) compared. \\boxed{{{'correct' if found else 'incorrect'}}}")
    return "\n".join(lines if order is None else [lines[place] for place in order])


def spare(writer: object = comparer, **options: object) -> Spare:
    return Spare(judge=judge(writer), environment=WORLD, **options)  # type: ignore[arg-type]


def test_one_pass_compares_aligns_and_the_last_step_is_graded() -> None:
    labels = label(spare(), CASE)
    assert labels.hard == (True, False, False)
    assert labels.semantics == "local"
    assert [items[0]["reference_steps"] for items in labels.evidence] == [(0,), (), ()]
    right = solution("3 + 4 = 7.", "The answer is 8.", outcome=Outcome(1.0, "8"))
    assert label(spare(), right).hard == (True, True), "the outcome overrules the judge at the last step"
    assert math.isnan(label(spare(), right).confidence[-1]), "an outcome is no proof about the last step"
    open_ended = Trajectory(PROBLEM, right.steps)
    assert label(spare(), open_ended).hard == (True, False), "an open solution has no outcome"
    assert label(spare(), CASE).usage.calls == 1


def test_the_order_of_the_answers_lines_does_not_matter() -> None:
    first = label(spare(), CASE)
    for order in permutations(range(3)):
        again = label(spare(lambda asked, order=order: comparer(asked, order)), CASE)
        assert (again.hard, again.values.tolist()) == (first.hard, first.values.tolist())
        assert [items[0] for items in again.evidence] == [items[0] for items in first.evidence], "each step keeps its own alignment"


def test_the_reference_itself_is_all_right_for_nothing() -> None:
    def refuses(asked: Asked) -> str:
        raise AssertionError("the judge must not be asked")

    reference = reference_example(PROBLEM)
    assert reference is not None
    assert reference.labels is not None
    labels = label(spare(refuses), reference.trajectory)
    assert labels.hard == reference.labels.hard == (True, True)
    assert labels.first_error == -1
    assert labels.usage.calls == 0
    assert labels.evidence[0][0]["because"] == BY_REFERENCE
    assert reference_example(Problem("no reference")) is None


def test_a_malformed_answer_is_asked_for_once_more_then_unlabelled() -> None:
    asked: list[int] = []

    def mends(seen: Asked) -> str:
        asked.append(seen.draw)
        return comparer(seen) if len(asked) == 2 else "Step 1: (reference 1) fine. \\boxed{correct}"

    assert label(spare(mends), CASE).hard == (True, False, False)
    assert len(asked) == 2

    def never(seen: Asked) -> str:
        asked.append(seen.draw)
        return "Step 1: (reference 1) fine. \\boxed{correct}"

    asked.clear()
    labels = label(spare(never), CASE)
    assert len(asked) == 2
    assert labels.hard == (True, None, False), "the last step is graded all the same"
    assert labels.reasons[1] is not None
    assert "two answers" in labels.reasons[1]
    assert label(spare(never, missing="bad"), CASE).hard == (True, False, False)


def test_without_a_reference_nothing_is_labelled_and_nothing_is_paid() -> None:
    labels = label(spare(), solution("a", problem=Problem("How many?", answer="7")))
    assert labels.n_unlabelled == 1
    assert labels.usage.calls == 0
    with pytest.raises(InputError, match="other words"):
        Spare(judge=OracleReward(WORLD), environment=WORLD)


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("Step 1: (reference 2) x", (1,)),
        ("(reference 1, 3)", (0, 2)),
        ("(reference none)", ()),
        ("(Reference 1) then (reference 2)", (1,)),
        ("(reference 9)", None),
        ("(reference)", None),
        (None, None),
    ],
)
def test_alignment_is_read_from_the_last_mention(words: str | None, steps: tuple[int, ...] | None) -> None:
    assert aligned(words, 3) == steps


def test_labels_of_a_perfect_judge_are_the_truth_up_to_the_graded_end() -> None:
    """Local truth at every step but the last, which says how the solution ended."""
    cases = solved(30)
    perfect = Spare(judge=NoisyJudge(WORLD, false_alarm=0.0, miss=0.0, semantics="local"), environment=WORLD)
    for case, truth in zip(cases, truths(cases, "local"), strict=True):
        labels = label(perfect, case)
        assert labels.hard[:-1] == truth.hard[:-1]
        assert case.outcome is not None
        assert labels.hard[-1] == case.outcome.correct


def test_conformant() -> None:
    check_labeler(Spare(judge=NoisyJudge(WORLD), environment=WORLD), list(solved(3)), any_text=False)
    assert asyncio.run(spare().label(Trajectory(PROBLEM))).usage.calls == 0
