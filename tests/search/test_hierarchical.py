"""Hierarchical search on a landscape of coarse and fine terms, where every optimum is known."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from tests.search.test_refinement import Value

from stepward.core import DEFAULT_SAMPLING, InputError, Problem, RequestFailed, Sampling, SearchResult, Step, StepScores, Trajectory, Usage, charge
from stepward.engine.noise import uniforms
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver
from stepward.search.budget import Budget
from stepward.search.feedback import NO_FEEDBACK, Feedback
from stepward.search.hierarchical import Hierarchical, Level
from stepward.search.preference import Preferred
from stepward.testing import check_search

N_COARSE, N_FINE = 24, 24
Part = Literal["coarse", "fine", "flat"]


@dataclass(frozen=True)
class Landscape:
    """Worth of a hypothesis (c, f): a smooth coarse term, and a rough fine term that is drawn anew for every c, so that a change of c spoils the details."""

    def coarse(self, problem: Problem, c: int) -> float:
        peak = int(uniforms(0, problem.key, 0, 0)[0] * N_COARSE)
        return 1.0 - abs(c - peak) / N_COARSE

    def fine(self, problem: Problem, c: int, f: int) -> float:
        return 0.5 * float(uniforms(1, f"{problem.key}/{c}/{f}", 0, 0)[0])

    def worth(self, trajectory: Trajectory) -> float:
        c, f = parts(trajectory)
        return -1.0 if c is None else self.coarse(trajectory.problem, c) + (0.0 if f is None else self.fine(trajectory.problem, c, f))


LAND = Landscape()


def parts(trajectory: Trajectory) -> tuple[int | None, int | None]:
    numbers = [int(step.text.split()[-1]) for step in trajectory.steps]
    return (numbers[0] if numbers else None), (numbers[1] if len(numbers) > 1 else None)


def hypothesis(problem: Problem, c: int, f: int | None) -> Trajectory:
    steps = (Step(f"coarse {c}", "\n", n_tokens=1), *(() if f is None else (Step(f"fine {f}", n_tokens=1),)))
    return Trajectory(problem, steps, finished=f is not None)


@dataclass(frozen=True)
class Editor:
    """Begins, edits and merges hypotheses: "coarse" moves c by one, "fine" draws another f, "flat" does either, or begins with both."""

    what: Part
    job: Literal["begin", "edit", "merge"] = "edit"
    fail_every: int = 0

    @property
    def fingerprint(self) -> str:
        return f"editor/{self.what}/{self.job}/{self.fail_every}"

    def keeps(self, draft: Trajectory, feedback: Feedback) -> int:
        return min(len(draft), 1) if self.what == "fine" else 0

    def price(self, draft: Trajectory, feedback: Feedback, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        return Usage(policy_tokens=2 * n, calls=1)

    async def revise(
        self, draft: Trajectory, feedback: Feedback = NO_FEEDBACK, n: int = 1, *, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        if self.fail_every and int(uniforms(7, draft.key, draw, 0)[0] * 1000) % self.fail_every == 0:
            raise RequestFailed("the editor is out")
        charge(self.price(draft, feedback, n))
        return [self._one(draft, feedback, uniforms(sampling.seed, f"{self.fingerprint}/{draft.key}", draw + i, 0, 3).tolist()) for i in range(n)]

    def _one(self, draft: Trajectory, feedback: Feedback, noise: list[float]) -> Trajectory:
        c, f = parts(draft)
        if self.job == "merge":
            other = parts(feedback.others[0])
            return hypothesis(draft.problem, other[0] if self.what == "coarse" else c or 0, None if self.what == "coarse" else other[1])  # type: ignore[arg-type]
        if c is None:
            c = int(noise[0] * N_COARSE)
            return hypothesis(draft.problem, c, int(noise[1] * N_FINE) if self.what == "flat" else None)
        if self.what == "coarse" or (self.what == "flat" and noise[2] < 0.5):
            c = min(N_COARSE - 1, max(0, c + (1 if noise[0] < 0.5 else -1)))
        else:
            f = int(noise[1] * N_FINE)
        return hypothesis(draft.problem, c, None if self.what == "coarse" else f)


@dataclass(frozen=True)
class Judge:
    """Knows which of two hypotheses is worth more."""

    fails: bool = False

    @property
    def fingerprint(self) -> str:
        return f"judge of worth/{self.fails}"

    def price(self, problem: Problem, a: Trajectory, b: Trajectory) -> Usage:
        return Usage(reward_tokens=2, calls=1)

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Preferred:
        if self.fails:
            raise RequestFailed("the judge is asleep")
        charge(self.price(problem, a, b))
        difference = LAND.worth(a) - LAND.worth(b)
        return Preferred(0.5 + 0.5 * float(np.sign(difference)))


def level(what: Part, **changed: Any) -> Level:
    return Level(begin=Editor(what, "begin", **changed), edit=Editor(what, **changed), merge=Editor(what, "merge", **changed))


COARSE_TO_FINE, FLAT = (level("coarse"), level("fine")), (level("flat"),)


def search(**changed: Any) -> Hierarchical:
    given: dict[str, Any] = {"policy": ScriptedSolver(), "environment": GradeSchool(), "preference": Judge(), "levels": COARSE_TO_FINE}
    return Hierarchical(**given | changed)


def problems(n: int) -> list[Problem]:
    return [Problem(f"Landscape {index}: find the best hypothesis.") for index in range(n)]


def results(strategy: Hierarchical, given: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(strategy.search(problem) for problem in given)))

    return asyncio.run(run())


def worths(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([math.nan if result.chosen is None else LAND.worth(result.chosen) for result in found])


@pytest.mark.parametrize("levels", [COARSE_TO_FINE, FLAT])
def test_what_is_accepted_is_strictly_better_than_what_it_replaces(levels: tuple[Level, ...]) -> None:
    accepted = 0
    for result in results(search(levels=levels), problems(15)):
        nodes = result.tree.nodes
        for node in nodes:
            for replaced in (other for other in nodes if (other.dropped or "") == f"node {node.index} was preferred"):
                if len(replaced.trajectory) == len(node.trajectory):
                    assert LAND.worth(node.trajectory) >= LAND.worth(replaced.trajectory)
                    if node.revises == replaced.index:
                        accepted += 1
                        assert LAND.worth(node.trajectory) > LAND.worth(replaced.trajectory)
            if (node.dropped or "").startswith("not preferred to node "):
                assert LAND.worth(node.trajectory) <= LAND.worth(nodes[int((node.dropped or "").split()[-1])].trajectory)
    assert accepted > 30


def test_the_answer_is_the_best_solution_of_the_last_level() -> None:
    for result in results(search(), problems(20)):
        assert result.chosen is not None
        assert all(len(end.trajectory) == 2 for end in result.tree.ends)
        assert LAND.worth(result.chosen) == max(LAND.worth(end.trajectory) for end in result.tree.ends)


def test_the_coarse_level_is_decided_before_the_fine_one_begins() -> None:
    for result in results(search(), problems(20)):
        coarse = [node for node in result.tree if len(node.trajectory) == 1]
        best = max(LAND.worth(node.trajectory) for node in coarse)
        assert {LAND.coarse(result.tree.problem, parts(end.trajectory)[0] or 0) for end in result.tree.ends} == {best}


def test_coarse_to_fine_reaches_higher_than_flat_edits_at_equal_calls() -> None:
    """The smoothing claim: with details that a change of plan spoils, flat edits get stuck. 95 % interval of the paired difference above zero."""
    given = problems(40)
    high = results(search(starts=2), given)
    calls = max(result.source["calls"] for result in high)
    low = results(search(levels=FLAT, starts=2, patience=10_000, steps=10_000, budget=Budget(calls=calls)), given)
    gain = worths(high) - worths(low)
    assert gain.mean() - 1.96 * gain.std(ddof=1) / math.sqrt(len(gain)) > 0
    assert all(result.source["calls"] >= calls - 4 for result in low), "flat edits never end before their budget"


def test_a_climb_ends_after_its_patience_or_its_steps() -> None:
    for result in results(search(levels=FLAT, starts=1, patience=4, steps=30, merges=0), problems(15)):
        edits = [node for node in result.tree if node.revises]
        assert len(edits) <= 30
        rejected = [(node.dropped or "").startswith("not preferred") for node in edits]
        assert len(edits) == 30 or rejected[-4:] == [True] * 4
        runs = "".join("x" if one else "." for one in rejected)
        assert "xxxxx" not in runs


def test_a_judge_that_fails_accepts_nothing_and_the_first_start_stands() -> None:
    result = results(search(preference=Judge(fails=True)), problems(1))[0]
    begun = [node for node in result.tree if len(node.trajectory) == 2]
    assert result.chosen == begun[0].trajectory
    assert "asleep" in result.source["failure"]


def test_an_editor_that_fails_now_and_then_loses_nothing_else() -> None:
    for result in results(search(levels=(level("coarse", fail_every=3), level("fine", fail_every=3))), problems(15)):
        assert "the editor is out" in result.source["failure"]
        if result.tree.ends:
            assert result.chosen is not None


@pytest.mark.parametrize("limit", ["policy_tokens", "calls", "reward_tokens"])
def test_its_budget_is_never_exceeded_and_what_was_not_dropped_answers(limit: str) -> None:
    for amount in (1, 5, 20, 60, 120, 200):
        for result in results(search(budget=Budget(**{limit: amount})), problems(4)):
            spent = {"policy_tokens": result.usage.policy_tokens, "calls": result.source["calls"], "reward_tokens": result.usage.reward_tokens}
            assert spent[limit] <= amount
            assert (result.chosen is None) == (not result.tree.ends)


def test_it_keeps_the_promises_of_a_search_also_with_its_own_prompts() -> None:
    check_search(search(starts=2, steps=5), problems(3))
    world = GradeSchool()
    prompted = Hierarchical(policy=ScriptedSolver(), environment=world, model=Value(), starts=2, steps=2, merges=1, width=2)
    check_search(prompted, list(world.problems(3, 2, split="dev")))


def test_a_search_without_a_judge_is_refused() -> None:
    with pytest.raises(InputError, match="judge of pairs"):
        search(preference=None)


@dataclass(frozen=True)
class Blind(Judge):
    """Cannot judge one hypothesis."""

    of: str = ""

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Preferred:
        if self.of in (a.key, b.key):
            return Preferred(math.nan, "one of them cannot be scored")
        return await super().compare(problem, a, b)


@dataclass(frozen=True)
class Worth:
    """Scores a hypothesis by its worth, but for one; `scored`: how often it was asked."""

    but: str = ""
    scored: list[str] = field(default_factory=list, compare=False)
    fingerprint: str = "worth"
    granularity: Literal["step"] = "step"
    scale: Literal["logit"] = "logit"

    async def score(self, trajectory: Trajectory) -> StepScores:
        self.scored.append(trajectory.key)
        if trajectory.key == self.but:
            raise RequestFailed("no score")
        return StepScores(np.full(len(trajectory), LAND.worth(trajectory)), scale="logit")


@pytest.mark.parametrize("calls", [10, 30, 31, 60])
def test_a_comparison_by_scores_counts_as_the_two_scores_that_it_takes(calls: int) -> None:
    model = Worth()
    (result,) = results(search(levels=FLAT, preference=None, model=model, budget=Budget(calls=calls)), problems(1))
    made = len(result.tree) - 1 + len(model.scored)
    assert made == result.source["calls"]
    assert calls - 1 <= made <= calls


def test_of_two_starts_the_one_without_a_score_loses() -> None:
    """Their one comparison fails, but it is known on whose side."""
    given: Problem = problems(1)[0]
    alone: dict[str, Any] = {"levels": FLAT, "starts": 2, "steps": 1, "merges": 0, "preference": None}
    plain = results(search(**alone, model=Worth()), [given])[0].tree
    for number in (1, 2):
        lost = plain.nodes[number].trajectory
        levels = (Level(begin=Editor("flat", "begin"), edit=Editor("flat", fail_every=1), merge=Editor("flat", "merge")),)
        result = results(search(**alone | {"levels": levels}, model=Worth(but=lost.key)), [given])[0]
        assert result.chosen == plain.nodes[3 - number].trajectory
        assert len(result.tree) == 3


@dataclass(frozen=True)
class Counting(Judge):
    """Keeps the pairs that it compares."""

    pairs: list[tuple[str, str]] = field(default_factory=list, compare=False)

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Preferred:
        self.pairs.append((a.key, b.key))
        return await super().compare(problem, a, b)


@pytest.mark.parametrize("width", [1, 3])
def test_a_level_compares_its_optima_no_more_often_than_its_cost_says(width: int) -> None:
    """No edit succeeds, so that all comparisons are those of champions: `width` of them at the first level, one at the last, as nothing is merged."""
    levels = tuple(Level(begin=Editor(what, "begin"), edit=Editor(what, fail_every=1), merge=Editor(what, "merge")) for what in ("coarse", "fine"))
    judge = Counting()
    results(search(levels=levels, starts=4, steps=1, merges=0, width=width, preference=judge), problems(1))
    assert len(judge.pairs) == sum(3 - place for place in range(width)) + 4 * width - 1


def test_a_start_that_cannot_be_judged_does_not_win() -> None:
    given = problems(1)[0]
    first = results(search(levels=FLAT), [given])[0].tree.nodes[1].trajectory
    result = results(search(levels=FLAT, preference=Blind(of=first.key)), [given])[0]
    assert result.tree.nodes[1].trajectory == first
    others = [end.trajectory for end in result.tree.ends if end.trajectory.key != first.key]
    assert result.chosen is not None
    assert LAND.worth(result.chosen) == max(map(LAND.worth, others))
