"""MCTS against exact values, an independent reference, and the rules of its visit counts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pytest

from stepward.core import ContextOverflow, InputError, Node, Problem, Sampling, SearchResult, Step, Trajectory, Tree, Until
from stepward.search.budget import Budget
from stepward.search.evaluator import Graded
from stepward.search.mcts import MCTS
from stepward.search.priority import Priority, backup_max, merge_equal, puct, sibling_priors, uct, uct2
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
ALL = PlantedPolicy(draws="in turn")  # as many draws as branches are all of them
RANDOM = PlantedPolicy(skew=1.0)
EXACT = PlantedModel(knows="value")
PROBLEMS = [WORLD.random(seed, depth=3, branching=3) for seed in range(12)]


def found(search: MCTS, problem: Problem) -> SearchResult:
    return asyncio.run(search.search(problem))


def mcts(**settings: Any) -> MCTS:
    given: dict[str, Any] = {"policy": ALL, "environment": WORLD, "model": EXACT, "expansions": 3} | settings
    if "evaluator" in settings:
        given["model"] = None
    return MCTS(**given)


def path(node: Node) -> tuple[str, ...]:
    return tuple(step.text for step in node.trajectory.steps)


def visits(result: SearchResult) -> dict[tuple[str, ...], int]:
    return {path(node): node.visits for node in result.tree if node.visits}


# Priorities


def test_formulas_by_hand() -> None:
    assert uct(0.5, 4, 10, c=1.4) == pytest.approx(0.5 + 1.4 * math.sqrt(math.log(10) / 4))
    assert uct2(0.5, 4, 10, c=0.7) == pytest.approx(0.5 + 0.7 * math.sqrt(2 * math.log(10) / 4))
    assert puct(0.5, 0.2, 3, 16) == pytest.approx(0.5 + 0.2 * 4 / 4 * (1.25 + math.log((16 + 19652 + 1) / 19652)))


def test_a_parent_of_one_visit_gives_no_bonus_and_unvisited_children_come_first() -> None:
    assert uct(0.5, 1, 1, c=1.4) == uct2(0.5, 1, 1, c=1.4) == 0.5
    assert uct(0.0, 0, 1, c=1.4) == uct2(0.0, 0, 5, c=0.1) == math.inf
    assert puct(0.3, 0.5, 0, 0) == 0.3


def test_priors_are_the_softmax_of_mean_token_log_probabilities() -> None:
    """Two tokens a step, so that P is proportional to the square root of the law."""
    result = found(mcts(policy=PlantedPolicy(draws="in turn", skew=2.0), iterations=1, visit="leaf"), PROBLEMS[0])
    prior = sibling_priors(result.tree.root)
    roots = [math.sqrt(chance) for chance in PlantedPolicy(skew=2.0).chances(Trajectory(PROBLEMS[0]))]
    assert [prior[child.index] for child in result.tree.root.children[:3]] == pytest.approx([root / sum(roots) for root in roots])


def test_priors_without_log_probabilities_are_frequencies() -> None:
    tree = Tree(Problem("?"))
    children = [tree.add(tree.root, tree.root.trajectory.extend(Step(text))) for text in "abaa"]
    assert merge_equal(tree.root) == 2
    assert sibling_priors(tree.root) == {children[0].index: 0.75, children[1].index: 0.25}


def test_ties_go_to_the_larger_own_value_and_then_to_the_first() -> None:
    tree = Tree(Problem("?"))
    children = [tree.add(tree.root, tree.root.trajectory.extend(Step(text))) for text in "abcd"]
    for child, value in zip(children, (0.1, 0.7, 0.7, math.nan), strict=True):
        child.value = value
    assert Priority(rule="uct").best(tree.root) is children[1]
    assert Priority(rule="puct").best(tree.root) is children[1]


def test_the_largest_value_is_kept_by_max_backup() -> None:
    tree = Tree(Problem("?"))
    child = tree.add(tree.root, tree.root.trajectory.extend(Step("a")))
    for value in (0.2, 0.9, 0.4):
        backup_max(child, value)
    assert tree.root.q == pytest.approx(0.9)
    assert tree.root.visits == 3


# The search


@pytest.mark.parametrize("visit", ["end", "leaf", "rollout"])
@pytest.mark.parametrize("priority", ["uct", "uct2", "puct"])
def test_exact_values_lead_to_the_optimum(visit: Literal["end", "leaf", "rollout"], priority: Literal["uct", "uct2", "puct"]) -> None:
    """Exact values of the best end below: the path of the optimum is never left for long."""
    for problem in PROBLEMS[:6]:
        result = found(mcts(model=PlantedModel(knows="best"), visit=visit, priority=priority, iterations=120), problem)
        assert result.chosen is not None
        assert WORLD.answer(result.chosen) == problem.answer


def test_mean_values_lead_to_the_optimum_in_time() -> None:
    """V of the uniform policy hides the optimum among bad siblings; uct comes back to every branch."""
    for problem in PROBLEMS:
        result = found(mcts(priority="uct", visit="leaf", iterations=400), problem)
        assert result.chosen is not None
        assert WORLD.answer(result.chosen) == problem.answer


@pytest.mark.parametrize("priority", ["uct", "uct2", "puct"])
def test_visit_counts_are_one_more_than_those_of_the_children(priority: Literal["uct", "uct2", "puct"]) -> None:
    for visit in ("leaf", "rollout", "end"):
        tree = found(mcts(priority=priority, visit=visit, iterations=60), PROBLEMS[1]).tree
        for node in tree:
            own = 0 if visit == "end" else 1
            if any(child.visits for child in node.children):
                assert node.visits == own + sum(child.visits for child in node.children), f"{visit}: {node}"
        assert tree.root.visits == 60


def reference(problem: Problem, n: int, *, priority: str, c: float) -> dict[tuple[str, ...], int]:
    """Visit counts of "leaf" MCTS with the uniform policy's exact values, written from the rule without any part of the library's search."""
    value = PlantedPolicy().value
    count: dict[tuple[int, ...], int] = {}
    total: dict[tuple[int, ...], float] = {}
    expanded: set[tuple[int, ...]] = set()
    depth = len((problem.answer or "").split("."))

    def own(at: tuple[int, ...]) -> float:
        return value(WORLD.walk(problem, at)) if at else sum(value(WORLD.walk(problem, (i,))) for i in range(3)) / 3

    def key(parent: tuple[int, ...], child: tuple[int, ...]) -> float:
        above, here = count.get(parent, 0), count.get(child, 0)
        q = total[child] / here if here else own(child)
        if priority == "puct":
            return q + 1 / 3 * math.sqrt(above) / (1 + here) * (1.25 + math.log((above + 19652 + 1) / 19652))
        factor = 2 if priority == "uct2" else 1
        return q + c * math.sqrt(factor * math.log(above) / here) if here else math.inf

    for _ in range(n):
        at: tuple[int, ...] = ()
        while len(at) < depth and (at in expanded or count.get(at, 0)):
            expanded.add(at)
            at = max(((*at, i) for i in range(3)), key=lambda child: (round(key(at, child), 12), own(child)))
        for cut in range(len(at) + 1):
            count[at[:cut]] = count.get(at[:cut], 0) + 1
            total[at[:cut]] = total.get(at[:cut], 0.0) + own(at)
    return {tuple(f"take {choice}" for choice in at): visited for at, visited in count.items()}


@pytest.mark.parametrize(("priority", "c"), [("uct", 1.4), ("uct2", 0.7), ("puct", 1.4), ("uct", 0.3)])
def test_the_sequence_of_visits_is_that_of_a_naive_reference(priority: Literal["uct", "uct2", "puct"], c: float) -> None:
    """Equal counts after every number of iterations are equal sequences."""
    for n in [*range(1, 30), 75]:
        assert visits(found(mcts(priority=priority, c=c, visit="leaf", iterations=n), PROBLEMS[2])) == reference(PROBLEMS[2], n, priority=priority, c=c)


@pytest.mark.parametrize("visit", ["end", "leaf", "rollout"])
@pytest.mark.parametrize("priority", ["uct", "puct"])
def test_a_constant_added_to_all_values_changes_no_visit(visit: Literal["end", "leaf", "rollout"], priority: Literal["uct", "puct"]) -> None:
    for problem in PROBLEMS[:4]:
        plain, shifted = (
            found(mcts(policy=RANDOM, model=PlantedModel(shift=shift), visit=visit, priority=priority, iterations=25), problem) for shift in (0.0, 8.0)
        )
        assert [(path(node), node.visits) for node in plain.tree] == [(path(node), node.visits) for node in shifted.tree]
        assert plain.chosen == shifted.chosen


@pytest.mark.parametrize("answer_by", ["vote", "nodes"])
def test_a_constant_added_to_all_values_changes_votes(answer_by: Literal["vote", "nodes"]) -> None:
    """Sums of values: with a large constant they count what is added."""
    changed = 0
    for problem in PROBLEMS:
        plain, shifted = (
            found(mcts(policy=RANDOM, model=PlantedModel(shift=shift), visit="rollout", iterations=25, answer_by=answer_by), problem) for shift in (0.0, 1000.0)
        )
        assert [(path(node), node.visits) for node in plain.tree] == [(path(node), node.visits) for node in shifted.tree]
        changed += plain.chosen != shifted.chosen
    assert changed > 0


def test_the_roots_value_goes_to_the_best_arm() -> None:
    """Two arms of 0.2 and 0.8: uct tries the worse one O(ln n) times."""
    problem = WORLD.problem([0.2, 0.8])
    gaps = [0.8 - found(mcts(priority="uct", visit="end", expansions=2, iterations=n), problem).tree.root.q for n in (20, 200, 2000)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.6 * (1.4**2 * math.log(2000) / 0.6**2 + 1) / 2000


def test_max_backup_is_sure_of_the_best_end_seen() -> None:
    result = found(mcts(visit="end", backup="max", iterations=10), PROBLEMS[3])
    assert result.tree.root.q == max(end.value for end in result.tree.ends if end.visits)


def test_commit_moves_to_the_most_visited_child_until_the_end() -> None:
    for problem in PROBLEMS[:6]:
        result = found(mcts(model=PlantedModel(knows="best"), priority="puct", visit="leaf", iterations=60, commit=True, answer_by="visits"), problem)
        assert result.chosen is not None
        line = next(node for node in result.tree.ends if node.trajectory == result.chosen).path
        for parent, child in pairwise(line):
            others = [other for other in parent.children if other is not child]
            assert all(other.visits <= child.visits for other in others)
            assert all(other.dropped == f"node {child.index} was visited more" for other in others)
        assert WORLD.answer(result.chosen) == problem.answer


def test_the_same_seed_grows_the_same_tree_and_another_one_another() -> None:
    trees = [found(mcts(policy=RANDOM, sampling=Sampling(seed=seed), expansions=2, iterations=8), PROBLEMS[0]).tree.to_record() for seed in (0, 0, 1)]
    assert trees[0] == trees[1] != trees[2]


def test_equal_siblings_are_merged_and_counted() -> None:
    result = found(mcts(policy=RANDOM, expansions=8, iterations=15), PROBLEMS[0])
    merged = [node for node in result.tree if (node.dropped or "").startswith("the same as node")]
    assert result.source["notes"]["duplicates"] == len(merged) > 0
    for node in result.tree:
        live = [path(child) for child in node.children if not child.dropped]
        assert len(live) == len(set(live)) <= 3
    assert all(not node.visits for node in merged)


def test_votes_count_ends_and_nodes_count_edges() -> None:
    """Ends a (0.9), b (0.6), b (0.6), all under edges of their own: "value" says a, "vote" b."""
    tree = [[{"reward": 0.9, "answer": "a"}], [{"reward": 0.6, "answer": "b"}, {"reward": 0.6, "answer": "b"}]]
    problem = WORLD.problem(tree)
    said = {how: found(mcts(expansions=2, priority="uct", visit="end", iterations=20, answer_by=how), problem).chosen for how in ("value", "vote", "nodes")}
    answers = {how: None if chosen is None else WORLD.answer(chosen) for how, chosen in said.items()}
    assert answers == {"value": "a", "vote": "b", "nodes": "a"}  # nodes: 0.9 + 0.9 for a, 0.6 + 0.6 + 0.6 for b


@dataclass(frozen=True)
class DeadEnd:
    """A policy that cannot write on below the first branch."""

    fingerprint: str = "dead-end"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if prefix.steps and prefix.steps[0].text == "take 0":
            raise ContextOverflow("the prompt is too long")
        return await ALL.sample(prefix, n, until=until, sampling=sampling, draw=draw)


@pytest.mark.parametrize("visit", ["end", "leaf"])
def test_a_node_without_children_is_closed_for_the_least_value(visit: Literal["end", "leaf"]) -> None:
    """When the first branch comes to nothing, the least value known is the 0.2 of the second; only then is that one extended."""
    problem = WORLD.problem([[0.9, 1.0], [0.1, 0.2]])
    result = found(mcts(policy=DeadEnd(), expansions=2, model=PlantedModel(knows="best"), visit=visit, priority="uct", c=0.1, iterations=20), problem)
    (dead,) = (node for node in result.tree if path(node) == ("take 0",))
    assert dead.closed
    assert "the prompt is too long" in (dead.dropped or "")
    own = 1.0 if visit == "leaf" else 0.0  # the first visit of a leaf brings its own value
    assert dead.value_sum == pytest.approx(own + 0.2)
    assert result.chosen is not None
    assert WORLD.answer(result.chosen) == "1.1"


def test_a_prefix_that_cannot_be_completed_is_closed() -> None:
    result = found(mcts(policy=DeadEnd(), visit="rollout", priority="uct", iterations=20), PROBLEMS[0])
    (dead,) = (node for node in result.tree if path(node) == ("take 0",))
    assert dead.closed
    assert (dead.dropped, dead.visits) == ("no completion of it has a value", 0)


@pytest.mark.parametrize("visit", ["end", "leaf", "rollout"])
def test_unscored_nodes_never_win_and_are_never_visited(visit: Literal["end", "leaf", "rollout"]) -> None:
    for problem in PROBLEMS[:6]:
        result = found(mcts(model=PlantedModel(fail_every=3), visit=visit, iterations=20), problem)
        for node in result.tree:
            assert not (node.reason and node.visits)
            assert node.reason is None or "does not answer" in (node.dropped or "")
        if result.chosen is not None:
            assert any(end.trajectory == result.chosen and not math.isnan(end.value) for end in result.tree.ends)


def test_nothing_scored_is_no_answer_with_the_reason() -> None:
    result = found(mcts(model=PlantedModel(fail_every=1), iterations=5), PROBLEMS[0])
    assert result.chosen is None
    assert "does not answer" in (result.reason or "")


def test_what_was_cut_off_never_beats_what_ended_and_answers_only_where_nothing_did() -> None:
    """One branch ends after one step, the other, better one is cut off there; and trees where all is cut off, with and without a value for it."""
    world = WORLD.problem([[1.0, 1.0], 0.2])
    mixed = found(mcts(model=PlantedModel(knows="best"), expansions=2, sampling=Sampling(max_steps=1), iterations=5), world)
    assert mixed.chosen is not None
    assert WORLD.answer(mixed.chosen) == "1"
    (cut,) = (end for end in mixed.tree.ends if end.trajectory.truncated)
    assert (cut.dropped, cut.reason) == ("cut off by a limit", "cut off by a limit")
    nothing = found(mcts(model=PlantedModel(knows="best"), sampling=Sampling(max_steps=2), iterations=5), PROBLEMS[0])
    assert nothing.chosen is not None
    assert nothing.chosen.truncated
    unknown = found(mcts(model=PlantedModel(knows="value"), sampling=Sampling(max_steps=2), iterations=5), PROBLEMS[0])
    assert unknown.chosen is None
    assert "cut off" in (unknown.reason or "")


@pytest.mark.parametrize("visit", ["end", "leaf", "rollout"])
@pytest.mark.parametrize("limits", [{"policy_tokens": 31}, {"reward_tokens": 40}, {"calls": 17}])
def test_a_budget_is_never_exceeded(visit: Literal["end", "leaf", "rollout"], limits: dict[str, int]) -> None:
    result = found(mcts(policy=RANDOM, visit=visit, iterations=200, budget=Budget(**limits)), PROBLEMS[0])
    spent = {"policy_tokens": result.usage.policy_tokens, "reward_tokens": result.usage.reward_tokens, "calls": result.source["calls"]}
    ((name, limit),) = limits.items()
    assert spent[name] <= limit
    assert result.source["stopped"].startswith(f"the budget of {limit} {name}")


def test_one_iteration_of_one_child_is_one_sample_of_the_policy() -> None:
    for problem in PROBLEMS[:4]:
        result = found(mcts(policy=RANDOM, expansions=1, iterations=1, visit="end"), problem)
        trajectory = Trajectory(problem)
        while not trajectory.ended:
            (trajectory,) = asyncio.run(RANDOM.sample(trajectory, 1, sampling=Sampling()))
        assert result.chosen == trajectory


def test_a_search_without_an_end_completes_its_most_visited_prefix() -> None:
    result = found(mcts(visit="leaf", iterations=2), PROBLEMS[0])
    assert [end.trajectory for end in result.tree.ends] == [result.chosen]


def test_outcomes_at_the_ends_of_rollouts_are_values_enough() -> None:
    """Graded rollouts: no reward model is asked, and Q of a first step is an average of true outcomes."""
    problem = WORLD.problem([[0.0, 0.0], [1.0, 1.0]])
    result = found(mcts(policy=RANDOM, evaluator=Graded(), expansions=8, visit="rollout", priority="uct", iterations=30), problem)
    assert result.usage.reward_tokens == 0
    assert {path(child): child.q for child in result.tree.root.children if child.visits} == {("take 0",): 0.0, ("take 1",): 1.0}
    assert result.chosen is not None
    assert WORLD.leaves(problem)[WORLD.answer(result.chosen) or ""] == 1.0


@pytest.mark.parametrize("settings", [{"visit": "end"}, {"visit": "leaf", "priority": "uct"}, {"visit": "rollout"}, {"commit": True, "answer_by": "visits"}])
@pytest.mark.parametrize("interactive", [False, True])
def test_every_variant_keeps_the_promises_of_searches(settings: dict[str, Any], interactive: bool) -> None:
    policy = PlantedPolicy(skew=1.0, interactive=interactive)
    check_search(mcts(policy=policy, environment=PlantedTree(interactive=interactive), iterations=6, **settings), PROBLEMS[:3])


def test_mistakes_are_refused() -> None:
    wrong: Sequence[tuple[dict[str, Any], str]] = [
        ({"priority": "ucb"}, "one of uct, uct2, puct"),
        ({"visit": "leaves"}, "MCTS.visit must be one of"),
        ({"answer_by": "luck"}, "MCTS.answer_by"),
        ({"iterations": 0}, "at least 1"),
        ({"c": -1.0}, "at least 0"),
        ({"model": None}, "needs a reward model"),
    ]
    for settings, message in wrong:
        with pytest.raises(InputError, match=message):
            mcts(**settings)


def test_a_completion_of_the_root_without_a_value_does_not_end_the_search() -> None:
    """Rollouts that cannot be scored half of the time: the root, where there is nowhere else to go, is completed anew."""
    judged = [found(mcts(policy=RANDOM, model=PlantedModel(fail_every=2), visit="rollout", iterations=20), problem) for problem in PROBLEMS]
    assert any(math.isnan(result.tree.root.children[0].value) for result in judged)
    assert all(result.tree.root.visits > 0 and result.chosen is not None for result in judged)


def test_a_budget_that_ends_before_any_solution_would_leaves_an_answer() -> None:
    """Six levels, and a budget of fifty steps: half of it is kept for a whole solution."""
    for seed in range(8):
        result = found(mcts(policy=RANDOM, visit="leaf", iterations=500, budget=Budget(policy_tokens=100)), WORLD.random(seed, depth=6, branching=3))
        assert result.chosen is not None
        assert result.chosen.finished
        assert result.usage.policy_tokens <= 100
