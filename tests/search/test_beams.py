"""DVTS and diverse beams: groups that stay apart, and their limits, which are other searches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from tests.search import exact
from tests.search.exact import SOLVER, Exact
from tests.search.exact import WORLD as WORD_PROBLEMS

from stepward.core import InputError, Problem, Sampling, Search, SearchResult, StepScores, Trajectory, canonical_json
from stepward.search.adaptive_scaling import AdaptiveBeam
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.diverse import DiverseBeam, edge_text, similarity
from stepward.search.dvts import DVTS
from stepward.search.load import load_search
from stepward.search.sampled import BestOfN, WeightedBestOfN
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
POLICY = PlantedPolicy()
PROBLEMS = [WORLD.random(seed, depth=4, branching=3) for seed in range(30)]
NOISY = PlantedModel(noise=0.4)


def results(search: Search, problems: list[Problem]) -> list[SearchResult]:
    async def run() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(run())


def shape(result: SearchResult) -> str:
    """The tree without group numbers, and what was chosen."""
    tree = result.tree.to_record()
    nodes = [{name: value for name, value in node.items() if name != "group"} for node in tree["nodes"]]
    return canonical_json([nodes, None if result.chosen is None else result.chosen.key])


def answers(result: SearchResult) -> set[str | None]:
    return {WORLD.answer(node.trajectory) for node in result.tree.ends}


def test_a_beam_without_expansions_answers_like_best_of_n() -> None:
    """Independent chains: every end is chosen with the policy's own law, so the expected reward of the best of 4 is the same within 3 standard errors."""
    chain, sampled = (
        np.array([WORLD.leaves(result.tree.problem)[WORLD.answer(result.chosen)] for result in results(search, problems)])  # type: ignore[arg-type, index]
        for search, problems in [
            (StepBeam(policy=POLICY, environment=WORLD, model=PlantedModel(), width=4, expansions=1, aggregation="last"), many()),
            (BestOfN(policy=POLICY, environment=WORLD, model=PlantedModel(), n=4, aggregation="last"), many()),
        ]
    )
    difference = chain - sampled
    assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(len(difference))


def many() -> list[Problem]:
    return [WORLD.random(seed, depth=3, branching=3) for seed in range(200)]


def test_no_nodes_group_changes() -> None:
    search = DVTS(policy=POLICY, environment=WORLD, model=NOISY, groups=4, expansions=3)
    for result in results(search, PROBLEMS):
        assert [sum(child.group == group for child in result.tree.root.children) for group in range(4)] == [3, 3, 3, 3]
        for node in result.tree:
            if node.parent is not None and node.parent.parent is not None:
                assert node.group == node.parent.group
        for group in range(4):  # one kept child a level, or none any more
            for depth in range(1, 5):
                kept = [node for node in result.tree if node.group == group and node.depth == depth and node.dropped is None]
                assert len(kept) <= 1


def test_each_group_keeps_its_own_best_child() -> None:
    search = DVTS(policy=POLICY, environment=WORLD, model=NOISY, groups=3, expansions=3)
    for result in results(search, PROBLEMS):
        for node in result.tree:
            rivals = [child for child in node.children if child.group == node.group]
            kept = [child for child in rivals if child.dropped is None]
            if node.parent is not None and rivals:
                assert [child.index for child in kept] == [max(rivals, key=lambda child: child.value).index]


@dataclass(frozen=True)
class Misled:
    """Likes every prefix below the first branch, until it sees the end: misleading early scores."""

    fingerprint: str = "misled"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        good = trajectory.steps[0].text.endswith(" 0") if trajectory.steps else False
        return StepScores(np.array([0.9 if good else 0.1] * (len(trajectory) - 1) + [0.5 if trajectory.ended else (0.9 if good else 0.1)]))


