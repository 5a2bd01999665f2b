"""When to ask for help: the dynamic programme against brute force over all plans, and the strategy that acts on it."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.search.test_refinement import Truth

from stepward.core import InputError, Problem, SearchResult
from stepward.search.budget import Budget
from stepward.search.helper import HelpAtRandom, HelpByPlan, HelperUnderBudget, episode
from stepward.search.intervention import Bins, Chances, Episode, cheapest_penalty, plan, quantile_edges, tabulate
from stepward.testing import check_search
from stepward.testing.ladder import Climber, Ladder

HORIZON = 3


def table(seed: int, going: int = 2) -> Chances:
    """Random chances with `going` states that go on, failure and success."""
    rng = np.random.default_rng(seed)
    size = going + 2
    rows = rng.dirichlet(np.full(size, 0.7), size=(2, size))
    return Chances(rows[0], rows[1], np.array([math.nan] * going + [0.0, 1.0]))


def every_plan(chances: Chances, horizon: int, start: int = 0) -> list[tuple[float, float]]:
    """(helps, success) of every deterministic plan helps[t, s], by going forward through all of them."""
    going = np.flatnonzero(chances.going)
    found = []
    for choice in itertools.product((False, True), repeat=horizon * len(going)):
        where = np.zeros(len(chances.worth))
        where[start], used = 1.0, 0.0
        for t in range(horizon):
            step = np.zeros_like(where)
            step[~chances.going] = where[~chances.going]
            for place, state in enumerate(going):
                asks = choice[t * len(going) + place]
                used += asks * where[state]
                step += where[state] * (chances.helped if asks else chances.alone)[state]
            where = step
        found.append((used, float(where[~chances.going] @ chances.worth[~chances.going])))
    return found


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Vertices of the upper hull from (0 helps) on, with rising success."""
    best: dict[float, float] = {}
    for used, success in points:
        key = round(used, 12)
        best[key] = max(best.get(key, -1.0), success)
    chain: list[tuple[float, float]] = []
    for point in sorted(best.items()):
        if chain and point[1] <= chain[-1][1] + 1e-12:
            continue
        while len(chain) > 1 and (chain[-1][1] - chain[-2][1]) * (point[0] - chain[-1][0]) <= (point[1] - chain[-1][1]) * (chain[-1][0] - chain[-2][0]):
            chain.pop()
        chain.append(point)
    return chain


@pytest.mark.parametrize("seed", range(12))
def test_for_every_budget_the_plan_is_the_best_vertex_of_all_plans_within_it(seed: int) -> None:
    """Brute force over all 2^(T S) plans: the vertices of their upper hull, and no others, are what penalties lead to."""
    chances = table(seed)
    points = every_plan(chances, HORIZON)
    vertices = hull(points)
    for budget in [0.0, *np.linspace(0.0, HORIZON, 23), *(used for used, _ in vertices)]:
        found = cheapest_penalty(chances, float(budget) + 1e-9, HORIZON)
        used, success = max(vertex for vertex in vertices if vertex[0] <= budget + 1e-8)
        assert found.used[0, 0] == pytest.approx(used, abs=1e-8)
        assert found.success() == pytest.approx(success, abs=1e-8)
        rivals = [worth for helps, worth in points if helps <= used + 1e-9]
        assert found.success() >= max(rivals) - 1e-9, "no plan with as many helps or fewer succeeds more often"


@pytest.mark.parametrize("seed", range(8))
def test_the_value_of_a_plan_is_the_best_of_all_plans_at_its_penalty(seed: int) -> None:
    chances = table(seed)
    points = every_plan(chances, HORIZON)
    for penalty in (0.0, 0.03, 0.1, 0.25, 0.6):
        best = plan(chances, penalty, HORIZON)
        assert best.value[0, 0] == pytest.approx(max(worth - penalty * helps for helps, worth in points))


def test_helps_fall_as_their_price_rises() -> None:
    for seed in range(30):
        chances = table(seed, going=4)
        used = [plan(chances, penalty, 6).used[0, 0] for penalty in np.linspace(0.0, 1.0, 60)]
        assert all(after <= before + 1e-12 for before, after in itertools.pairwise(used))
        assert used[-1] == 0.0, "no help is worth a price of 1"


def test_no_budget_never_asks_and_a_budget_of_all_steps_asks_wherever_help_helps() -> None:
    for seed in range(30):
        chances = table(seed, going=3)
        never = cheapest_penalty(chances, 0.0, HORIZON)
        assert never.used[0, 0] == 0.0
        assert not never.helps[0, 0]
        assert not never.helps[1:].any(), "every state is reached from the first step on"
        free = cheapest_penalty(chances, HORIZON, HORIZON)
        assert free.penalty == 0.0
        for t in range(HORIZON):
            gains = (chances.helped - chances.alone) @ free.value[t + 1]
            assert (free.helps[t] == (gains > 1e-12) & chances.going).all()


