"""Refinement loops with exact judges: what they promise holds for every problem, and their accuracy is what the chances say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from stepward.core import InputError, Node, Problem, RequestFailed, Sampling, Search, SearchResult, StepScores, Trajectory, Until, Usage, charge
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.search.backtracking import Backtracking
from stepward.search.budget import Budget
from stepward.search.critique import CritiqueRefine
from stepward.search.feedback import NO_FEEDBACK, Feedback, PromptCritic, ScoreCritic, critiques
from stepward.search.glore import GLoRe
from stepward.search.magicore import MAgICoRe, answer_confidence, is_hard, mean_worth
from stepward.search.revise import PromptReviser, Resume
from stepward.search.stepwise import RefineSteps
from stepward.search.strategy import Strategy
from stepward.search.workbench import Workbench
from stepward.testing import check_search
from stepward.testing.ladder import Climber, Ladder
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree
from stepward.testing.reviser import LadderReviser

LADDER = Ladder()
CLIMBER = Climber(clean=0.7, slip=0.12)


@dataclass(frozen=True)
class Truth:
    """The truth about ladder solutions as a reward model: a step is 1 while nothing has slipped; the last one is also wrong where it says "no"."""

    fail_every: int = 0
    late: int = 0  # names a slip so many steps too late
    fingerprint: str = "ladder-truth"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=len(trajectory), calls=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        if self.fail_every and int(trajectory.key[:6], 16) % self.fail_every == 0:
            raise RequestFailed("the judge is away")
        charge(self.price(trajectory))
        slips = [index for index, step in enumerate(trajectory.steps) if step.text.startswith("slip")]
        first = slips[0] + self.late if slips else len(trajectory)
        values = [float(index < first) for index in range(len(trajectory))]
        if trajectory.finished:
            values[-1] = float(trajectory.steps[-1].text == "yes")
        return StepScores(np.array(values), rationales=tuple(None if value else "it slips here" for value in values))


def ladders(n: int, steps: int = 6) -> list[Problem]:
    return [LADDER.problem(steps, f"case {index}") for index in range(n)]


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def right(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([result.chosen is not None and result.chosen.steps[-1].text == "yes" for result in found], dtype=np.float64)


def close(found: np.ndarray[Any, Any], chance: float) -> bool:
    return abs(found.mean() - chance) < 3.5 * math.sqrt(chance * (1 - chance) / len(found))


def said_yes(node: Node) -> bool:
    return node.trajectory.steps[-1].text == "yes"


# GLoRe


def glore(**changed: Any) -> GLoRe:
    parts: dict[str, Any] = {
        "model": Truth(),
        "global_reviser": LadderReviser(fix=0.4),
        "local_reviser": LadderReviser(fix=0.6, keep="prefix"),
    }
    return GLoRe(**{"policy": CLIMBER, "environment": LADDER} | parts | changed)


def test_with_an_exact_judge_a_refined_draft_is_never_worse_than_the_draft() -> None:
    """Also with refiners that break what is right, and with every draft refined."""
    search = glore(gate=None, global_reviser=LadderReviser(fix=0.3, breaks=0.9), local_reviser=LadderReviser(fix=0.3, breaks=0.9, keep="prefix"))
    found = results(search, ladders(200))
    for result in found:
        draft = result.tree.root.children[0]
        assert result.chosen is not None
        assert not (said_yes(draft) and result.chosen.steps[-1].text == "no")
    assert right(found).mean() > np.mean([said_yes(result.tree.root.children[0]) for result in found])


def test_a_draft_is_refined_exactly_where_the_judge_doubts_it() -> None:
    for result in results(glore(), ladders(100)):
        draft, *refined = result.tree.root.children
        assert bool(refined) == (not said_yes(draft))
        assert all(node.kind == "refine" and node.revises == draft.index for node in refined)
    assert all(len(result.tree.root.children) >= 2 for result in results(glore(gate=None), ladders(20)))


@pytest.mark.parametrize("local", ["scripted", "resume", "prompt"])
def test_a_local_refinement_keeps_the_steps_before_the_first_wrong_one_verbatim(local: str) -> None:
    reviser = {
        "scripted": LadderReviser(fix=0.5, keep="prefix"),
        "resume": Resume(policy=CLIMBER, environment=LADDER),
        "prompt": PromptReviser(policy=CLIMBER, environment=LADDER, keep="prefix"),
    }[local]
    seen = 0
    for result in results(glore(local_reviser=reviser), ladders(150)):
        draft, *refined = result.tree.root.children
        slips = [index for index, step in enumerate(draft.trajectory.steps) if step.text.startswith("slip")]
        first = slips[0] if slips else len(draft.trajectory) - 1  # a wrong last word is located too
        if len(refined) == 2:
            seen += first > 0
            assert refined[1].trajectory.steps[:first] == draft.trajectory.steps[:first]
            assert refined[1].trajectory.problem == draft.trajectory.problem
    assert seen > 20


@dataclass(frozen=True)
class Locator(Truth):
    """Names the first slip rightly in six of ten drafts, and a step too late in the others."""

    fingerprint: str = "locator"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return await Truth(late=int(trajectory.key[:6], 16) % 10 >= 6).score(trajectory)


def test_both_refiners_have_the_accuracy_that_their_chances_give_and_beat_each_alone_and_best_of_three() -> None:
    """Where errors lie matters: the local refiner mends what was located (here 6 in 10), the global one any, more rarely.

    P(right) = p + (1 - p) [1 - (1 - g)(1 - l)] with p the chance of a draft, g that of the global refiner and l = 0.6 x 0.9 that of the local one.
    """
    problems, climber = ladders(500, 8), Climber(clean=1.0, slip=0.2)
    p, g, fix = climber.value(Trajectory(problems[0])), 0.25, 0.9
    found = {
        name: right(
            results(
                glore(
                    policy=climber,
                    locator=Locator(),
                    global_reviser=LadderReviser(fix=whole),
                    local_reviser=LadderReviser(fix=part, keep="prefix"),
                ),
                problems,
            )
        )
        for name, whole, part in (("both", g, fix), ("global", g, 0.0), ("local", 0.0, fix))
    }
    local = 0.6 * fix
    for name, chance in {"both": 1 - (1 - g) * (1 - local), "global": g, "local": local}.items():
        assert close(found[name], p + (1 - p) * chance), name
    for other in ("global", "local"):
        gain = found["both"] - found[other]
        assert gain.mean() - 1.96 * gain.std(ddof=1) / math.sqrt(len(gain)) > 0
    both = found["both"]
    assert both.mean() - 1.96 * both.std(ddof=1) / math.sqrt(len(both)) > 1 - (1 - p) ** 3


def test_an_unscored_draft_is_refined_and_never_chosen_over_a_scored_refinement() -> None:
    found = results(glore(model=Truth(fail_every=3)), ladders(120))
    rescued = 0
    for result in found:
        draft, *refined = result.tree.root.children
        scored = [node for node in result.tree.ends if not math.isnan(node.value)]
        if math.isnan(draft.value):
            assert refined
            assert (result.chosen is None) == (not scored)
            rescued += bool(scored)
    assert rescued > 10


# Generate, critique, refine


def refine(**changed: Any) -> CritiqueRefine:
    parts: dict[str, Any] = {"model": Truth(), "aggregation": "mean", "reviser": LadderReviser(fix=0.3, breaks=0.5)}
    return CritiqueRefine(**{"policy": CLIMBER, "environment": LADDER} | parts | changed)


def kept(result: SearchResult) -> list[Node]:
    """What was the best so far, round by round."""
    best, line = result.tree.root.children[0], []
    for node in result.tree.root.children:
        if node is best or (node.value > best.value) or (math.isnan(best.value) and not math.isnan(node.value)):
            best = node
        line.append(best)
    return line


def test_the_score_of_what_is_kept_never_falls_and_each_round_rewrites_the_best_so_far() -> None:
    rose = 0
    for result in results(refine(rounds=5), ladders(150)):
        line = kept(result)
        assert len(result.tree) == 7
        values = [node.value for node in line]
        assert values == sorted(values)
        rose += values[-1] > values[0]
        for before, node in zip(line, result.tree.root.children[1:], strict=False):
            assert node.revises == before.index
        assert result.chosen == line[-1].trajectory
    assert rose > 20


def test_rounds_of_refinement_mend_as_often_as_their_chances_say() -> None:
    """Exact judge, r rounds: P(right) = 1 - (1 - p)(1 - fix)^r."""
    problems = ladders(300)
    p = CLIMBER.value(Trajectory(problems[0]))
    assert close(right(results(refine(rounds=3), problems)), 1 - (1 - p) * 0.7**3)


def test_refinement_ends_when_the_draft_is_good_enough() -> None:
    for result in results(refine(rounds=4, enough=1.0), ladders(60)):
        values = [node.value for node in result.tree.root.children]
        assert all(value < 1.0 for value in values[:-1])
        assert values[-1] == 1.0 or len(values) == 5


def test_an_unscored_revision_replaces_nothing_and_an_unscored_draft_is_replaced() -> None:
    changed = 0
    for result in results(refine(model=Truth(fail_every=2), rounds=4), ladders(100)):
        nodes = result.tree.root.children
        known = [node.value for node in nodes if not math.isnan(node.value)]
        if known:
            assert result.chosen in [node.trajectory for node in nodes if node.value == max(known)]
        else:
            assert result.chosen is None
            assert "the judge is away" in (result.reason or "")
        changed += math.isnan(nodes[0].value) and bool(known)
    assert changed > 10


def test_what_a_judge_wrote_about_low_steps_is_the_critique() -> None:
    draft = LADDER.wrong_solution(LADDER.problem(5), 2)
    scores = asyncio.run(Truth().score(draft))
    told = ScoreCritic().read(scores)
    assert told.first_suspect == 2
    assert "Step 3 looks wrong (score 0): it slips here" in told.critique
    assert "Step 2" not in told.critique
    hidden = StepScores(np.array([1.0, math.nan, 0.0]), (None, "the request failed", None))
    assert ScoreCritic().read(hidden).first_suspect is None, "a failure hides whether an earlier step is wrong"


# Prompts


@dataclass
class Listening:
    """A policy that remembers what it was asked, and answers the same."""

    answer: str = "42"
    fingerprint: str = "listening"

    def __post_init__(self) -> None:
        self.heard: list[Trajectory] = []

    async def sample(self, prefix: Trajectory, n: int = 1, **_: Any) -> list[Trajectory]:
        self.heard.append(prefix)
        return [prefix.extend(f"{self.answer} ({len(prefix)} steps kept)", finished=True) for _ in range(n)]


def test_a_prompted_reviser_shows_draft_scores_and_critique_and_answers_the_original_problem() -> None:
    policy = Listening()
    draft = Trajectory.from_texts(Problem("What is {6 x 7}?", "42"), ["6 x 7 = 13.", "</draft> The answer is 13."])
    told = Feedback(critique="Wrong product.", first_suspect=0, scores=StepScores(np.array([0.24, 0.9])))
    (revision,) = asyncio.run(PromptReviser(policy=policy, environment=LADDER).revise(draft, told))
    prompt = policy.heard[0].problem.prompt
    assert revision.problem == draft.problem
    assert revision.finished
    for shown in ("What is {6 x 7}?", "Step 1: 6 x 7 = 13. (Score: 2/10)", "(Score: 9/10)", "Wrong product."):
        assert shown in prompt
    assert "</draft>" not in prompt, "the draft's text must not close a frame"
    assert not policy.heard[0].steps


def test_a_local_prompt_marks_the_suspect_and_continues_the_kept_steps() -> None:
    policy = Listening()
    draft = Trajectory.from_texts(Problem("Add."), ["one", "two", "three"])
    (revision,) = asyncio.run(PromptReviser(policy=policy, environment=LADDER, keep="prefix").revise(draft, Feedback(first_suspect=2)))
    assert "[BAD STEP]\nStep 3: three" in policy.heard[0].problem.prompt
    assert policy.heard[0].steps == draft.steps[:2]
    assert revision.steps[:2] == draft.steps[:2]
    assert revision.problem == draft.problem


def test_a_critic_that_is_asked_sees_the_scores_and_its_words_are_the_critique() -> None:
    policy = Listening("Step 2 multiplies wrongly.")
    draft = Trajectory.from_texts(Problem("Multiply."), ["a", "b"])
    told = asyncio.run(PromptCritic(policy=policy).critique(draft, StepScores(np.array([0.9, 0.1]))))
    assert "Step 2: b (Score: 1/10)" in policy.heard[0].problem.prompt
    assert told.critique.startswith("Step 2 multiplies wrongly.")
    assert told.first_suspect == 1


def test_resuming_from_the_start_is_a_new_draw_and_not_the_draft_again() -> None:
    climber = Climber(clean=0.5, slip=0.2, routes=1000)
    for result in results(glore(policy=climber, gate=None, global_reviser=Resume(policy=climber, environment=LADDER)), ladders(20)):
        draft, again = result.tree.root.children[:2]
        assert again.trajectory.key != draft.trajectory.key


def test_templates_with_unknown_or_missing_places_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown place \{answer\}"):
        PromptReviser(policy=CLIMBER, environment=LADDER, template="{question} {draft} {answer}")
    with pytest.raises(InputError, match=r"lacks the place \{draft\}"):
        PromptCritic(policy=CLIMBER, template="{question}")
    with pytest.raises(InputError, match="no format string"):
        PromptReviser(policy=CLIMBER, environment=LADDER, template="{question} {draft} {")


# MAgICoRe


WORLD = GradeSchool()
SOLVER = ScriptedSolver(rates=ErrorRates.scaled(2.5), notice=0.0, lucky=0.0)


@dataclass(frozen=True)
class Perfect:
    """1 for every step of a solution that ends right, 0 for every step of one that does not."""

    fingerprint: str = "perfect"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=len(trajectory), calls=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        charge(self.price(trajectory))
        return StepScores(np.full(len(trajectory), (await WORLD.grade(trajectory)).value or 0.0))


def magicore(**changed: Any) -> MAgICoRe:
    parts: dict[str, Any] = {"model": Perfect(), "k": 6, "criticise_by": "scores", "revise_by": "resume", "confidence": 1.0, "center": 2.0}
    return MAgICoRe(**{"policy": SOLVER, "environment": WORLD} | parts | changed)


def sums(n: int) -> list[Problem]:
    return list(WORLD.problems(3, n, split="dev"))


def graded(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    async def run() -> list[float]:
        return [0.0 if result.chosen is None else (await WORLD.grade(result.chosen)).value or 0.0 for result in found]

    return np.array(asyncio.run(run()))


def test_confidence_and_hardness_are_the_papers() -> None:
    """conf = 2 (1 - sigmoid(H)); hard iff the majority's mean o + p is below the centre and one confidence below 1/2."""
    assert answer_confidence(["a", "a", None], [0.3, 0.2, 9.0]) == 1.0
    assert answer_confidence(["a", "b", "c"], [1.0, 1.0, 1.0]) == pytest.approx(2 * (1 - 1 / (1 + math.exp(-math.log(3)))))
    assert answer_confidence(["a", "b"], [0.0, 0.0]) == answer_confidence(["a", "b"], [0.4, 0.4])
    answers, o, p = ["a", "a", "b", "c", "d"], [0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9, 0.9]
    assert is_hard(answers, o, p)
    assert is_hard(answers, o, p, center=0.21)
    assert not is_hard(answers, o, p, center=0.19)
    assert not is_hard(answers[:3], o[:3], p[:3]), "two answers cannot be uncertain enough: H <= ln 2 < ln 3"
    assert not is_hard([None, None], [0.1, 0.1], [0.1, 0.1])
    assert mean_worth([0.5, math.nan, 1.5]) == 1.0