def test_dvts_has_more_distinct_answers_than_a_beam_that_is_misled_early() -> None:
    """Both spend the same number of draws. The beam ends under the first branch it believed in; the groups do not. Paired, over 30 trees."""
    beam = results(StepBeam(policy=POLICY, environment=WORLD, model=Misled(), width=4, expansions=4, aggregation="last"), PROBLEMS)
    apart = results(DVTS(policy=POLICY, environment=WORLD, model=Misled(), groups=4, expansions=4), PROBLEMS)
    assert [result.usage.policy_tokens for result in beam] == [result.usage.policy_tokens for result in apart]
    more = np.array([len(answers(b)) - len(answers(a)) for a, b in zip(beam, apart, strict=True)])
    assert more.mean() - 1.96 * more.std(ddof=1) / np.sqrt(len(more)) > 0
    first = [{node.path[1].trajectory.text for node in result.tree.ends} for result in beam]
    assert sum(len(found) == 1 for found in first) > len(first) / 2, "the beam was to be misled"


def test_without_penalty_one_group_is_the_beam() -> None:
    beam = StepBeam(policy=POLICY, environment=WORLD, model=NOISY, width=3, expansions=2, aggregation="last")
    for penalty in (0.0, 0.7):  # with nobody before it, a penalty changes nothing
        grouped = DiverseBeam(policy=POLICY, environment=WORLD, model=NOISY, groups=1, width=3, expansions=2, penalty=penalty, aggregation="last")
        assert [shape(a) for a in results(beam, PROBLEMS)] == [shape(b) for b in results(grouped, PROBLEMS)]


def test_without_penalty_groups_of_one_are_dvts() -> None:
    dvts = DVTS(policy=POLICY, environment=WORLD, model=NOISY, groups=4, expansions=2)
    diverse = DiverseBeam(policy=POLICY, environment=WORLD, model=NOISY, groups=4, width=1, expansions=2, penalty=0.0, aggregation="last")
    assert [shape(a) for a in results(dvts, PROBLEMS)] == [shape(b) for b in results(diverse, PROBLEMS)]


def test_later_groups_avoid_what_earlier_ones_chose() -> None:
    """With a penalty above the largest difference of values, a group repeats an earlier choice only if it has no other candidate."""
    search = DiverseBeam(policy=POLICY, environment=WORLD, model=PlantedModel(), groups=3, width=1, expansions=3, penalty=10.0, aggregation="last")
    n_avoided = 0
    for result in results(search, PROBLEMS):
        chosen: list[str] = []
        for group in range(3):
            rivals = [child for child in result.tree.root.children if child.group == group]
            (kept,) = [child for child in rivals if child.dropped is None]
            fresh = [child for child in rivals if edge_text(child) not in chosen]
            assert kept in fresh or not fresh
            n_avoided += bool(fresh) and max(rivals, key=lambda child: child.value) is not kept
            chosen.append(edge_text(kept))
    assert n_avoided > 0


def test_similarity_is_the_share_of_common_words() -> None:
    assert similarity("take 2\n", "take 2") == 1.0
    assert similarity("a b c", "d e f") == 0.0
    assert similarity("Two plus two is 4.", "two plus three is 5.") == pytest.approx(4 / 7)  # common: two plus is . ; beside these: 4 three 5
    assert similarity("", "") == 1.0
    assert similarity("x y", "y z") == similarity("y z", "x y")


@pytest.mark.parametrize("name", ["dvts", "diverse-beam"])
def test_grouped_beams_keep_their_promises(name: str) -> None:
    check_search(load_search(name, policy=POLICY, environment=WORLD, model=NOISY, settings={"groups": 2, "expansions": 2}), PROBLEMS[:4])
    interactive = PlantedTree(interactive=True)
    agent = load_search(name, policy=PlantedPolicy(interactive=True), environment=interactive, model=NOISY, settings={"groups": 2, "expansions": 2})
    check_search(agent, [interactive.random(seed, depth=3) for seed in range(3)])


