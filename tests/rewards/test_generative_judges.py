"""Each judge as its authors meant it, on scripted policies whose verdicts are known; every one of them keeps the protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.rewards.generative_parts import ALL, PER_STEP, RUBRIC, judge, score, solution, telling, truthful

from stepward.core import InputError, Problem, RequestFailed, RewardModel, Sampling, Trajectory
from stepward.environments.grade_school import GradeSchool
from stepward.rewards.generative import JUDGES, GenPRM, Rubric, load_judge, split_judge
from stepward.rewards.generative.rprm import RPRM
from stepward.rewards.generative.scripted import Asked, ScriptedJudge
from stepward.rewards.generative.thinkprm import ThinkPRM
from stepward.rewards.generative.turns import PLAIN, TURNS, turns_of
from stepward.testing import check_reward_model

SAMPLED = Sampling(temperature=1.0, max_tokens=400)


@pytest.mark.parametrize("kind", ALL)
def test_every_judge_keeps_the_protocol(kind: str) -> None:
    model = judge(kind)
    assert isinstance(model, RewardModel)
    checks = check_reward_model(model, [solution("good", "bad", "good")], causal=kind in PER_STEP)
    assert len(checks) == 6 + (kind in PER_STEP)


@pytest.mark.parametrize("kind", ALL)
def test_a_truthful_judge_tells_the_truth(kind: str) -> None:
    scores = score(judge(kind), solution("good", "good", "bad", "good"))
    local = kind in (*PER_STEP, "thinkprm", "one-pass", "fover-gen")
    truth = [1.0, 1.0, 0.25 if kind == "rubric" else 0.0, 1.0]  # one of two criteria, of weight 3 against 1
    assert scores.values[:3].tolist() == truth[:3]
    assert scores.first_error() == 2
    if local:
        assert scores.values[3] == 1.0
    else:
        assert str(scores.reasons[3]).startswith("abstained")
    assert sum(text is not None for text in scores.rationales) >= 1


@pytest.mark.parametrize("kind", ALL)
def test_no_steps_no_questions(kind: str) -> None:
    policy = ScriptedJudge(truthful(kind))
    model = load_judge(kind, policy, **({"rubric": RUBRIC} if kind == "rubric" else {}))
    assert len(score(model, Trajectory(Problem("x")))) == 0
    assert policy.asked == []


def test_a_judge_that_knows_the_oracle_finds_its_first_errors() -> None:
    """Grade-school solutions, some corrupted: a critic that writes the oracle's index is scored like the oracle."""
    world = GradeSchool.easy()
    for problem in world.problems(3, 12):
        steps = list(problem.reference_steps)
        steps[len(steps) // 2] = steps[len(steps) // 2].replace("=", "= 1").replace("= 1 ", "= 1")
        for texts in (problem.reference_steps, steps):
            trajectory = Trajectory.from_texts(problem, texts, separator="\n")
            truth = world.labels(trajectory, "prefix").first_error
            scores = score(load_judge("critic", ScriptedJudge(lambda _, truth=truth: f"\\boxed{{{truth}}}")), trajectory)
            assert scores.first_error() == truth


# ThinkPRM ------------------------------------------------------------------------------------------------------------------------------------------------


def test_thinkprm_prompts_are_the_authors() -> None:
    trajectory = solution("Step 1: two", "## Step 2: three", problem="What?")
    [question] = ThinkPRM().questions(trajectory)
    assert question.prompt == (
        "You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\nWhat?\n\n[Solution]\n\nStep 1: two\nStep 2: three\n\n"
        "Review and critique each step in the proposed solution to determine whether each step is correct. If the solution is incomplete, only verify the "
        "provided steps."
    )
    assert question.lead == ""
    [card] = ThinkPRM(variant="card").questions(trajectory)
    assert card.prompt == question.prompt.removesuffix(".")
    assert card.lead == "\nLet's verify step by step:"


def test_thinkprm_scores_prefixes_by_the_closing_question() -> None:
    """One critique a prefix; p(Yes) there, whatever the critique says of single steps."""
    policy = telling(lambda _: "I looked.", lambda asked: 1 / (1 + asked.prompt.count("\nStep ")))
    scores = score(load_judge("thinkprm", policy, judges="prefixes"), solution("a", "b", "c"))
    assert scores.values == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert check_reward_model(load_judge("thinkprm", policy, judges="prefixes"), causal=True)


def test_thinkprm_rounds_go_on_where_the_chain_closed() -> None:
    def write(asked: Asked) -> str:
        if "Did I miss something?" in asked.written:
            return asked.rest_of(" I did.\n\nStep 2: it is wrong, \\boxed{incorrect}.\n\nIs the solution correct? No", after="Did I miss something?")
        if "Let's verify again" in asked.written:
            return asked.rest_of(", all as before.</think> Fine.", after="Let's verify again")
        if "Let me double check" in asked.written:
            return asked.rest_of(" and yes.\n\nIs the solution correct? Yes", after="Let me double check")
        return "Step 1: \\boxed{correct}\n\nStep 2: \\boxed{correct}\n\nIs the solution correct? Yes\n\nand more"

    policy = ScriptedJudge(write)
    scores = score(load_judge("thinkprm", policy, rounds=4), solution("a", "b"))
    assert scores.values.tolist() == [1.0, 0.0], "the last verdict of a step counts"
    assert scores.aspects["solution"].tolist()[1] == 0.0
    assert str(scores.rationales[1]).endswith("Is the solution correct? No")
    final = policy.asked[-1].written
    for trigger in ("Let me double check", "Let's verify again", "Did I miss something?"):
        assert final.count(trigger) == 1
    assert "and more" not in final, "the chain goes on from where it closed"
    assert score(load_judge("thinkprm", ScriptedJudge(write), rounds=1), solution("a", "b")).values.tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="rounds"):
        load_judge("thinkprm", policy, rounds=5)


