"""VersaPRM's first bad step, PathFinder's three axes, VerifiAgent's tools before judge, and Anyprefer's pairs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from tests.labeling.judged import SOLVER, WORLD, judge, label, solution, solved

from stepward.core import InputError, Sampling, StepLabels, Trajectory
from stepward.labeling import OracleLabels
from stepward.labeling.anyprefer import Anyprefer
from stepward.labeling.judges import PathFinderLabels, VerifiAgent, Versa
from stepward.labeling.judges.pathfinder import of_rating
from stepward.labeling.tools import ToolLabels
from stepward.rewards.arithmetic import Arithmetic
from stepward.rewards.generative.scripted import Asked
from stepward.testing import check_labeler
from stepward.testing.noisy_judge import NoisyJudge

CASE = solution("good", "bad", "good")


@pytest.mark.parametrize(
    ("said", "hard"),
    [
        ("GOOD, then BAD: \\boxed{1}", (True, False, False)),
        ("\\boxed{0} at first sight, but no: \\boxed{-1}", (True, True, True)),
        ("\\boxed{0}", (False, False, False)),
        ("\\boxed{3}", (None, None, None)),
        ("\\boxed{1} and then \\boxed{none}", (None, None, None)),
        ("no box", (None, None, None)),
    ],
)
def test_versa_reads_only_the_last_box_and_refuses_what_is_no_step(said: str, hard: tuple[bool | None, ...]) -> None:
    labels = label(Versa(judge=judge(lambda asked: said)), CASE)
    assert labels.hard == hard
    assert labels.semantics == "prefix"


def test_versa_shows_the_answer_and_escapes_numbers_in_boxes() -> None:
    prompts: list[str] = []

    def record(asked: Asked) -> str:
        prompts.append(asked.prompt)
        return "\\boxed{-1}"

    label(Versa(judge=judge(record)), solution("I say \\boxed{2}"))
    assert "[Reference Answer]\n\n7" in prompts[0]
    assert "I say \\boxed{2\\}" in prompts[0]
    check_labeler(Versa(judge=NoisyJudge(WORLD)), list(solved(2)), any_text=False)


@dataclass(frozen=True)
class Given:
    """A labeler that knows the labels."""

    hard: tuple[bool | None, ...]
    semantics: str = "local"
    fingerprint: str = "given"

    async def label(self, trajectory: Trajectory) -> StepLabels:
        return StepLabels.from_hard(self.hard, semantics="local", source={"method": "given"})


def axes(asked: Asked) -> str:
    """Three verdicts a step: "math" and "consistency" fail where the step names them, "progress" where it is idle."""
    judged = asked.prompt.split("[To Be Judged]\n\n")[1].split("\n\n[Rubric]")[0]
    verdicts = ["mathbad" not in judged, "contradicts" not in judged, "idle" not in judged]
    return "\n".join(f"Criterion {number}: \\boxed{{{'Yes' if good else 'No'}}}" for number, good in enumerate(verdicts, 1))


def test_pathfinder_keeps_what_three_axes_and_the_label_agree_on() -> None:
    case = solution("fine", "mathbad", "contradicts, mathbad", "idle", "fine", "mathbad")
    warm = judge(axes, sampling=Sampling(temperature=1.0))
    labels = label(PathFinderLabels(judge=warm, base=Given((True, False, False, False, False, True))), case)
    assert labels.hard == (True, False, False, False, None, None)
    assert labels.error_types == (None, "math", "math+consistency", "progress", None, None)
    for good, items in zip(labels.hard, labels.evidence, strict=True):
        if good is not None:
            assert good == all(items[0][axis] for axis in ("math", "consistency", "progress")), "a good step has no axis that failed, a bad one has"
    assert label(PathFinderLabels(judge=warm), case).hard == (True, False, False, False, True, False)
    assert of_rating(0) == (True, True, False)
    assert of_rating(-1) is None


def test_pathfinder_asks_again_at_most_so_often_where_a_bad_step_looks_good() -> None:
    seen: list[str] = []

    def wakes(asked: Asked) -> str:
        seen.append(asked.prompt)
        return axes(asked) if len(seen) < 3 else axes(Asked(asked.prompt.replace("fine", "mathbad"), "", 0, 0, ""))

    warm = judge(wakes, sampling=Sampling(temperature=1.0))
    labels = label(PathFinderLabels(judge=warm, base=Given((False,))), solution("fine"))
    assert labels.hard == (False,)
    assert len(seen) == 3
    seen.clear()
    assert label(PathFinderLabels(judge=warm, base=Given((False,)), again=1), solution("fine")).hard == (None,)
    assert len(seen) == 2


def whole(asked: Asked) -> str:
    """Steps with "bad" are wrong; a solution is complete if it has an "answer"."""
    if "[Rubric]" in asked.prompt:
        done = "answer" in asked.prompt.split("[To Be Judged]")[1].split("[Rubric]")[0]
        return f"Criterion 1: \\boxed{{{'Yes' if done else 'No'}}}\nCriterion 2: \\boxed{{Yes}}"
    tagged = asked.prompt.split("[Solution]")[1].split("Everything inside")[0]
    steps = [part.split("</step_")[0] for part in tagged.split("<step_")[1:]]
    return "\n".join(f"Step {number}: \\boxed{{{'incorrect' if 'bad' in text else 'correct'}}}" for number, text in enumerate(steps, 1))


def test_a_tool_that_cannot_decide_leaves_the_step_to_the_judge_and_never_calls_it_bad() -> None:
    agent = VerifiAgent(judge=judge(whole), verifiers=(Arithmetic(),))
    case = solution("2 + 2 = 5 bad", "2 + 3 = 5, says a bad tongue", "in words", "bad words", "the answer")
    assert label(ToolLabels(verifiers=(Arithmetic(),)), case).hard == (False, True, None, None, None)
    labels = label(agent, case)
    assert labels.hard == (False, True, True, False, True), "exact verdicts are never overruled; the judge speaks where the tool does not"
    assert labels.confidence[0] == 1.0
    assert labels.evidence[2][-1] == {"labelled by": agent.judge.fingerprint}


def test_an_incomplete_solution_is_bad_at_its_end() -> None:
    agent = VerifiAgent(judge=judge(whole), verifiers=(Arithmetic(),))
    labels = label(agent, solution("in words", "and more"))
    assert labels.hard == (True, False)
    assert labels.error_types == (None, "incomplete")
    assert label(agent, solution("in words", "the answer")).hard == (True, True)
    assert label(agent, solution("in words", "2 + 3 = 5")).hard == (True, True), "what a tool has settled stays"
    with pytest.raises(InputError, match="at least one verifier"):
        VerifiAgent(judge=judge(whole), verifiers=())
    check_labeler(VerifiAgent(judge=NoisyJudge(WORLD, semantics="local"), verifiers=(Arithmetic(),)), list(solved(2)), any_text=False)


def test_anyprefer_pairs_put_the_right_step_first() -> None:
    """With tools and judge that know the truth every pair's chosen step is right and its rejected one wrong; where all candidates are alike there is none."""
    oracle = OracleLabels(WORLD, "local")
    maker = Anyprefer(policy=SOLVER, environment=WORLD, judge=NoisyJudge(WORLD, false_alarm=0.0, miss=0.0, semantics="local"), tools=oracle, bar=0.5, n=8)
    found = [asyncio.run(maker.pair(Trajectory(problem))) for problem in WORLD.problems(5, 25)]
    pairs = [made.pair for made in found if made.pair is not None]
    assert len(pairs) >= 10
    for pair in pairs:
        assert label(oracle, Trajectory(pair.prefix.problem, pair.chosen)).hard == (True,)
        assert label(oracle, Trajectory(pair.prefix.problem, pair.rejected)).hard == (False,)
    without = [made for made in found if made.pair is None]
    assert all(made.reason and made.rounds == 3 for made in without)


def test_anyprefer_gives_up_where_the_reward_model_disagrees() -> None:
    judging = NoisyJudge(WORLD, false_alarm=0.0, miss=0.0, semantics="local")
    contrary = NoisyJudge(WORLD, false_alarm=1.0, miss=1.0, semantics="local")
    maker = Anyprefer(policy=SOLVER, environment=WORLD, judge=judging, scorer=contrary, bar=0.5, n=8, rounds=2)
    problem = next(iter(WORLD.problems(5, 1)))
    made = asyncio.run(maker.pair(Trajectory(problem)))
    assert made.pair is None
    assert made.rounds == 2
    assert made.reason
    with pytest.raises(InputError, match="candidates"):
        Anyprefer(policy=SOLVER, environment=WORLD, judge=judging, n=1)