def test_success_rises_with_the_budget() -> None:
    chances = table(3, going=4)
    found = [cheapest_penalty(chances, float(budget), 6) for budget in np.linspace(0.0, 6.0, 25)]
    assert all(after.success() >= before.success() - 1e-9 for before, after in itertools.pairwise(found))
    assert all(one.used[0, 0] <= budget for one, budget in zip(found, np.linspace(0.0, 6.0, 25), strict=True))


def test_tables_are_counted_from_episodes() -> None:
    bins = Bins(edges=(0.5,))
    episodes = [
        Episode((0.2, 0.9), (False, True), 1.0),
        Episode((0.8, 0.9), (False, False), 0.0),
        Episode((0.8, math.nan, 0.1), (False, True, False), 0.5),
        Episode((0.8,), (True,), None),
    ]
    chances = tabulate(episodes, bins)
    low, high = 1, 2
    assert chances.alone[0].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 0, 0])
    assert chances.helped[low].tolist() == [0, 0, 0, 0, 1]
    assert chances.alone[low].tolist() == chances.helped[low].tolist(), "help that was never missing changes nothing"
    assert chances.helped[high].tolist() == [0, 0, 1, 0, 0], "an unscored step keeps the state"
    assert chances.alone[high].tolist() == pytest.approx([0, 0, 0, 0.75, 0.25])
    assert bins.state(0.5, 0) == high
    by_step = tabulate([*episodes, Episode((0.8, 0.9, 0.9), (False, True, False), 1.0)], bins, horizon=3)
    assert by_step.alone.shape == (3, 5, 5)
    assert by_step.alone[1, high].tolist() == [0, 0, 0, 1, 0], "at step 1 a high score led to failure, alone"
    assert by_step.helped[1, high].tolist() == [0, 0, 1, 0, 0]
    assert by_step.alone[2, high].tolist() == tabulate([*episodes, Episode((0.8, 0.9, 0.9), (False, True, False), 1.0)], bins).alone[high].tolist()
    assert quantile_edges([0.1, 0.2, 0.3, 0.4, math.nan], 2) == pytest.approx((0.25,))


def test_mistakes_are_refused() -> None:
    good = table(0)
    with pytest.raises(InputError, match="distribution"):
        Chances(good.alone * 2.0, good.helped, good.worth)
    with pytest.raises(InputError, match="shape"):
        Chances(good.alone, good.helped, good.worth[1:])
    with pytest.raises(InputError, match="penalty"):
        plan(good, -0.1, 3)
    with pytest.raises(InputError, match="at least 0"):
        cheapest_penalty(good, -1.0, 3)
    with pytest.raises(InputError, match="increase"):
        Bins(edges=(0.5, 0.5))
    with pytest.raises(InputError, match="rate"):
        HelpAtRandom(rate=2.0)


# The strategy

LADDER = Ladder()
STEPS = 6
WEAK, STRONG = Climber(clean=0.5, slip=0.25, routes=3), Climber(clean=1.0, slip=0.02, routes=3)


def run(search: HelperUnderBudget, problems: list[Problem]) -> list[SearchResult]:
    async def go() -> list[SearchResult]:
        return list(await asyncio.gather(*(search.search(problem) for problem in problems)))

    return asyncio.run(go())


def helper(**changed: Any) -> HelperUnderBudget:
    parts: dict[str, Any] = {"policy": WEAK, "environment": LADDER, "model": Truth(), "helper": STRONG}
    return HelperUnderBudget(**parts | changed)


def ladders(name: str, n: int) -> list[Problem]:
    return [LADDER.problem(STEPS, f"{name} {index}") for index in range(n)]