def test_thinkprm_steps_behind_an_error() -> None:
    text = "Step 1: \\boxed{correct}\nStep 2: \\boxed{incorrect}"
    abstaining = score(load_judge("thinkprm", ScriptedJudge(lambda _: text)), solution("a", "b", "c", "d"))
    assert abstaining.values[:2].tolist() == [1.0, 0.0]
    assert [str(reason).split(":")[0] for reason in abstaining.reasons[2:]] == ["abstained", "abstained"]
    assert abstaining.n_failed == 0
    strict = score(load_judge("thinkprm", ScriptedJudge(lambda _: text), after_error="incorrect"), solution("a", "b", "c", "d"))
    assert strict.values.tolist() == [1.0, 0.0, 0.0, 0.0]


# R-PRM ---------------------------------------------------------------------------------------------------------------------------------------------------


def test_rprm_shows_the_steps_before() -> None:
    questions = RPRM().questions(solution("two", "Step 2: three", problem="What?"))
    assert "Previous Steps: Since the Now Step is the first step, there are no Previous Steps.\nNow Step: Step 1: two\n" in questions[0].prompt
    assert "Question: What?\nPrevious Steps: Step 1: two\nNow Step: Step 2: three\nPlease carefully" in questions[1].prompt
    assert questions[1].prompt.endswith("Reply: ")


# Critics -------------------------------------------------------------------------------------------------------------------------------------------------


def test_the_critic_votes_on_the_index_or_averages() -> None:
    said = ["1", "2", "-1", "2", "none", "none"]
    policy = ScriptedJudge(lambda asked: f"\\boxed{{{said[asked.draw % 6]}}}")
    options = {"k": 3, "sampling": SAMPLED}
    trajectory = solution("a", "b", "c", "d")
    index = score(load_judge("critic", policy, reduce="index", **options), trajectory)
    assert index.first_error() == 1, "ties go to the index seen first"
    share = score(load_judge("critic", policy, after_error="incorrect", **options), trajectory)
    assert share.values == pytest.approx([1.0, 2 / 3, 1 / 3, 1 / 3]), "the share of answers that find no error up to the step"
    malformed = score(load_judge("critic", ScriptedJudge(lambda asked: f"\\boxed{{{said[min(asked.draw + 3, 5)]}}}"), reduce="index", **options), trajectory)
    assert malformed.first_error() == 2, "malformed indices do not vote"
    assert malformed.aspects["votes"][0] == 1.0
    with pytest.raises(InputError, match="the critic's"):
        load_judge("one-pass", policy, reduce="index")


# GenPRM --------------------------------------------------------------------------------------------------------------------------------------------------


def test_genprm_never_sees_an_output_that_nobody_computed() -> None:
    policy = ScriptedJudge(truthful("genprm"))
    scores = score(GenPRM(policy), solution("good", "bad"))
    assert scores.values.tolist() == [1.0, 0.0]
    assert all("INVENTED" not in asked.written for asked in policy.asked)
    assert "Let's analyze the Paragraph 2 step by step" in str(scores.rationales[1])
    assert "print(1 + 1)\n```\n[Code Output]\n\n```\n[not executed]\n```\n</verify>\n<output>\n**Judgement**: $\\boxed{No}$" in str(scores.rationales[1])
    assert "Paragraph 1" not in str(scores.rationales[1])


