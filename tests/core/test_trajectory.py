"""Problems, steps and trajectories: text is the concatenation of what was written, and keys are its content."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from tests.strategies import problems, steps, trajectories

from stepward.core import InputError, Outcome, Problem, Step, Trajectory


@settings(deadline=None, max_examples=50)
@given(trajectories())
def test_spans_cut_the_texts_out_of_the_text(trajectory: Trajectory) -> None:
    assert trajectory.text == "".join(step.text + step.separator for step in trajectory.steps)
    assert [trajectory.text[start:end] for start, end in trajectory.spans] == [step.text for step in trajectory.steps]


@settings(deadline=None, max_examples=50)
@given(trajectories())
def test_keys_name_every_prefix(trajectory: Trajectory) -> None:
    assert len(trajectory.keys) == len(trajectory) + 1
    for k in range(len(trajectory) + 1):
        assert trajectory.prefix(k).key == trajectory.keys[k]
    assert [len(prefix) for prefix in trajectory.prefixes()] == list(range(1, len(trajectory) + 1))


@settings(deadline=None, max_examples=50)
@given(problems, steps, steps)
def test_extending_chains_the_keys_that_are_computed_anew(problem: Problem, a: Step, b: Step) -> None:
    grown = Trajectory(problem)
    assert grown.key == problem.key
    for step in (a, b):
        grown = grown.extend(step)
        assert grown.keys[-1]
    assert grown.keys == Trajectory(problem, (a, b)).keys


def test_a_prefix_is_open_and_the_whole_is_itself() -> None:
    whole = Trajectory.from_texts("p", ["a", "b"], outcome=Outcome(1.0))
    assert whole.prefix(2) is whole
    cut = whole.prefix(1)
    assert not cut.ended
    assert cut.outcome is None
    for k in (-1, 3):
        with pytest.raises(InputError, match=r"k must lie in 0..2"):
            whole.prefix(k)


def test_an_ended_trajectory_cannot_be_extended() -> None:
    for ended in (Trajectory(Problem("p"), finished=True), Trajectory(Problem("p"), truncated=True)):
        assert ended.ended
        with pytest.raises(InputError, match="has ended"):
            ended.extend("more")
    assert Trajectory(Problem("p")).extend("last", finished=True).finished


def test_texts_are_separated_but_not_after_the_last() -> None:
    trajectory = Trajectory.from_texts("p", ["a", "b", "c"])
    assert trajectory.text == "a\n\nb\n\nc"
    assert Trajectory.from_texts("p", ["a", "b"], separator="\n").text == "a\nb"
    assert Trajectory.from_texts("p", []).text == ""


def test_how_it_ended_and_who_measured_do_not_count_in_the_key() -> None:
    a = Trajectory(Problem("p", id="one"), (Step("s", n_tokens=3, logprob=-1.0),), finished=True, outcome=Outcome(0.0))
    b = Trajectory(Problem("p", id="two", metadata={"x": 1}), (Step("s"),))
    assert a.key == b.key


@pytest.mark.parametrize("other", [Step("s", "\n"), Step("t"), Step("s", action={"a": 1}), Step("s", observation=""), Step("s", agent="b")])
def test_everything_written_or_answered_counts_in_a_steps_key(other: Step) -> None:
    assert Step("s").key != other.key


@pytest.mark.parametrize(
    "other", [Problem("q"), Problem("p", "1"), Problem("p", reference_steps=("a",)), Problem("p", environment="e"), Problem("p", images=("i",))]
)
def test_everything_that_defines_the_task_counts_in_a_problems_key(other: Problem) -> None:
    assert Problem("p").key != other.key
    assert Problem("p").id == Problem("p").key


def test_problems_and_steps_can_be_dictionary_keys() -> None:
    assert {Problem("p"): 1, Step("s"): 2}[Problem("p")] == 1
    assert hash(Problem("p", metadata={"a": [1]})) == hash(Problem("p"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Problem(3), "prompt must be a string, got int"),  # type: ignore[arg-type]
        (lambda: Problem("p", 42), "write it as text, e.g. '42'"),  # type: ignore[arg-type]
        (lambda: Problem("p", reference_steps="abc"), "sequences of strings"),  # type: ignore[arg-type]
        (lambda: Step(None), "must be strings, got NoneType"),  # type: ignore[arg-type]
        (lambda: Trajectory(Problem("p"), ("a",)), "use Trajectory.from_texts"),  # type: ignore[arg-type]
        (lambda: Trajectory.from_texts("p", "abc"), "stepward.data.segment"),
        (lambda: Outcome(1.5), r"must lie in \[0, 1\], got 1.5"),
        (lambda: Outcome(float("nan")), "unscored"),
        (lambda: Outcome(None), "needs a reason"),
    ],
)
def test_mistakes_are_refused_with_a_remedy(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()


def test_an_outcome_is_right_wrong_or_unscored() -> None:
    assert [Outcome(1.0).correct, Outcome(0.4).correct, Outcome.unscored("hung").correct] == [True, False, None]
    assert not Outcome.unscored("hung").scored
    assert isinstance(Outcome(1).value, float)
    graded = Trajectory(Problem("p")).graded(Outcome(1.0))
    assert graded.outcome is not None
    assert graded.outcome.correct
