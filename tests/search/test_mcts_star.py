"""MCTS*: the backup by visited children, the gate, remarks, and an independent reference."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from stepward.core import InputError, Node, Problem, RequestFailed, Sampling, SearchResult, Trajectory, Until
from stepward.labeling.trees.backup import quality_values
from stepward.search.budget import Budget
from stepward.search.mcts_star import MCTSStar
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
ALL = PlantedPolicy(draws="in turn")
RANDOM = PlantedPolicy(skew=1.0)
PROBLEMS = [WORLD.random(seed, depth=4, branching=3) for seed in range(10)]
NEVER = 2.0  # a gate that nothing passes


def star(**settings: Any) -> MCTSStar:
    given: dict[str, Any] = {"policy": ALL, "environment": WORLD, "model": PlantedModel(), "repeated": "keep"}
    return MCTSStar(**given | settings)


def found(search: MCTSStar, problem: Problem) -> SearchResult:
    return asyncio.run(search.search(problem))


def path(node: Node) -> tuple[int, ...]:
    return tuple(int(step.text.split()[-1]) for step in node.trajectory.steps)


def in_tree(result: SearchResult) -> list[Node]:
    """The nodes that are no steps of rollouts."""
    return [node for node in result.tree if not any(place.dropped == "a step of a rollout" for place in node.path)]


def test_a_visited_node_is_worth_the_visit_weighted_mean_of_its_children() -> None:
    result = found(star(policy=RANDOM, gate=NEVER, iterations=25), PROBLEMS[0])
    n_checked = 0
    for node in result.tree:
        seen = [child for child in node.children if child.visits]
        if seen:
            mean = sum(child.visits * child.q for child in seen) / sum(child.visits for child in seen)
            assert node.q == pytest.approx(mean)
            assert min(child.q for child in seen) - 1e-9 <= node.q <= max(child.q for child in seen) + 1e-9
            n_checked += 1
    assert n_checked > 10


def reference(problem: Problem, n: int, *, c: float, alpha: float, roll: int) -> dict[tuple[int, ...], tuple[int, float]]:
    """(N, V) of every visited node, written from the rule alone; the policy takes its branches in turn, the gate is out of reach."""
    exact = PlantedPolicy().value
    depth = len((problem.answer or "").split("."))
    drawn, count = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    worth: dict[tuple[int, ...], float] = {(): math.nan}
    children: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    done: set[tuple[int, ...]] = set()

    def draw(at: tuple[int, ...]) -> tuple[int, ...]:
        drawn[at] += 1
        return (*at, (drawn[at] - 1) % 3)

    def value(at: tuple[int, ...]) -> float:
        return exact(WORLD.walk(problem, at))

    for _ in range(n):
        at: tuple[int, ...] = ()
        if () in done:
            break
        while open_ := [child for child in children.get(at, []) if child not in done]:
            keys = [worth[k] + (c * math.sqrt(2 * math.log(count[at]) / count[k]) if count[k] else 1.0) for k in open_]
            at = open_[keys.index(max(keys))]
        if len(at) == depth:
            done.add(at)
            up = at[:-1]
            while children.get(up) and all(child in done for child in children[up]):
                done.add(up)
                if not up:
                    break
                up = up[:-1]
        else:
            children[at] = [draw(at) for _ in range(3)]
            worth |= {child: value(child) for child in children[at]}
            best = max(children[at], key=lambda child: worth[child])
            seen, place = [], best
            for _ in range(roll):
                if len(place) == depth:
                    break
                place = draw(place)
                seen.append(value(place))
            if seen:
                worth[best] = (1 - alpha) * worth[best] + alpha * max(seen)
            count[best] += 1
        for cut in range(len(at), -1, -1):
            count[at[:cut]] += 1
            total = sum(count[child] for child in children.get(at[:cut], []))
            if total:
                worth[at[:cut]] = sum(count[child] * worth[child] for child in children[at[:cut]]) / total
    return {at: (count[at], worth[at]) for at in count}


@pytest.mark.parametrize(("c", "alpha", "roll"), [(0.7, 0.5, 3), (0.2, 0.5, 1), (0.7, 0.0, 0)])
def test_visits_and_values_are_those_of_a_naive_reference(c: float, alpha: float, roll: int) -> None:
    for n in (*range(1, 15), 40):
        result = found(star(c=c, alpha=alpha, roll_steps=roll, gate=NEVER, iterations=n), PROBLEMS[1])
        seen = {path(node): (node.visits, node.q) for node in result.tree if node.visits}
        told = reference(PROBLEMS[1], n, c=c, alpha=alpha, roll=roll)
        assert {at: times for at, (times, _) in seen.items()} == {at: times for at, (times, _) in told.items()}
        assert [seen[at][1] for at in sorted(seen)] == pytest.approx([told[at][1] for at in sorted(seen)])


def test_the_gate_ends_the_search_at_the_optimum() -> None:
    for problem in PROBLEMS:
        result = found(star(model=PlantedModel(knows="best"), iterations=400), problem)
        assert result.chosen is not None
        assert WORLD.answer(result.chosen) == problem.answer
        assert result.tree.root.visits < 200, "the gate saved iterations"
        assert next(end for end in result.tree.ends if end.trajectory == result.chosen).visits <= 1, "it was not met before"


def test_without_the_gate_the_whole_tree_is_searched_and_the_best_end_answers() -> None:
    for problem in PROBLEMS[:3]:
        result = found(star(gate=NEVER, iterations=300), problem)
        assert result.chosen is not None
        assert WORLD.answer(result.chosen) == problem.answer
        assert result.tree.root.closed, "all 81 ends were visited"


def test_inferred_labels_rise_to_one_along_a_shortest_right_path() -> None:
    """The search's tree as the labels of ReST-MCTS* read it: v = 1/4, 2/4, 3/4, 1 along four right steps."""
    result = found(star(model=PlantedModel(knows="best")), PROBLEMS[2])
    labels = quality_values(result.tree.root, reward=lambda node: WORLD.leaves(PROBLEMS[2]).get(WORLD.answer(node.trajectory) or "", math.nan))
    end = next(node for node in result.tree.ends if node.trajectory == result.chosen)
    assert [labels[node.index] for node in end.path] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_a_prefix_of_the_largest_value_is_completed_where_nothing_has_ended() -> None:
    result = found(star(roll_steps=0, iterations=1), PROBLEMS[0])
    assert [end.trajectory for end in result.tree.ends] == [result.chosen]
    best = max((node for node in result.tree.root.children), key=lambda node: node.value)
    assert best in result.tree.ends[0].path


