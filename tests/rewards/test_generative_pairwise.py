"""Pairwise judges ask in both orders; rankings from duels keep their identities."""

from __future__ import annotations

import asyncio
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rewards.generative_parts import solution, telling

from stepward.core import InputError, Problem, metered
from stepward.rewards.generative import PairwiseJudge, borda, elo, knockout, load_pairwise
from stepward.rewards.generative.pairwise import Comparison, preference_matrix
from stepward.rewards.generative.scripted import Asked, ScriptedJudge

PROBLEM = Problem("Which is larger?")
GOOD, BAD = solution("good"), solution("bad")
PROMPTS = ("rm-r1", "rm-r1-instruct", "mt-bench")


def shown(asked: Asked) -> tuple[str, str]:
    """What stands as A and as B."""
    first, second = re.findall(r"\[The Start of (?:Chatbot|Assistant) [AB]'s (?:Response|Answer)\]\n(.*?)\n\[The End", asked.prompt, re.DOTALL)
    return first, second


def truthful(asked: Asked) -> str:
    better = "A" if shown(asked)[0] > shown(asked)[1] else "B"  # "good" > "bad"
    return f"I compare.\n\n<answer>[[{better}]]</answer>"


def compare(policy: ScriptedJudge, **options: object) -> Comparison:
    return asyncio.run(load_pairwise(policy, **options).compare(PROBLEM, GOOD, BAD))  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_better_solution_wins_in_both_orders(prompt: str) -> None:
    policy = ScriptedJudge(truthful)
    result = compare(policy, prompt=prompt)
    assert (result.value, result.winner, result.consistent, result.orders) == (1.0, "a", True, (1.0, 1.0))
    assert {shown(asked) for asked in policy.asked} == {("good", "bad"), ("bad", "good")}
    back = asyncio.run(PairwiseJudge(policy, prompt).compare(PROBLEM, BAD, GOOD))
    assert (back.value, back.winner) == (0.0, "b")


@pytest.mark.parametrize("side", ["A", "B"])
def test_a_judge_with_a_favourite_place_decides_nothing(side: str) -> None:
    result = compare(ScriptedJudge(lambda _: f"<answer>[[{side}]]</answer>"))
    assert (result.value, result.winner, result.consistent) == (0.5, None, False)
    biased = compare(ScriptedJudge(lambda _: f"<answer>[[{side}]]</answer>"), orders="given")
    assert biased.value == float(side == "A")
    assert biased.consistent is None


def test_odds_of_both_orders_are_averaged() -> None:
    policy = telling(truthful, lambda asked: 0.9 if shown(asked)[0] == "good" else 0.3)
    result = compare(policy, k=2)
    assert result.value == pytest.approx((0.9 + 0.7) / 2)
    assert result.orders == pytest.approx((0.9, 0.7))


def test_an_order_without_a_verdict_leaves_the_pair_undecided() -> None:
    policy = ScriptedJudge(lambda asked: truthful(asked) if shown(asked)[0] == "good" else "Both have their merits: [[C]].")
    result = compare(policy)
    assert math.isnan(result.value)
    assert result.reason == "with solution b shown first: the judge gave no verdict in two answers"
    assert (result.winner, result.consistent) == (None, None)
    assert len([asked for asked in policy.asked if asked.written == ""]) == 3, "the silent order is asked once more"


def test_verdicts_stand_in_their_tags() -> None:
    undecided = compare(ScriptedJudge(lambda _: "I would say [[A]] or <answer>[[A/B]]</answer>."))
    assert math.isnan(undecided.value)
    plain = compare(ScriptedJudge(lambda _: "It is [[B]]. No, [[A]]."), prompt="mt-bench", orders="given")
    assert plain.value == 1.0, "the last verdict counts"


def test_a_comparison_costs_a_reward_models_tokens() -> None:
    with metered() as ledger:
        result = compare(ScriptedJudge(truthful))
    assert result.usage == ledger.usage
    assert ledger.usage.policy_tokens == 0
    assert ledger.usage.reward_written > 0


def test_the_system_prompt_is_part_of_the_question() -> None:
    policy = ScriptedJudge(truthful)
    compare(policy, prompt="rm-r1-instruct")
    assert policy.asked[0].prompt.startswith("Please act as an impartial judge")
    assert policy.asked[0].prompt.endswith("[The End of Chatbot B's Response]")


def test_names_and_options() -> None:
    policy = ScriptedJudge(truthful)
    names = {PairwiseJudge(policy, prompt).fingerprint for prompt in PROMPTS} | {
        PairwiseJudge(policy, k=2).fingerprint,
        PairwiseJudge(policy, orders="given").fingerprint,
    }
    assert len(names) == 5
    for options in ({"prompt": "arena"}, {"orders": "random"}, {"reduce": "index"}, {"k": 0}):
        with pytest.raises(InputError):
            PairwiseJudge(policy, **options)  # type: ignore[arg-type]


