"""Self-guided MCTS: every child counts at once, reflections and depth are limited; the progress reward is a mean over tokens."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from stepward.core import InputError, Node, Problem, Sampling, SearchResult, TokenLogprobs, Trajectory, metered
from stepward.search.budget import Budget
from stepward.search.purse import OutOfBudget, Unpriced
from stepward.search.self_guided import ProgressReward, SelfGuidedMCTS, mean_log_ratio
from stepward.search.workbench import Workbench
from stepward.testing import check_search
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
ALL = PlantedPolicy(draws="in turn")
RANDOM = PlantedPolicy(skew=1.0)
PROBLEMS = [WORLD.random(seed, depth=3, branching=3) for seed in range(10)]


def guided(**settings: Any) -> SelfGuidedMCTS:
    given: dict[str, Any] = {"policy": ALL, "environment": WORLD, "model": PlantedModel(knows="best"), "expansions": 3} | settings
    if "evaluator" in settings:
        given["model"] = None
    return SelfGuidedMCTS(**given)


def found(search: SelfGuidedMCTS, problem: Problem) -> SearchResult:
    return asyncio.run(search.search(problem))


def path(node: Node) -> tuple[int, ...]:
    return tuple(int(step.text.split()[-1]) for step in node.trajectory.steps)


# The progress reward


def test_the_progress_reward_is_invariant_to_repeating_the_same_ratio() -> None:
    once = mean_log_ratio(TokenLogprobs(((-0.5, -1.0),)), TokenLogprobs(((-1.0, -1.2),)))
    thrice = mean_log_ratio(TokenLogprobs(((-0.5, -1.0),) * 3), TokenLogprobs(((-1.0, -1.2),) * 3))
    assert once[0] == pytest.approx(0.35)
    assert thrice[0] == pytest.approx(once[0])


def test_other_tokens_and_no_tokens_are_unknown() -> None:
    assert math.isnan(mean_log_ratio(TokenLogprobs(((-1.0,),)), TokenLogprobs(((-1.0, -1.0),)))[0])
    value, reason = mean_log_ratio(TokenLogprobs(()), TokenLogprobs(()))
    assert math.isnan(value)
    assert "no token" in reason


def test_values_are_mean_log_ratios_plus_the_weighted_second_reward() -> None:
    """ln P - ln P_ref of the branches taken, over two tokens a step."""
    tuned, reference = PlantedPolicy(skew=2.0), PlantedPolicy()
    for weight, model in ((1.0, None), (0.5, PlantedModel(knows="best"))):
        reward = ProgressReward(tuned=tuned, reference=reference, model=model, weight=weight)
        result = found(guided(evaluator=reward, iterations=3), PROBLEMS[0])
        for node in result.tree:
            if node.parent is not None and not node.dropped:
                at = path(node)
                gains = [
                    math.log(tuned.chances(WORLD.walk(PROBLEMS[0], at[:k]))[at[k]]) - math.log(reference.chances(WORLD.walk(PROBLEMS[0], at[:k]))[at[k]])
                    for k in range(len(at))
                ]
                second = 0.5 * WORLD.best(node.trajectory) if model else 0.0
                assert node.value == pytest.approx(sum(gains) / (2 * len(at)) + second)


def test_a_reward_without_log_probabilities_or_with_flops_is_refused() -> None:
    class Mute:
        fingerprint = "mute"

        async def sample(self, *_: Any, **__: Any) -> list[Trajectory]:
            return []

    with pytest.raises(InputError, match="must tell log-probabilities"):
        ProgressReward(tuned=Mute(), reference=ALL)  # type: ignore[arg-type]
    with metered() as ledger:
        bench = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling(), budget=Budget(flops=10**12), ledger=ledger)
        with pytest.raises(Unpriced, match="FLOPs"):
            asyncio.run(ProgressReward(tuned=RANDOM, reference=ALL).evaluate(bench, [bench.root]))


def test_what_cannot_be_compared_is_unscored_with_the_reason() -> None:
    """A call budget that reaches two of three comparisons, and a policy that fails."""
    reward = ProgressReward(tuned=RANDOM, reference=ALL)
    with metered() as ledger:
        bench = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling(), budget=Budget(calls=5), ledger=ledger)
        children = [bench.add(bench.root, WORLD.walk(PROBLEMS[0], (choice,))) for choice in range(3)]
        asyncio.run(reward.evaluate(bench, children))
    assert [math.isnan(child.value) for child in children] == [False, False, True]
    assert children[2].reason == "the two policies were not compared"
    assert bench.calls == 4
    off_the_tree = Trajectory(PROBLEMS[0]).extend("take 7")
    plain = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling())
    lost = plain.add(plain.root, off_the_tree)
    asyncio.run(reward.evaluate(plain, [lost]))
    assert math.isnan(lost.value)
    assert "takes no branch" in plain.failures[0]


# The search


def reference(problem: Problem, n: int, c: float) -> dict[tuple[int, ...], int]:
    """Visit counts, from the rule alone: all children of an expansion are visited at once; ends, and nodes that only ends follow, are not met twice."""
    depth = len((problem.answer or "").split("."))
    count: dict[tuple[int, ...], int] = {(): 0}
    total: dict[tuple[int, ...], float] = {(): 0.0}
    done: set[tuple[int, ...]] = set()
    for _ in range(n):
        at: tuple[int, ...] = ()
        while going := [(*at, i) for i in range(3) if (*at, i) in count and (*at, i) not in done and len(at) + 1 < depth]:
            bonus = math.log(count[at])
            at = max(going, key=lambda k: total[k] / count[k] + c * math.sqrt(bonus / (count[k] + 1)))
        if at and (*at, 0) in count:
            done.add(at)
            continue
        for child in ((*at, i) for i in range(3)):
            value = WORLD.best(WORLD.walk(problem, child))
            for cut in range(len(child) + 1):
                count[child[:cut]] = count.get(child[:cut], 0) + 1
                total[child[:cut]] = total.get(child[:cut], 0.0) + value
    return count


@pytest.mark.parametrize("c", [0.0, 0.3, 1.4])
def test_visits_are_those_of_a_naive_reference(c: float) -> None:
    for n in range(1, 20):  # as long as not everything is known
        result = found(guided(c=c, iterations=n, expand_probability=0.0), PROBLEMS[1])
        assert {path(node): node.visits for node in result.tree if node.visits} == reference(PROBLEMS[1], n, c)


def test_every_usable_child_is_visited_when_it_is_made() -> None:
    result = found(guided(policy=RANDOM, iterations=12, c=1.0), PROBLEMS[2])
    for node in result.tree:
        children = [child for child in node.children if child.visits]
        if children and node.parent is not None:
            assert node.visits == 1 + sum(child.visits for child in children)
        assert node.visits or node.parent is None or node.dropped or node.closed
    assert result.tree.root.visits == sum(child.visits for child in result.tree.root.children)


def test_exact_values_lead_to_the_optimum() -> None:
    for problem in PROBLEMS:
        result = found(guided(iterations=40), problem)
        assert result.chosen is not None
        assert WORLD.answer(result.chosen) == problem.answer


def test_an_end_above_the_threshold_ends_the_search() -> None:
    free, early = (found(guided(iterations=12, accept=accept), PROBLEMS[3]) for accept in (None, 0.99))
    assert early.chosen == free.chosen
    assert early.usage.policy_tokens < free.usage.policy_tokens
    assert sum(end.value > 0.99 for end in early.tree.ends) == 1


def test_nothing_is_expanded_at_the_largest_depth_and_inner_nodes_are_expanded_again() -> None:
    result = found(guided(policy=RANDOM, max_depth=2, iterations=60, expand_probability=0.5), PROBLEMS[4])
    assert max(node.depth for node in result.tree if node.kind == "sample" and not node.ended) == 2
    assert [end.trajectory for end in result.tree.ends] == [result.chosen], "the best prefix was completed once"
    assert any(len(node.children) > 3 for node in result.tree)


def test_without_going_back_every_prefix_of_largest_depth_is_met_once() -> None:
    """With chance 0 to expand an inner node again, an iteration that changes nothing would be repeated for ever."""
    result = found(guided(max_depth=2, expand_probability=0.0, iterations=20), PROBLEMS[4])
    deep = [node for node in result.tree if node.depth == 2 and not node.ended and not node.dropped]
    assert len({path(node) for node in deep}) == 9
    assert all(node.closed for node in deep)


def test_iterations_that_change_nothing_let_others_work() -> None:
    async def turns() -> int:
        going = asyncio.ensure_future(guided(max_depth=1, expand_probability=1e-9, iterations=300).search(PROBLEMS[4]))
        n = 0
        while not going.done():
            n += 1
            await asyncio.sleep(0)
        return n

    assert asyncio.run(turns()) > 290


def test_reflections_are_limited_and_belong_to_the_search() -> None:
    """Another policy's steps as reflections: the search goes on below those that say something new."""
    search = guided(policy=RANDOM, reflector=ALL, reflections=2, expansions=1, iterations=15, c=2.0)
    reflections = [[node for node in found(search, problem).tree if node.kind == "reflect"] for problem in PROBLEMS]
    assert all(len(nodes) == 2 for nodes in reflections)
    assert any(node.children for nodes in reflections for node in nodes)