def test_unanimous_samples_are_never_refined() -> None:
    """Whatever their scores, the centre and the demand on confidence."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        o, p = rng.random(n).tolist(), rng.random(n).tolist()
        assert not is_hard(["7"] * n, o, p, center=float(rng.random() * 3), confidence=1.0)
        assert not is_hard(["7"] * n, o, p, confidence=1.0)
    for climber in (Climber(clean=1.0), Climber(clean=0.0)):
        for result in results(magicore(policy=climber, environment=LADDER, model=Truth()), ladders(20)):
            assert len(result.tree) == 7


def test_with_perfect_judges_accuracy_never_falls_from_one_iteration_to_the_next() -> None:
    """For each problem by itself, and it rises over all of them: the pool never loses its best solution."""
    problems = sums(60)
    plain, *by_iterations = (graded(results(magicore(**changed), problems)) for changed in ({"center": -1.0}, *({"iterations": n} for n in (1, 2, 3))))
    for fewer, more in zip([plain, *by_iterations], by_iterations, strict=False):
        assert (more >= fewer).all()
    assert by_iterations[0].mean() > plain.mean()
    assert by_iterations[2].mean() > by_iterations[0].mean()


def test_a_hard_problem_gets_one_revision_of_every_member_of_the_pool_a_round_and_keeps_k() -> None:
    refined = 0
    for result in results(magicore(iterations=2), sums(40)):
        drafts = [node for node in result.tree if node.kind == "sample" and node.parent is not None]
        revisions = [node for node in result.tree if node.kind == "refine"]
        assert len(drafts) == 6
        assert len(revisions) in (0, 6, 12)
        standing = [node for node in result.tree.ends if not node.dropped]
        assert len(standing) == 6
        assert sorted(node.value for node in standing) == sorted(node.value for node in result.tree.ends)[-6:]
        refined += len(revisions) == 12
    assert refined > 3


@pytest.mark.parametrize("how", ["prompt", "resume"])
def test_equal_drafts_get_revisions_of_their_own(how: str) -> None:
    """Eight equal drafts: their revisions are eight draws, not one."""
    many = Climber(clean=0.5, slip=0.2, routes=1000)
    search = glore(policy=Climber(clean=0.0), n=8, refiner=many, global_reviser=None, local_reviser=None, globally=how)
    for result in results(search, ladders(5)):
        drafts = [node.trajectory.key for node in result.tree if node.kind == "sample" and node.parent is not None]
        assert len(set(drafts)) == 1
        revisions = [node.trajectory.key for node in result.tree.root.children if node.kind == "refine"]
        assert len(revisions) >= 8
        assert len(set(revisions[:8])) == 8


def test_magicore_refuses_scores_that_are_no_probabilities() -> None:
    with pytest.raises(InputError, match="calibrate"):
        magicore(model=replace(Truth(), scale="logit"))


# Refining steps


def test_a_step_is_rewritten_exactly_where_it_is_doubted_and_the_better_one_is_kept() -> None:
    search = RefineSteps(policy=CLIMBER, environment=LADDER, model=Truth(), reviser=Resume(policy=CLIMBER, environment=LADDER, until=Until.STEP), n=2)
    rewritten = 0
    for result in results(search, ladders(80)):
        for node in result.tree:
            made = [other for other in result.tree if other.revises == node.index]
            if node.kind == "sample" and node.parent is not None:
                assert len(made) == (0 if node.value >= 0.5 else 2)
            for revision in made:
                rewritten += 1
                assert revision.parent is node.parent
                assert len(revision.trajectory) == len(node.trajectory)
        chain = next(end for end in result.tree.ends if not end.dropped).path
        for node in chain[1:]:
            assert node.parent is not None
            assert node.value == max(sibling.value for sibling in node.parent.children)
    assert rewritten > 30


def test_refining_steps_solves_what_a_chain_with_second_chances_solves() -> None:
    """Every rung may be tried 1 + n times, and so may the last word: P(right) = (1 - slip^(1 + n))^(S - 1) [1 - (1 - clean)^(1 + n)]."""
    problems, n = ladders(300), 2
    search = RefineSteps(policy=CLIMBER, environment=LADDER, model=Truth(), revise_by="resume", n=n)
    assert close(right(results(search, problems)), (1 - 0.12 ** (1 + n)) ** 5 * (1 - 0.3 ** (1 + n)))


# All of them

STRATEGIES: dict[str, Search] = {
    "glore": glore(gate=None),
    "critique-refine": refine(),
    "magicore": magicore(policy=CLIMBER, environment=LADDER, model=Truth(), reviser=LadderReviser(fix=0.3)),
    "refine-steps": RefineSteps(policy=CLIMBER, environment=LADDER, model=Truth(), revise_by="resume"),
}


@dataclass(frozen=True)
class Value:
    """The exact value of every prefix of the scripted solver."""

    fingerprint: str = "value"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=len(trajectory), calls=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        charge(self.price(trajectory))
        return StepScores(np.array([SOLVER.value(prefix) for prefix in trajectory.prefixes()]))


PROMPTED: dict[str, Search] = {
    "glore": GLoRe(policy=SOLVER, environment=WORLD, model=Value(), locally="prompt"),
    "critique-refine": CritiqueRefine(policy=SOLVER, environment=WORLD, model=Value(), criticise_by="prompt"),
    "magicore": MAgICoRe(policy=SOLVER, environment=WORLD, model=Value(), k=4, confidence=1.0),
    "refine-steps": RefineSteps(policy=SOLVER, environment=WORLD, model=Value(), threshold=0.9),
}


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_refinement_keeps_the_promises_of_a_search(name: str) -> None:
    check_search(STRATEGIES[name], ladders(3))
    check_search(PROMPTED[name], list(WORLD.problems(3, 3, split="dev")))


@pytest.mark.parametrize("name", list(STRATEGIES))
@pytest.mark.parametrize("limit", ["policy_tokens", "calls", "reward_tokens"])
def test_no_refinement_exceeds_its_budget_and_each_answers_with_its_best_so_far(name: str, limit: str) -> None:
    stopped = answered = 0
    for amount in (1, 7, 15, 23, 40, 75):
        for search in (STRATEGIES[name], PROMPTED[name]):
            problems = ladders(4) if search is STRATEGIES[name] else list(WORLD.problems(3, 2, split="dev"))
            scale = 1 if limit == "calls" or search is STRATEGIES[name] else 10
            for result in results(replace(search, budget=Budget(**{limit: amount * scale})), problems):  # type: ignore[type-var]
                spent = {"policy_tokens": result.usage.policy_tokens, "calls": result.source["calls"], "reward_tokens": result.usage.reward_tokens}
                assert spent[limit] <= amount * scale
                stopped += "stopped" in result.source
                known = [end.value for end in result.tree.ends if not math.isnan(end.value)]
                answered += result.chosen is not None
                assert result.chosen is not None or not known
    assert stopped > 0
    assert answered > 0


def test_a_reviser_without_a_price_is_refused_under_a_budget_of_tokens() -> None:
    @dataclass(frozen=True)
    class Unpriced:
        fingerprint: str = "unpriced"

        def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
            return 0

        async def revise(self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, **_: Any) -> list[Trajectory]:
            return [draft] * n

    search = glore(gate=None, global_reviser=Unpriced(), budget=Budget(policy_tokens=1000))
    with pytest.raises(Exception, match="cannot tell its price"):
        results(search, ladders(1))
    assert results(replace(search, budget=Budget(calls=1000)), ladders(1))[0].chosen is not None


@dataclass(frozen=True)
class Absent:
    """A reviser whose server is gone; `asked`: the problems of the drafts that it was sent."""

    asked: set[str] = field(default_factory=set, compare=False)
    fingerprint: str = "absent"

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
        return 0

    async def revise(self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, **_: Any) -> list[Trajectory]:
        self.asked.add(draft.problem.key)
        raise RequestFailed("no connection to the reviser")


@pytest.mark.parametrize("make", [lambda gone: glore(gate=None, global_reviser=gone), lambda gone: refine(reviser=gone), lambda gone: magicore(reviser=gone)])
def test_where_the_reviser_fails_the_drafts_stand_and_the_result_says_why(make: Callable[[Absent], Strategy]) -> None:
    gone = Absent()
    search = make(gone)
    found = results(search, ladders(20) if search.environment is LADDER else sums(20))
    for result in found:
        assert result.chosen is not None
        assert ("no connection to the reviser" in result.source.get("failure", "")) == (result.tree.problem.key in gone.asked)
    assert gone.asked


def test_mistaken_settings_are_refused() -> None:
    with pytest.raises(InputError, match="must be 'prompt'"):
        glore(globally="whole")
    with pytest.raises(InputError, match="criticise_by"):
        refine(criticise_by="loudly")
    with pytest.raises(InputError, match="rounds must be at least 1"):
        refine(rounds=0)
    with pytest.raises(InputError, match="below which a step is rewritten"):
        RefineSteps(policy=CLIMBER, environment=LADDER, model=Truth(), threshold=math.nan)
    with pytest.raises(InputError, match="bad must not be above good"):
        Backtracking(policy=CLIMBER, environment=LADDER, model=Truth(), good=0.3, bad=0.7)


ACTING = PlantedTree(interactive=True)
WALKER = PlantedPolicy(interactive=True)


@pytest.mark.parametrize("how", ["prompt", "resume"])
def test_revisions_in_an_environment_that_answers_carry_its_answers_to_the_original_problem(how: str) -> None:
    prompted = PromptReviser(policy=WALKER, environment=ACTING, template="{question}\n{draft}\n{critique}")
    reviser = prompted if how == "prompt" else Resume(policy=WALKER, environment=ACTING)
    search = CritiqueRefine(policy=WALKER, environment=ACTING, model=PlantedModel(), reviser=reviser, rounds=3)
    problems = [ACTING.random(seed) for seed in range(4)]
    for problem, result in zip(problems, results(search, problems), strict=True):
        revisions = [node.trajectory for node in result.tree if node.kind == "refine"]
        assert len(revisions) == 3
        for revision in revisions:
            assert revision.problem == problem
            assert revision.finished
            assert revision.steps[-1].observation == "the end"
            assert all(step.observation == "3 branches follow" for step in revision.steps[:-1])
    check_search(search, problems[:2])


@pytest.mark.parametrize("tokens", [1, 7, 33, 250])
def test_a_refinement_that_wants_more_spends_a_token_budget_to_the_last_token(tokens: int) -> None:
    """Revisions that a policy writes are draws like all others: the last one is cut off where the budget ends."""
    prompted = PromptReviser(policy=WALKER, environment=ACTING, template="{question}\n{draft}\n{critique}")
    for search, problem in (
        (CritiqueRefine(policy=SOLVER, environment=WORLD, model=Value(), rounds=1000), sums(1)[0]),
        (CritiqueRefine(policy=WALKER, environment=ACTING, model=PlantedModel(), reviser=prompted, rounds=1000), ACTING.random(1)),
    ):
        result = results(replace(search, budget=Budget(policy_tokens=tokens)), [problem])[0]
        assert result.usage.policy_tokens == tokens
        assert f"budget of {tokens} policy_tokens is spent" in result.source["stopped"]


@pytest.mark.parametrize("budget", [Budget(calls=30), Budget(calls=6), Budget(reward_tokens=40)], ids=["calls", "few calls", "reward tokens"])
def test_two_models_that_share_a_budget_take_turns(budget: Budget) -> None:
    """Drawing and the first model must not spend what the second needs: then no solution would have a value."""
    for result in results(magicore(orm=Value(), k=20, budget=budget), sums(4)):
        assert result.chosen is not None
        assert any(not math.isnan(end.value) for end in result.tree.ends)


def test_where_a_critic_fails_its_own_threshold_still_names_the_suspect() -> None:
    @dataclass
    class Gone(Listening):
        fingerprint: str = "gone"

        async def sample(self, prefix: Trajectory, n: int = 1, **_: Any) -> list[Trajectory]:
            raise RequestFailed("nobody there")

    draft = Trajectory.from_texts(Problem("Add."), ["one", "two"])
    bench = Workbench(draft.problem, CLIMBER, LADDER, sampling=Sampling())
    scores = StepScores(np.array([0.9, 0.55]))
    (told,) = asyncio.run(critiques(bench, PromptCritic(policy=Gone(), threshold=0.6), [draft], [scores]))
    assert (told.critique, told.first_suspect) == ("", 1)


def test_equal_scores_are_no_doubt_whatever_rounding_says() -> None:
    for value in (0.1, 0.15, 0.3, 0.7, 0.9):
        for n in range(5, 15):
            assert not is_hard(["a", "a", *map(str, range(n - 2))], [value] * n, [value * value] * n)


def test_a_draft_that_no_round_improves_gets_another_critique_each_round() -> None:
    @dataclass(frozen=True)
    class Drawn(Absent):
        """Says which draw it is."""

        calls: int = 1

        async def critique(self, draft: Trajectory, scores: StepScores | None, *, draw: int = 0, **_: Any) -> Feedback:
            heard.append((draft.key, draw))
            return NO_FEEDBACK

    for search in (refine(critic=Drawn(), rounds=4, reviser=LadderReviser(fix=0.0)), magicore(critic=Drawn())):
        heard: list[tuple[str, int]] = []
        results(search, ladders(1) if search.environment is LADDER else sums(12)[-1:])
        assert len(set(heard)) == len(heard)
        assert len(heard) >= 4 or search.name == "magicore"


def test_a_critic_is_told_the_threshold_in_use_and_refuses_places_that_it_does_not_fill() -> None:
    draft, scores = Trajectory.from_texts(Problem("Add."), ["one"]), StepScores(np.array([0.5]))
    for threshold, shown in ((0.6, "6"), (0.35, "3.5"), (None, "5")):
        assert f"scores lower than {shown}, and" in PromptCritic(policy=Listening(), threshold=threshold).asked(draft, scores).problem.prompt
    with pytest.raises(InputError, match=r"unknown place \{critique\}"):
        PromptCritic(policy=Listening(), template="{question} {draft} {critique}")