def test_steps_that_the_prefix_has_are_refused_as_often_as_attempts_go() -> None:
    result = found(star(policy=RANDOM, repeated="refuse", attempts=3, gate=NEVER, iterations=12, roll_steps=0), PROBLEMS[3])
    refused = [node for node in result.tree if node.dropped == "repeats a step of its prefix"]
    assert refused
    for node in in_tree(result):
        line = path(node)
        assert node in refused or len(set(line)) == len(line) or node.kind != "sample" or (node.ended and node.closed)
        drawn = [child for child in node.children if not (child.ended and child.closed and child.dropped is None)]
        assert len(drawn) <= 9


@dataclass(frozen=True)
class Remarks:
    """Says that all is done after `at` steps; `broken` once it cannot be asked."""

    at: int = 2
    broken: bool = False
    fingerprint: str = "remarks"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if self.broken:
            raise RequestFailed("no remark")
        return [prefix.extend("all done <end>" if len(prefix) >= self.at else "go on")] * n


def test_a_remark_that_all_is_done_closes_a_prefix_and_completes_it_once() -> None:
    result = found(star(reflector=Remarks(), gate=NEVER, roll_steps=0, iterations=30), PROBLEMS[0])
    for node in result.tree:
        remarks = [child for child in node.children if child.kind == "reflect"]
        assert len(remarks) <= 1
        if remarks and len(node.trajectory) == 2:
            assert node.closed
            assert [child.ended for child in node.children if child.kind != "reflect"] == [True]
    assert any(len(node.trajectory) == 2 and node.closed for node in result.tree)
    assert all(len(node.trajectory) <= 2 or node.ended or node.kind == "reflect" for node in result.tree)


def test_a_remark_that_cannot_be_had_counts_as_the_end() -> None:
    result = found(star(reflector=Remarks(broken=True), gate=NEVER, roll_steps=0, iterations=10), PROBLEMS[0])
    assert result.chosen is not None
    assert all(len(node.trajectory) <= 1 or node.ended for node in result.tree)
    assert "no remark" in result.source["failure"]


def test_unscored_nodes_never_win() -> None:
    for problem in PROBLEMS[:5]:
        result = found(star(policy=RANDOM, model=PlantedModel(fail_every=3), gate=NEVER, iterations=15), problem)
        assert all(not node.visits for node in result.tree if node.reason)
        chosen = [end for end in result.tree.ends if end.trajectory == result.chosen and not math.isnan(end.value)]
        assert result.chosen is None or chosen
    assert found(star(model=PlantedModel(fail_every=1)), PROBLEMS[0]).chosen is None


@pytest.mark.parametrize("limits", [{"policy_tokens": 41}, {"reward_tokens": 60}, {"calls": 23}])
def test_a_budget_is_never_exceeded(limits: dict[str, int]) -> None:
    result = found(star(policy=RANDOM, gate=NEVER, budget=Budget(**limits)), PROBLEMS[0])
    ((name, limit),) = limits.items()
    spent = {"policy_tokens": result.usage.policy_tokens, "reward_tokens": result.usage.reward_tokens, "calls": result.source["calls"]}
    assert spent[name] <= limit
    assert result.source["stopped"].startswith(f"the budget of {limit} {name}")


@pytest.mark.parametrize("interactive", [False, True])
def test_it_keeps_the_promises_of_searches(interactive: bool) -> None:
    policy = PlantedPolicy(skew=1.0, interactive=interactive)
    search = star(policy=policy, environment=PlantedTree(interactive=interactive), iterations=5, reflector=None if interactive else Remarks(), gate=NEVER)
    check_search(search, PROBLEMS[:3])


def test_mistakes_are_refused() -> None:
    for settings in ({"alpha": 1.5}, {"c": -0.1}, {"repeated": "sometimes"}, {"attempts": 0}, {"roll_steps": -1}):
        with pytest.raises(InputError, match="MCTSStar"):
            star(**settings)


@dataclass(frozen=True)
class Wordless:
    """Is cut off before it writes anything."""

    fingerprint: str = "wordless"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        return [replace(prefix, truncated=True)] * n


def test_a_policy_without_room_for_a_step_is_no_answer() -> None:
    result = found(star(policy=Wordless(), repeated="refuse", iterations=3), PROBLEMS[0])
    assert result.chosen is None
    assert "there is no step to score" in (result.reason or "")