def test_unscored_nodes_never_win_and_budgets_hold() -> None:
    for problem in PROBLEMS[:5]:
        result = found(guided(policy=RANDOM, model=PlantedModel(fail_every=3), budget=Budget(policy_tokens=70)), problem)
        assert result.usage.policy_tokens <= 70
        assert all(not node.visits for node in result.tree if node.reason)
        assert result.chosen is None or any(end.trajectory == result.chosen and not math.isnan(end.value) for end in result.tree.ends)
    assert found(guided(model=PlantedModel(fail_every=1)), PROBLEMS[0]).chosen is None


@pytest.mark.parametrize("interactive", [False, True])
def test_it_keeps_the_promises_of_searches(interactive: bool) -> None:
    policy = PlantedPolicy(skew=1.0, interactive=interactive)
    reward = ProgressReward(tuned=PlantedPolicy(skew=2.0), reference=PlantedPolicy())
    world = PlantedTree(interactive=interactive)
    check_search(guided(policy=policy, environment=world, evaluator=reward, iterations=5, max_depth=2, reflector=RANDOM), PROBLEMS[:3])


def test_mistakes_are_refused() -> None:
    for settings in ({"c": -1.0}, {"decay": 2.0}, {"max_depth": 0}, {"reflections": -1}):
        with pytest.raises(InputError, match="SelfGuidedMCTS"):
            guided(**settings)