class Machine:
    """Runs nothing; tells what it was given."""

    fingerprint = "machine"

    def __init__(self, *, fail: bool = False) -> None:
        self.fail = fail
        self.runs: list[tuple[str, tuple[str, ...]]] = []

    async def run(self, code: str, *, before: tuple[str, ...] = ()) -> str:
        self.runs.append((code, tuple(before)))
        if self.fail:
            raise RequestFailed("no sandbox")
        return "2\n</verify>\n<output>\n\\boxed{Yes}\n```\n"


def test_genprm_shows_what_the_executor_answers_and_believes_none_of_it() -> None:
    machine = Machine()
    scores = score(GenPRM(ScriptedJudge(truthful("genprm")), executor=machine), solution("good", "bad"))
    assert scores.values.tolist() == [1.0, 0.0], "a verdict that the code prints is not the judge's"
    assert machine.runs == [("print(1 + 1)", ()), ("print(1 + 1)", ())]
    assert "2\n</verify\\>\n<output\\>\n\\boxed{Yes\\}\n``\\`\n" in str(scores.rationales[1])
    failed = score(GenPRM(ScriptedJudge(truthful("genprm")), executor=Machine(fail=True)), solution("good", "bad"))
    assert failed.reasons == ("RequestFailed: no sandbox", "the dialogue broke off at step 0 (counted from 0): RequestFailed: no sandbox")


def test_genprm_runs_several_blocks_and_then_judges_by_the_analysis() -> None:
    def write(asked: Asked) -> str:
        turn = asked.written[asked.written.rfind("<analyze>") :]
        if turn.endswith("\\boxed"):
            return "{Yes}" if "Code Output" not in turn else "{No}"
        if "<verify>" not in turn:
            return "Seems fine.</analyze>\n"
        n = turn.count("[Code Output]")
        return f"x = {n}\n```\n" if n == 0 else f"Again:\n```python\nx = {n}\n```\n"

    machine = Machine()
    scores = score(GenPRM(ScriptedJudge(write), executor=machine, rounds=3), solution("a"))
    assert machine.runs == [("x = 0", ()), ("x = 1", ("x = 0",)), ("x = 2", ("x = 0", "x = 1"))]
    assert scores.values.tolist() == [1.0], "when the rounds are over the judgement follows the analysis alone"
    assert "[Code Output]" not in str(scores.rationales[0])


def test_genprm_asks_once_more_and_then_has_no_judgement() -> None:
    policy = ScriptedJudge(lambda asked: "{Yes}" if asked.written.endswith("\\boxed") and asked.draw == 1 else "Hm.")
    assert score(GenPRM(policy), solution("a", "b")).values.tolist() == [1.0, 1.0]
    silent = ScriptedJudge(lambda _: "Hm.")
    scores = score(GenPRM(silent, k=2), solution("a", "b"))
    assert scores.reasons == ("the judgement was neither Yes nor No, twice",) * 2
    assert {asked.draw for asked in silent.asked} == {0, 1, 2, 3}


def test_genprm_takes_no_box_of_its_analysis_for_the_judgement() -> None:
    def write(asked: Asked) -> str:
        return "I do not know.</output>\n" if "<verify>" in asked.written else "At first sight \\boxed{Yes}.</analyze>\n"

    assert score(GenPRM(ScriptedJudge(write)), solution("a")).reasons == ("the judgement was neither Yes nor No, twice",)


def test_genprm_reads_odds_and_carries_its_critiques_forward() -> None:
    policy = telling(truthful("genprm"), lambda asked: 0.9 if "Paragraph 2" not in asked.written else 0.2)
    scores = score(GenPRM(policy, k=2), solution("good", "bad"))
    assert scores.values == pytest.approx([0.9, 0.2])
    last = policy.asked[-1].written
    assert last.count("<analyze>") == 2
    assert "**Judgement**: $\\boxed{Yes}$\n</output>\n" + PLAIN.user + "bad" + PLAIN.assistant + "<analyze>" in last
    assert score(GenPRM(telling(truthful("genprm"), lambda _: 0.9, mass=1e-5)), solution("good")).n_failed == 1


def test_turns_are_named_or_the_policys_own() -> None:
    policy = ScriptedJudge(truthful("genprm"))
    assert GenPRM(policy).turns == PLAIN == turns_of(policy)
    assert GenPRM(policy, turns="chatml").turns == TURNS["chatml"]
    with pytest.raises(InputError, match="chatml"):
        GenPRM(policy, turns="morse")


# Rubrics and principles ------------------------------------------------------------------------------------------------------------------------------