def outcomes(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([result.chosen is not None and result.chosen.steps[-1].text == "yes" for result in found], dtype=np.float64)


def helps(found: list[SearchResult]) -> np.ndarray[Any, Any]:
    return np.array([sum(node.kind == "intervene" for node in result.tree) for result in found], dtype=np.float64)


def test_a_table_from_random_help_spends_its_budget_better_than_random_help() -> None:
    """Three phases: collect with random help, solve the table for 2 helps a problem, act on it. A prefix that has slipped is not worth helping."""
    collected = run(helper(rule=HelpAtRandom(rate=0.5)), ladders("collect", 300))
    bins = Bins(edges=(0.5,))
    chances = tabulate([episode(result.tree, float(right)) for result, right in zip(collected, outcomes(collected), strict=True)], bins, horizon=STEPS)
    best = cheapest_penalty(chances, 2.0, STEPS)
    assert best.used[0, 0] <= 2.0
    slipped = bins.state(0.0, 0)
    assert not best.helps[:, slipped].any(), "help is lost on a prefix that has slipped"
    assert best.helps[-1, bins.state(1.0, 0)], "the last word of a clean ladder is worth the most"
    problems = ladders("act", 400)
    acted, rival = run(helper(rule=HelpByPlan(bins, best)), problems), run(helper(rule=HelpAtRandom(rate=2.0 / STEPS)), problems)
    error = helps(acted).std(ddof=1) / math.sqrt(len(acted))
    assert helps(acted).mean() <= 2.0 + 3 * error
    gain = outcomes(acted) - outcomes(rival)
    assert gain.mean() - 1.96 * gain.std(ddof=1) / math.sqrt(len(gain)) > 0


def test_help_never_and_always_are_the_two_policies_themselves() -> None:
    problems = ladders("ends", 300)
    for rate, climber in ((0.0, WEAK), (1.0, STRONG)):
        found = run(helper(rule=HelpAtRandom(rate=rate)), problems)
        chance = climber.value(LADDER.wrong_solution(problems[0], 0).prefix(0))
        assert abs(outcomes(found).mean() - chance) < 3.5 * math.sqrt(chance * (1 - chance) / len(found))
        assert helps(found).tolist() == [rate * STEPS] * len(found)


def test_more_search_is_help_too() -> None:
    """The policy as its own helper: 4 tries for a step, the best-scored is taken."""
    found = run(helper(helper=WEAK, help_samples=4, rule=HelpAtRandom(rate=1.0)), ladders("search", 300))
    chance = (1 - 0.25**4) ** (STEPS - 1) * (1 - 0.5**4)
    assert abs(outcomes(found).mean() - chance) < 3.5 * math.sqrt(chance * (1 - chance) / len(found))


def test_an_unscored_solution_is_still_the_answer_there_is_no_other() -> None:
    found = run(helper(model=Truth(fail_every=2)), ladders("unscored", 20))
    assert all(result.chosen is not None for result in found)
    assert any(math.isnan(step.value) for result in found for step in result.tree if step.parent is not None)


@pytest.mark.parametrize("limit", ["policy_tokens", "calls", "reward_tokens"])
def test_its_budget_is_never_exceeded(limit: str) -> None:
    for amount in range(1, 30, 4):
        for result in run(helper(budget=Budget(**{limit: amount})), ladders("budget", 3)):
            spent = {"policy_tokens": result.usage.policy_tokens, "calls": result.source["calls"], "reward_tokens": result.usage.reward_tokens}
            assert spent[limit] <= amount


def test_it_keeps_the_promises_of_a_search() -> None:
    check_search(helper(), ladders("check", 3))
    by_plan = HelpByPlan(Bins(edges=(0.5,)), plan(table(1, going=3), 0.01, STEPS))
    check_search(helper(rule=by_plan, help_samples=2), ladders("check", 3))
    other = HelpByPlan(Bins(edges=(0.5,)), plan(table(2, going=3), 0.9, STEPS))
    assert replace(helper(), rule=by_plan).fingerprint != replace(helper(), rule=other).fingerprint


def test_a_tie_is_decided_for_fewer_helps_not_for_fewer_now() -> None:
    """Help now ends it with 0.7; alone two helps later end it with 1: equal at a price of 0.3, where one help is fewer than two."""
    alone, helped = np.zeros((5, 5)), np.zeros((5, 5))  # start, first, second, failure, success
    alone[0, 1] = alone[1, 3] = alone[2, 3] = 1.0
    helped[0] = [0.0, 0.0, 0.0, 0.3, 0.7]
    helped[1, 2] = helped[2, 4] = 1.0
    chances = Chances(alone, helped, np.array([math.nan] * 3 + [0.0, 1.0]))
    used = [plan(chances, penalty, 3).used[0, 0] for penalty in (0.3 - 1e-6, 0.3, 0.3 + 1e-6)]
    assert used == [2.0, 1.0, 1.0], "continuous from the right"


def test_a_plan_for_other_bins_and_a_tolerance_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="4 states, but 1 edges make 5"):
        HelpByPlan(Bins(edges=(0.5,)), plan(table(0), 0.1, HORIZON))
    with pytest.raises(InputError, match="tolerance"):
        cheapest_penalty(table(0), 0.5, HORIZON, tolerance=0.0)