def test_half_a_value_is_none() -> None:
    """The budget pays for the comparisons of log-probabilities and not for the second reward: the first alone must not win."""
    reward = ProgressReward(tuned=RANDOM, reference=ALL, model=PlantedModel())
    with metered() as ledger:
        bench = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling(), budget=Budget(calls=7), ledger=ledger)
        children = [bench.add(bench.root, WORLD.walk(PROBLEMS[0], (choice,))) for choice in range(3)]
        asyncio.run(reward.evaluate(bench, children))
        assert [math.isnan(child.value) for child in children] == [False, True, True]
        later = bench.add(children[0], WORLD.walk(PROBLEMS[0], (0, 1)))
        with pytest.raises(OutOfBudget):
            asyncio.run(reward.evaluate(bench, [later]))
        spent = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling(), budget=Budget(calls=bench.calls + 2), ledger=ledger)
        spent.purse.count(bench.calls)
        with pytest.raises(OutOfBudget):
            asyncio.run(reward.evaluate(spent, [later]))
    assert math.isnan(later.value)


def test_requests_that_a_budget_leaves_out_are_told() -> None:
    with metered() as ledger:
        bench = Workbench(PROBLEMS[0], RANDOM, WORLD, sampling=Sampling(), budget=Budget(calls=5), ledger=ledger)
        children = [bench.add(bench.root, WORLD.walk(PROBLEMS[0], (choice,))) for choice in range(3)]
        asyncio.run(ProgressReward(tuned=RANDOM, reference=ALL).evaluate(bench, children))
        assert "5 calls" in (bench.stopped or "")


def test_a_budget_that_ends_before_any_solution_would_leaves_an_answer() -> None:
    """Six levels, and a budget of fifty steps: half of it is kept for a whole solution."""
    for seed in range(8):
        result = found(guided(policy=RANDOM, iterations=500, budget=Budget(policy_tokens=100)), WORLD.random(seed, depth=6, branching=3))
        assert result.chosen is not None
        assert result.chosen.finished
        assert result.usage.policy_tokens <= 100