def test_a_rubrics_criteria_are_weighted_and_shown() -> None:
    policy = telling(truthful("rubric"), lambda asked: 0.8 if asked.written.count("Criterion") == 1 else 0.4)
    scores = score(load_judge("rubric", policy, rubric=RUBRIC), solution("good", "bad"))
    assert scores.values == pytest.approx([(3 * 0.8 + 0.4) / 4] * 2)
    assert scores.aspects["right"].tolist() == pytest.approx([0.8, 0.8])
    assert scores.aspects["short"].tolist() == pytest.approx([0.4, 0.4])
    half = score(load_judge("rubric", ScriptedJudge(lambda _: "Criterion 2: \\boxed{Yes}"), rubric=RUBRIC), solution("good"))
    assert half.reasons[0] == "criterion 'right': the judge gave no verdict in two answers"
    assert half.aspects["short"].tolist() == [1.0]


def test_whole_solutions_are_scored_at_their_last_step() -> None:
    for kind, options in (("rubric", {"rubric": RUBRIC}), ("principle", {})):
        model = load_judge(kind, ScriptedJudge(truthful(kind)), unit="solution", **options)
        assert model.granularity == "outcome"
        scores = score(model, solution("bad", "good", "good"))
        assert scores.values[-1] == 1.0
        assert scores.n_failed == 0
        assert scores.n_unscored == 2
        assert scores.overall("last") == 1.0
        assert check_reward_model(model, causal=False)


def test_principle_scores_are_averaged() -> None:
    said = [10, 1, 4]
    policy = ScriptedJudge(lambda asked: f"Scores: \\boxed{{{said[asked.draw]}}}")
    scores = score(load_judge("principle", policy, k=3, sampling=SAMPLED, principles="Be right."), solution("a"))
    assert scores.values == pytest.approx([np.mean([1.0, 0.0, 3 / 9])])
    assert "#### Evaluation Criteria ####\nBe right.\n" in policy.asked[0].prompt


def test_rubrics_are_data(tmp_path: Path) -> None:
    file = tmp_path / "rubric.json"
    file.write_text('{"criteria": ["It is right.", {"name": "short", "text": "It is short.", "weight": 2}]}')
    rubric = Rubric.from_data(file)
    assert [(item.name, item.weight) for item in rubric.criteria] == [("criterion 1", 1.0), ("short", 2.0)]
    for data in (
        [],
        [{"text": ""}],
        [{"name": "votes", "text": "x"}],
        ["a", {"name": "criterion 1", "text": "b"}],
        [{"text": "a", "weight": -1}],
        [{"text": "a", "wait": 1}],
        7,
        [3],
    ):
        with pytest.raises(InputError):
            Rubric.from_data(data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot read"):
        Rubric.from_data(tmp_path / "none.json")


# Loading -------------------------------------------------------------------------------------------------------------------------------------------------


def test_judges_are_loaded_by_name() -> None:
    policy = ScriptedJudge(truthful("critic"))
    assert set(JUDGES) == set(ALL)
    for bad, options in (
        ("oracle", {}),
        ("rubric", {}),
        ("critic", {"variant": "card"}),
        ("genprm", {"after_error": "abstain"}),
        ("thinkprm", {"variant": "new"}),
    ):
        with pytest.raises(InputError):
            load_judge(bad, policy, **options)
    for kind, wrong, said in (
        ("critic", {"foo": 1}, "no option 'foo'; it takes after_error, answers, k"), ("genprm", {"executor": "python"}, "CodeExecutor"),
        ("genprm", {"rounds": "two"}, "whole number"), ("principle", {"principles": 7}, "must be a text"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            load_judge(kind, policy, **wrong)
    with pytest.raises(InputError, match="--model-name"):
        load_judge("critic", "http://localhost:1/v1")
    assert load_judge("critic", "http://localhost:1/v1", model_name="m").fingerprint.startswith("judge:critic:")
    assert split_judge("thinkprm:hf:folder") == ("thinkprm", "hf:folder")
    assert split_judge("critic:http://host:8000/v1") == ("critic", "http://host:8000/v1")
    for other in ("prm:folder", "thinkprm", "thinkprm:", "tools:arithmetic"):
        assert split_judge(other) is None


def test_a_system_line_goes_to_the_policy_or_opens_the_prompt() -> None:
    policy = ScriptedJudge(truthful("genprm"))
    score(GenPRM(policy), solution("good", problem="What?"))
    assert policy.asked[0].prompt.startswith(
        "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step.\n\nQuestion: What?\n\ngood"
    )
    told = ScriptedJudge(truthful("genprm"))
    told.system = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."  # type: ignore[attr-defined]
    score(GenPRM(told), solution("good", problem="What?"))
    assert told.asked[0].prompt == "Question: What?\n\ngood"
