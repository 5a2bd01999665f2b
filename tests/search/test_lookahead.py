"""Look-ahead and its limits: none is the plain beam, enough of it is a beam on outcomes; temporal differences against exact values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from stepward.core import InputError, Node, Policy, Problem, RequestFailed, Sampling, Search, SearchResult, Trajectory, Until, canonical_json, metered
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ErrorRates, ScriptedSolver
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.evaluator import Evaluator, Scored, set_value
from stepward.search.load import load_search
from stepward.search.lookahead import Lookahead, LookaheadBeam, temporal_difference
from stepward.search.watching import watching
from stepward.search.workbench import Workbench
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
POLICY = PlantedPolicy(skew=1.0)
NOISY = PlantedModel(noise=0.4)
EXACT = PlantedModel(policy=POLICY)
DEPTH = 4
PROBLEMS = [WORLD.random(seed, depth=DEPTH, branching=3) for seed in range(20)]


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def shapes(found: list[SearchResult]) -> list[str]:
    return [canonical_json([result.tree.to_record(), None if result.chosen is None else result.chosen.key]) for result in found]


def beam(**changes: Any) -> LookaheadBeam:
    return LookaheadBeam(**{"policy": POLICY, "environment": WORLD, "model": NOISY, "width": 2, "expansions": 3, "aggregation": "last"} | changes)


PLAIN = StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=2, expansions=3, aggregation="last")


@pytest.mark.parametrize("changes", [{"lookahead": 0}, {"lookahead": 2, "alpha": 0.0}])
def test_without_steps_or_without_alpha_it_is_the_plain_beam(changes: dict[str, Any]) -> None:
    plain, ahead = results(PLAIN, PROBLEMS), results(beam(**changes), PROBLEMS)
    assert shapes(plain) == shapes(ahead)
    assert [a.usage for a in plain] == [b.usage for b in ahead]


def greedy_end(prefix: Trajectory) -> Trajectory:
    """The walk to a leaf that takes the likeliest branch, written without the search."""
    while not prefix.ended:
        branch = int(np.argmax(POLICY.chances(prefix)))
        choices = [int(step.text.split()[-1]) for step in prefix.steps]
        prefix = WORLD.walk(prefix.problem, [*choices, branch])
    return prefix


def test_looking_to_the_end_is_a_beam_on_outcomes() -> None:
    """Every candidate is worth the outcome of its greedy continuation, as computed apart from the search."""
    for result in results(beam(lookahead=DEPTH, model=PlantedModel()), PROBLEMS):
        leaves = WORLD.leaves(result.tree.problem)
        for node in result.tree:
            if node.parent is not None:
                assert node.value == leaves[WORLD.answer(greedy_end(node.trajectory)) or ""]


def test_one_step_of_look_ahead_is_the_value_of_the_greedy_child() -> None:
    for result in results(beam(lookahead=1, model=EXACT), PROBLEMS):
        for node in result.tree:
            if node.parent is not None:
                ahead = greedy_end(node.trajectory).prefix(min(len(node.trajectory) + 1, DEPTH))
                assert node.value == pytest.approx(POLICY.value(ahead), abs=1e-12)


def test_looked_at_steps_are_paid_for_but_are_no_candidates() -> None:
    """Each open candidate costs one more step of two words; the tree holds only steps that were drawn as candidates, and only these are watched."""
    shown: list[int] = []
    with watching(lambda tree: shown.append(len(tree))):
        (result,) = results(beam(lookahead=1, model=PlantedModel()), PROBLEMS[:1])
    distinct = [{node.trajectory.key for node in result.tree if node.depth == depth and not node.ended} for depth in range(1, DEPTH + 1)]
    written = 2 * (len(result.tree) - 1)
    assert result.usage.policy_tokens == written + 2 * sum(map(len, distinct))
    assert max(shown) == len(result.tree)
    assert shown == sorted(shown)


def test_look_ahead_does_not_peek_at_the_searchs_own_draws() -> None:
    """A policy that samples at any temperature: the steps looked at are other draws than the children that come later."""
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.1, lucky=0.0)
    seen: list[tuple[str, int, int]] = []

    @dataclass(frozen=True)
    class Noted:
        fingerprint: str = "noted"

        async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> Any:
            seen.extend((prefix.key, sampling.seed, draw + index) for index in range(n))
            return await solver.sample(prefix, n, until=until, sampling=sampling, draw=draw)

    policy: Policy = Noted()
    search = LookaheadBeam(policy=policy, environment=world, model=Level(), width=2, expansions=2, lookahead=2)
    results(search, list(world.problems(3, 5, split="dev")))
    assert len({seed for _, seed, _ in seen}) == 2
    own = [request for request in seen if request[1] == 0]
    assert len(own) == len(set(own))


@dataclass(frozen=True)
class Level:
    """Every step is as good as every other."""

    fingerprint: str = "level"
    granularity: Any = "step"
    scale: Any = "probability"

    async def score(self, trajectory: Trajectory) -> Any:
        from stepward.core import StepScores

        return StepScores(np.full(len(trajectory), 0.5))


def test_temporal_difference_by_hand() -> None:
    values = [0.2, 0.6, 0.9]
    assert temporal_difference(values, alpha=0.0) == 0.2
    assert temporal_difference(values, alpha=1.0) == 0.9
    assert temporal_difference(values, alpha=1.0, gamma=0.5) == pytest.approx(0.25 * 0.9)
    inner = 0.6 + 0.5 * (0.9 - 0.6)
    assert temporal_difference(values, alpha=0.5) == pytest.approx(0.2 + 0.5 * (inner - 0.2))
    assert temporal_difference([0.4], alpha=0.7) == 0.4
    assert temporal_difference([float("nan"), 0.5], alpha=1.0) == 0.5
    assert np.isnan(temporal_difference([float("nan"), 0.5], alpha=0.5))


def test_a_beams_values_are_the_temporal_differences_of_the_scores_on_the_way() -> None:
    alpha, gamma = 0.6, 0.9
    for result in results(beam(lookahead=2, alpha=alpha, gamma=gamma, model=EXACT), PROBLEMS[:5]):
        for node in result.tree:
            if node.parent is not None:
                end = greedy_end(node.trajectory)
                way = [end.prefix(length) if length < DEPTH else end for length in range(len(node.trajectory), min(len(node.trajectory) + 2, DEPTH) + 1)]
                assert node.value == pytest.approx(temporal_difference([POLICY.value(prefix) for prefix in way], alpha=alpha, gamma=gamma))


@dataclass(frozen=True)
class NoisyValue:
    """V plus Gaussian noise whose standard deviation falls with the number of steps, as early scores are the unreliable ones."""

    solver: ScriptedSolver
    early: float

    scale = "logit"

    async def evaluate(self, bench: Workbench, nodes: list[Node]) -> None:
        for node in nodes:
            own = np.random.default_rng(int(node.trajectory.key[:12], 16))
            set_value(node, self.solver.value(node.trajectory) + self.early / len(node.trajectory) ** 2 * own.normal(), "")


def squared_errors(early: float, alpha: float) -> np.ndarray[Any, Any]:
    """(u - V)^2 of first steps, u with one drawn step of look-ahead."""
    world, solver = GradeSchool(), ScriptedSolver(rates=ErrorRates.scaled(2.0), notice=0.1, lucky=0.0)
    judge: Evaluator = Lookahead(evaluator=NoisyValue(solver, early), steps=1, alpha=alpha)  # type: ignore[arg-type]

    async def one(problem: Problem) -> list[float]:
        with metered() as ledger:
            bench = Workbench(problem, solver, world, sampling=Sampling(seed=5), ledger=ledger)
            nodes = await bench.expand([bench.root], 4)
            nodes = list({node.trajectory.key: node for node in nodes if not node.ended}.values())
            await judge.evaluate(bench, nodes)
        return [(node.value - solver.value(node.trajectory)) ** 2 for node in nodes]

    async def run() -> list[list[float]]:
        return [await one(problem) for problem in world.problems(7, 150, split="dev")]

    return np.array([error for errors in asyncio.run(run()) for error in errors])


def test_temporal_differences_are_nearer_to_the_value_when_later_scores_are_less_noisy() -> None:
    """MSE(u) < MSE(v), paired over first steps, 95 % interval; it needs noise above what one more step changes of V: without noise the look-ahead is worse."""
    gain = squared_errors(0.5, 0.0) - squared_errors(0.5, 0.7)
    assert gain.mean() - 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) > 0
    loss = squared_errors(0.0, 0.7)
    assert loss.mean() - 1.96 * loss.std(ddof=1) / np.sqrt(len(loss)) > 0


@dataclass(frozen=True)
class Shy:
    """Does not look ahead from every third prefix."""

    fingerprint: str = "shy"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if sampling.temperature == 0.0 and int(prefix.key[:6], 16) % 3 == 0:
            raise RequestFailed("no view")
        return await POLICY.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_a_failed_look_ahead_leaves_its_candidate_unscored() -> None:
    n_failed = 0
    for result in results(beam(policy=Shy(), lookahead=1, model=PlantedModel()), PROBLEMS):
        for node in result.tree:
            if node.parent is not None:
                shy = not node.ended and int(node.trajectory.key[:6], 16) % 3 == 0
                assert (node.reason is not None) == shy
                assert not shy or "no view" in (node.reason or "")
                n_failed += shy
        assert result.chosen is not None
    assert n_failed > 0


def test_looked_at_steps_count_in_every_budget() -> None:
    for budget in (Budget(calls=9), Budget(calls=25), Budget(policy_tokens=31), Budget(policy_tokens=64), Budget(reward_tokens=40)):
        for result in results(beam(lookahead=2, alpha=0.5, budget=budget), PROBLEMS[:8]):
            spent = {"calls": result.source["calls"], "policy_tokens": result.usage.policy_tokens, "reward_tokens": result.usage.reward_tokens}
            assert all(spent[name] <= limit for name, limit in budget.limits.items())


def test_what_has_ended_is_judged_where_the_budget_ends_in_the_look_ahead() -> None:
    """A tree whose first branch is a leaf: with words for 2 draws and 1 step of look-ahead, the leaf can still answer."""
    problem = WORLD.problem([0.8, [[0.1, 0.2], [0.3, 0.4]]])
    walker = PlantedPolicy(draws="in turn")
    search = beam(policy=walker, model=PlantedModel(policy=walker), width=1, expansions=2, lookahead=3)
    (result,) = results(replace(search, budget=Budget(policy_tokens=6)), [problem])
    assert result.chosen is not None
    assert WORLD.answer(result.chosen) == "0"


def test_look_ahead_beams_keep_their_promises() -> None:
    check_search(
        load_search("lookahead", policy=POLICY, environment=WORLD, model=NOISY, n=4, width=2, settings={"lookahead": "2", "alpha": "0.5"}), PROBLEMS[:3]
    )
    agents = PlantedTree(interactive=True)
    walker = PlantedPolicy(interactive=True)
    check_search(load_search("lookahead", policy=walker, environment=agents, model=NOISY, n=4, width=2), [agents.random(seed) for seed in range(3)])


def test_mistakes_are_refused() -> None:
    for changes, words in (({"lookahead": -1}, "steps"), ({"alpha": 1.5}, "alpha"), ({"gamma": -0.1}, "gamma"), ({"temperature": -1.0}, "temperature")):
        with pytest.raises(InputError, match=words):
            beam(**changes)
    assert beam(lookahead=1).fingerprint != beam(lookahead=2).fingerprint
    assert isinstance(beam(lookahead=0).evaluator, Lookahead)
    assert isinstance(beam().evaluator.evaluator, Scored)  # type: ignore[attr-defined]


def test_a_solution_and_the_same_text_cut_off_are_judged_apart() -> None:
    @dataclass(frozen=True)
    class Whole:
        scale = "probability"

        async def evaluate(self, bench: Workbench, nodes: list[Node]) -> None:
            for node in nodes:
                set_value(node, float(node.finished), "")

    async def run() -> list[float]:
        bench = Workbench(PROBLEMS[0], POLICY, WORLD, sampling=Sampling())
        whole = WORLD.walk(PROBLEMS[0], [0] * DEPTH)
        cut = Trajectory(whole.problem, whole.steps, truncated=True)
        nodes = [bench.add(bench.root, trajectory) for trajectory in (whole, cut)]
        await Lookahead(evaluator=Whole(), steps=1).evaluate(bench, nodes)  # type: ignore[arg-type]
        return [node.value for node in nodes]

    assert asyncio.run(run()) == [1.0, 0.0]