def test_the_best_of_many_wins_the_knockout() -> None:
    candidates = [solution(text) for text in ("bad-a", "bad-c", "good-z", "bad-b", "good-a")]
    result = asyncio.run(PairwiseJudge(ScriptedJudge(truthful)).best(PROBLEM, candidates))
    assert result.winner == 2
    assert len(result.duels) == 4


# Rankings ----------------------------------------------------------------------------------------------------------------------------------------------


def run_knockout(strengths: list[float], order: list[int] | None = None):
    rounds: list[int] = []

    async def prefer(i: int, j: int) -> float:
        rounds.append(1)
        return float(strengths[i] > strengths[j]) if strengths[i] != strengths[j] else 0.5

    return asyncio.run(knockout(len(strengths), prefer, order=order)), len(rounds)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=17, unique=True), st.randoms())
def test_a_knockout_without_errors_finds_the_best_in_n_minus_one_duels(strengths: list[int], random) -> None:
    order = list(range(len(strengths)))
    random.shuffle(order)
    result, n_duels = run_knockout([float(s) for s in strengths], order)
    assert result.winner == int(np.argmax(strengths))
    assert n_duels == len(result.duels) == len(strengths) - 1
    losers = [j if value >= 0.5 else i for i, j, value in result.duels]
    assert sorted([*losers, result.winner]) == list(range(len(strengths)))


def test_draws_and_undecided_duels_go_to_the_earlier() -> None:
    async def undecided(i: int, j: int) -> float:
        return math.nan

    assert asyncio.run(knockout(5, undecided)).winner == 0
    assert asyncio.run(knockout(3, undecided, order=[2, 0, 1])).winner == 2
    for n, order in ((0, None), (2, [0, 0]), (2, [0])):
        with pytest.raises(InputError):
            asyncio.run(knockout(n, undecided, order=order))


def test_elo_by_hand() -> None:
    assert elo([(0, 1, 1.0)], 2).tolist() == [1515.0, 1485.0]
    expected = 1 / (1 + 10 ** ((1485 - 1515) / 400))
    assert elo([(0, 1, 1.0), (0, 1, 0.0)], 2).tolist() == pytest.approx([1515 - 30 * expected, 1485 + 30 * expected])
    assert elo([(0, 1, math.nan)], 3).tolist() == [1500.0] * 3
    for duel in ((0, 0, 1.0), (0, 2, 1.0), (0, 1, 2.0)):
        with pytest.raises(InputError):
            elo([duel], 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0, 1)).filter(lambda d: d[0] != d[1]), max_size=40))
def test_elo_gives_what_it_takes(duels: list[tuple[int, int, float]]) -> None:
    ratings = elo(duels, 5)
    assert ratings.sum() == pytest.approx(5 * 1500.0)
    mirrored = elo([(j, i, 1.0 - d) for i, j, d in duels], 5)
    assert mirrored == pytest.approx(ratings), "who is named first does not matter"


def test_elo_of_many_fair_duels_orders_by_strength() -> None:
    rng = np.random.default_rng(0)
    strength = np.array([0.0, 200.0, 400.0])
    duels = []
    for _ in range(3000):
        i, j = rng.choice(3, 2, replace=False)
        duels.append((int(i), int(j), float(rng.random() < 1 / (1 + 10 ** ((strength[j] - strength[i]) / 400)))))
    ratings = elo(duels, 3, step=4.0)
    assert np.diff(ratings) == pytest.approx([200.0, 200.0], abs=60.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=8))
def test_borda_orders_like_the_rewards_behind_the_preferences(rewards: list[float]) -> None:
    r = np.array(rewards)
    scores = borda(0.5 + (r[:, None] - r[None, :]) / 2)
    n = len(r)
    assert scores == pytest.approx(0.5 + n * (r - r.mean()) / (2 * (n - 1)))


def test_borda_leaves_out_what_is_unknown() -> None:
    matrix = preference_matrix(3, {(0, 1): Comparison(0.8), (1, 2): Comparison(math.nan, "why")})
    assert borda(matrix).tolist()[:2] == pytest.approx([0.8, 0.2])
    assert math.isnan(borda(matrix)[2])
    both = preference_matrix(2, {(0, 1): Comparison(1.0), (1, 0): Comparison(1.0)})
    assert both[0][1] == both[1][0] == 1.0, "a comparison made the other way round is not overwritten"
    with pytest.raises(InputError):
        borda([[0.5, 1.0]])