@pytest.mark.parametrize("name", ["dvts", "diverse-beam"])
def test_a_budget_is_never_exceeded(name: str) -> None:
    for calls in (1, 5, 11, 17, 40):
        search = load_search(name, policy=POLICY, environment=WORLD, model=NOISY, settings={"groups": 3, "expansions": 2}, budget=Budget(calls=calls))
        assert all(result.source["calls"] <= calls for result in results(search, PROBLEMS[:6]))


def test_what_cannot_be_scored_does_not_win() -> None:
    failing = PlantedModel(fail_every=3)
    for result in results(DVTS(policy=POLICY, environment=WORLD, model=failing, groups=4, expansions=4), PROBLEMS):
        if result.chosen is not None:
            node = result.tree.nodes[result.source["chosen_node"]]
            assert node.reason is None


def test_mistakes_are_refused() -> None:
    with pytest.raises(InputError, match=r"DVTS.groups must be at least 1"):
        DVTS(policy=POLICY, environment=WORLD, model=NOISY, groups=0)
    with pytest.raises(InputError, match="penalty"):
        DiverseBeam(policy=POLICY, environment=WORLD, model=NOISY, penalty=-1.0)
    with pytest.raises(InputError, match="steps must be at least 0"):
        DVTS(policy=POLICY, environment=WORLD, model=NOISY, lookahead=-1)


def test_dvts_with_look_ahead_writes_more_and_keeps_its_groups() -> None:
    plain, ahead = (results(DVTS(policy=POLICY, environment=WORLD, model=NOISY, groups=2, expansions=2, lookahead=k), PROBLEMS[:5]) for k in (0, 1))
    assert all(b.usage.policy_tokens > a.usage.policy_tokens for a, b in zip(plain, ahead, strict=True))
    assert all(node.group == node.parent.group for result in ahead for node in result.tree if node.depth > 1 and node.parent)


@pytest.mark.parametrize("limit", [16, 20])
def test_a_step_that_was_cut_off_takes_no_place_while_another_can_go_on(limit: int) -> None:
    """Nothing to choose by: the beam goes on with an open sibling, and ends cut off only where all candidates of a level are."""
    for kind in (StepBeam, AdaptiveBeam):
        settings: dict[str, Any] = {} if kind is StepBeam else {"bound": "value"}
        search = kind(
            policy=SOLVER, environment=WORD_PROBLEMS, model=Exact(constant=0.5), width=1, expansions=4, sampling=Sampling(max_step_tokens=limit), **settings
        )
        n_cut_off = 0
        for result in exact.results(search, exact.PROBLEMS[:30]):
            for node in result.tree:
                if node.trajectory.truncated and WORD_PROBLEMS.answer(node.trajectory) is None and node.dropped is None:
                    level = [other for other in result.tree if other.depth == node.depth]
                    assert all(other.trajectory.truncated and WORD_PROBLEMS.answer(other.trajectory) is None for other in level)
            n_cut_off += sum(node.dropped == "cut off" for node in result.tree)
        assert n_cut_off > 0


@pytest.mark.parametrize("shift", [-4.0, 7.0])
def test_votes_weighted_by_logits_do_not_depend_on_where_their_zero_is(shift: float) -> None:
    """Same tree, and the same answer, wherever all scores move by a constant."""
    kinds: list[tuple[Any, dict[str, Any]]] = [(StepBeam, {"answer_by": "vote", "width": 4}), (WeightedBestOfN, {"n": 6})]
    for kind, settings in kinds:
        plain, shifted = (
            results(kind(policy=POLICY, environment=WORLD, model=PlantedModel(noise=0.25, shift=by), aggregation="last", **settings), TWOS)
            for by in (4.0, 4.0 + shift)
        )
        assert [result.chosen for result in plain] == [result.chosen for result in shifted]


TWOS = [WORLD.random(seed, depth=3, branching=2, right=0.5) for seed in range(40)]
