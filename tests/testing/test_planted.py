"""Planted trees: the worlds that searches are tested in keep their own promises."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest

from stepward.core import InputError, Problem, RequestFailed, Sampling, Trajectory, Until
from stepward.environments.episode import complete, grade
from stepward.testing import check_environment, check_policy
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree

WORLD = PlantedTree()
PROBLEM = WORLD.random(3, depth=3, branching=3)


@pytest.mark.parametrize("interactive", [False, True])
def test_the_world_and_its_walker_conform(interactive: bool) -> None:
    check_environment(PlantedTree(interactive=interactive), [PROBLEM])
    if not interactive:  # there the environment ends episodes, not the policy
        check_policy(PlantedPolicy(skew=1.0), [PROBLEM, WORLD.problem([[0.1, 1.0], [0.2, 0.3, 0.4]])], any_prefix=False)


def test_the_value_is_the_mean_reward_of_walks() -> None:
    """2,000 walks against V = sum of P(leaf) r(leaf), within 3 standard errors."""
    policy = PlantedPolicy(skew=2.0, law=5)
    walks = asyncio.run(policy.sample(Trajectory(PROBLEM), 2000, until=Until.END))
    rewards = [WORLD.leaves(PROBLEM)[WORLD.answer(walk) or ""] for walk in walks]
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards) / len(rewards))
    assert abs(mean - policy.value(Trajectory(PROBLEM))) < 3 * spread


def test_the_value_of_a_fork_is_the_mean_over_its_branches_and_best_their_maximum() -> None:
    policy = PlantedPolicy(skew=1.0)
    for choices in ((), (1,), (2, 0)):
        here = WORLD.walk(PROBLEM, choices)
        below = [WORLD.walk(PROBLEM, (*choices, i)) for i in range(3)]
        assert policy.value(here) == pytest.approx(sum(p * policy.value(child) for p, child in zip(policy.chances(here), below, strict=True)))
        assert WORLD.best(here) == max(map(WORLD.best, below))


def test_draws_in_turn_take_every_branch_and_reach_every_leaf_once() -> None:
    policy = PlantedPolicy(draws="in turn")
    firsts = asyncio.run(policy.sample(Trajectory(PROBLEM), 3))
    assert [first.text.strip() for first in firsts] == ["take 0", "take 1", "take 2"]
    ends = asyncio.run(policy.sample(Trajectory(PROBLEM), 27, until=Until.END))
    assert Counter(WORLD.answer(end) for end in ends) == Counter(WORLD.leaves(PROBLEM).keys())


def test_one_leaf_of_a_random_tree_is_best_and_is_the_reference_answer() -> None:
    for seed in range(20):
        problem = WORLD.random(seed, depth=2, branching=4)
        assert [leaf for leaf, reward in WORLD.leaves(problem).items() if reward == 1.0] == [problem.answer]


def test_log_probabilities_are_those_of_the_law() -> None:
    policy = PlantedPolicy(skew=1.0, n_words=4)
    end = asyncio.run(policy.sample(Trajectory(PROBLEM), 1, until=Until.END))[0]
    told = asyncio.run(policy.logprobs(end))
    assert [sum(step) for step in told.steps] == pytest.approx([step.logprob for step in end.steps])
    assert [len(step) for step in told.steps] == [4, 4, 4]


def test_greedy_takes_the_likeliest_branch() -> None:
    policy = PlantedPolicy(skew=3.0, law=2)
    first = asyncio.run(policy.sample(Trajectory(PROBLEM), 1, sampling=Sampling(temperature=0.0)))[0]
    chances = policy.chances(Trajectory(PROBLEM))
    assert first.text.strip() == f"take {chances.index(max(chances))}"


def test_an_agents_episode_gets_observations_and_is_ended_by_the_world() -> None:
    world = PlantedTree(interactive=True)
    (end,) = asyncio.run(complete(PlantedPolicy(interactive=True), world, Trajectory(PROBLEM)))
    assert [step.observation for step in end.steps] == ["3 branches follow", "3 branches follow", "the end"]
    assert end.finished
    assert asyncio.run(grade(world, end)).value == WORLD.leaves(PROBLEM)[world.answer(end) or ""]


def test_limits_cut_walks_off() -> None:
    policy = PlantedPolicy(n_words=5)
    for limits in (Sampling(max_step_tokens=3), Sampling(max_tokens=7), Sampling(max_steps=2)):
        (cut,) = asyncio.run(policy.sample(Trajectory(PROBLEM), 1, until=Until.END, sampling=limits))
        assert cut.truncated
        assert sum(step.n_tokens or 0 for step in cut.steps) <= limits.max_tokens
        assert not asyncio.run(grade(WORLD, cut)).scored


def test_models_know_shifted_values_and_fail_on_demand() -> None:
    policy, end = PlantedPolicy(), WORLD.walk(PROBLEM, (0, 1, 2))
    exact = asyncio.run(PlantedModel(policy=policy).score(end)).values
    assert exact.tolist() == pytest.approx([policy.value(prefix) for prefix in end.prefixes()])
    assert (asyncio.run(PlantedModel(policy=policy, shift=2.0).score(end)).values - exact).tolist() == pytest.approx([2.0] * 3)
    assert asyncio.run(PlantedModel(knows="best").score(end)).values.tolist() == [WORLD.best(prefix) for prefix in end.prefixes()]
    with pytest.raises(RequestFailed):
        asyncio.run(PlantedModel(fail_every=1).score(end))


def test_other_problems_and_ended_prefixes_are_refused() -> None:
    with pytest.raises(InputError, match="not a problem of a planted tree"):
        asyncio.run(PlantedPolicy().sample(Trajectory(Problem("What is 1 + 1?"))))
    with pytest.raises(InputError, match="has ended"):
        asyncio.run(PlantedPolicy().sample(WORLD.walk(PROBLEM, (0, 0, 0))))


def test_a_random_tree_is_as_deep_as_asked_also_without_forks() -> None:
    assert {leaf.count(".") + 1 for leaf in WORLD.leaves(WORLD.random(0, depth=4, branching=1))} == {4}
    assert {leaf.count(".") + 1 for leaf in WORLD.leaves(WORLD.random(0, depth=4, branching=2))} == {4}
