"""Adaptive allocation: samples that a chance calls for, votes that stop, tables by difficulty."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from tests.search.exact import PROBLEMS, SOLVER, WORLD, Exact, results, right, standard_error

from stepward.core import InputError, RequestFailed, Sampling, StepScores, Trajectory, Until
from stepward.rewards.calibration.quantile import fit_quantiles
from stepward.search.adaptive_scaling import AdaptiveBeam, AdaptiveBestOfN, AdaptiveWidthBeam, samples_needed
from stepward.search.adaptive_votes import AdaptiveMajority
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.compute_optimal import ComputeOptimal, DifficultyTable, fit_table, held_out, quantile_edges
from stepward.search.consensus import votes_needed
from stepward.search.sampled import BestOfN, Majority
from stepward.testing import check_search

PARTS: dict[str, Any] = {"policy": SOLVER, "environment": WORLD}


@dataclass(frozen=True)
class Bounded:
    """Exact values whose lower quantile is some function of them."""

    low: Callable[[float], float] = lambda value: value
    fail_every: int = 0
    fingerprint: str = "bounded"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        scores = await Exact(fail_every=self.fail_every).score(trajectory)
        return replace(scores, aspects={"low": np.array([self.low(value) for value in scores.values])})


# How many


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_as_many_samples_as_needed_succeed_with_the_confidence_asked_for(confidence: float) -> None:
    for p in np.linspace(0.001, 0.999, 300):
        n = samples_needed(p, confidence)
        assert 1 - (1 - p) ** n >= confidence - 1e-9
        assert n == 1 or 1 - (1 - p) ** (n - 1) < confidence + 1e-9


def test_a_larger_chance_never_needs_more_samples() -> None:
    needed = [samples_needed(p) for p in np.linspace(0.0, 1.0, 2001)]
    assert needed == sorted(needed, reverse=True)
    assert (needed[0], needed[-1], samples_needed(0.1)) == (46050, 1, 44)
    for unknown in ({"p": math.nan}, {"p": 0.5, "confidence": 1.0}):
        with pytest.raises(InputError):
            samples_needed(**unknown)


def test_an_overestimated_chance_breaks_the_guarantee_and_its_low_quantile_restores_it() -> None:
    """Chances in groups of one score: the median stops too early on about half of the problems, the 0.1 quantile on at most a tenth (3 standard errors)."""
    rng = np.random.default_rng(0)

    def pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
        scores = rng.integers(1, 8, n) / 8
        return scores, np.clip(scores + rng.normal(0, 0.1, n), 0.01, 0.99)

    calibration = fit_quantiles(*pairs(8000))
    scores, truth = pairs(4000)
    kept = {
        name: np.mean([1 - (1 - p) ** samples_needed(guess) >= 0.99 - 1e-9 for p, guess in zip(truth, guesses, strict=True)])
        for name, guesses in {"exact": truth, "too high": truth**0.5, "median": calibration(scores), "low": calibration.bounds(scores)["low"]}.items()
    }
    assert kept["exact"] == 1.0
    assert kept["too high"] < 0.5
    assert 0.4 < kept["median"] < 0.75  # ceilings help a little
    assert kept["low"] > 0.9 - 3 * math.sqrt(0.09 / 4000)


# Best-of-n and beams


def adaptive(**settings: Any) -> AdaptiveBestOfN:
    return AdaptiveBestOfN(**(PARTS | {"model": Bounded(), "n_max": 16, "probes": 2, "confidence": 0.9} | settings))


def test_easy_problems_get_fewer_samples_and_the_number_is_the_formulas() -> None:
    found = results(adaptive(), PROBLEMS[:60])
    for result in found:
        probes = [SOLVER.value(end.trajectory.prefix(1)) for end in result.tree.ends[:2]]
        assert result.source["notes"]["chance"] == pytest.approx(np.mean(probes))
        assert len(result.tree.ends) == result.source["notes"]["n_samples"] == max(2, min(16, samples_needed(float(np.mean(probes)), 0.9)))
    assert 2 < np.mean([len(result.tree.ends) for result in found]) < 16


def test_adaptive_best_of_n_loses_no_more_than_its_confidence_allows_and_saves_tokens() -> None:
    easy = sorted(PROBLEMS, key=lambda problem: -SOLVER.value(Trajectory(problem)))[:50]
    fixed = results(BestOfN(**PARTS, model=Bounded(), n=16, aggregation="last"), easy)
    found = results(adaptive(confidence=0.9), easy)
    difference = right(fixed) - right(found)
    assert difference.mean() < 0.1 + 3 * standard_error(difference)
    assert sum(result.usage.policy_tokens for result in found) < 0.8 * sum(result.usage.policy_tokens for result in fixed)


def test_a_model_without_quantiles_is_refused_unless_its_value_is_taken() -> None:
    with pytest.raises(InputError, match="no 'low' quantile"):
        results(adaptive(model=Exact()), PROBLEMS[:1])
    one, other = (results(adaptive(model=model, bound="value"), PROBLEMS[:5]) for model in (Exact(), Bounded()))
    assert [result.chosen for result in one] == [result.chosen for result in other]


def test_unscored_probes_get_the_largest_number() -> None:
    [result] = results(adaptive(model=Exact(fail_every=1), bound="value", n_max=6), PROBLEMS[:1])
    assert result.source["notes"] == {"chance": None, "n_samples": 6}
    assert "no answer" in (result.reason or "")


def test_an_adaptive_beam_that_is_never_sure_is_the_beam() -> None:
    beam = results(StepBeam(**PARTS, model=Bounded(), width=2, expansions=3, aggregation="last"), PROBLEMS[:15])
    for kind in (AdaptiveBeam, AdaptiveWidthBeam):
        found = results(kind(**PARTS, model=Bounded(low=lambda value: 0.0), width=2, expansions=3), PROBLEMS[:15])
        assert [[node.trajectory.key for node in one.tree] for one in found] == [[node.trajectory.key for node in one.tree] for one in beam]


def test_children_follow_the_weakest_prefix_and_widths_the_strongest() -> None:
    for result in results(AdaptiveBeam(**PARTS, model=Bounded(), width=2, expansions=4, confidence=0.9), PROBLEMS[:30]):
        assert result.source["notes"]["children"][0] == 8
        for level, children in enumerate(result.source["notes"]["children"][1:], 1):
            parents = [node for node in result.tree if node.depth == level and node.children]
            weakest = min(node.value for node in parents)
            assert children == min(4, math.ceil(samples_needed(weakest, 0.9) / 2))
            assert all(len(node.children) == children for node in parents)
    for result in results(AdaptiveWidthBeam(**PARTS, model=Bounded(), width=4, expansions=2, confidence=0.9), PROBLEMS[:30]):
        first = sorted((node.value for node in result.tree.root.children), reverse=True)[:4]
        k = next((k for k, p in enumerate(first, 1) if k * 2 >= samples_needed(p, 0.9)), 4)
        assert result.source["notes"]["widths"][0] == k
        assert sum(node.dropped is None for node in result.tree.root.children) == k


# Votes


@pytest.mark.parametrize(("rule", "asked"), [("beta", 4), ("beta", 1), ("window", 1), ("certain", 4), ("certain", 1)])
def test_a_vote_stops_with_the_first_wave_that_settles_it(rule: Literal["beta", "window", "certain"], asked: int) -> None:
    search = AdaptiveMajority(**PARTS, n=20, rule=rule, wave=asked, window=5)
    for result, full in zip(results(search, PROBLEMS[:20]), results(Majority(**PARTS, n=20), PROBLEMS[:20]), strict=True):
        answers = [WORLD.answer(end.trajectory) for end in full.tree.ends]
        wave = 5 if rule == "window" else asked
        stops = [count for count in range(wave, 21, wave) if search.stop.settled(answers[:count])]
        assert result.source["notes"]["n_samples"] == len(result.tree.ends) == (stops[0] if stops else 20)
        if rule == "certain" and result.chosen is not None and full.chosen is not None:
            assert WORLD.answer(result.chosen) == WORLD.answer(full.chosen)
        if wave == 1:
            assert len(result.tree.ends) == votes_needed(answers, search.stop)


# Compute-optimal


def test_on_the_fitting_problems_a_table_is_as_good_as_every_strategy() -> None:
    rng = np.random.default_rng(0)
    ease = rng.random(500)
    outcomes = (rng.random((500, 4)) < np.stack([ease, 0.5 * np.ones(500), 1 - ease, 0.3 + 0.2 * ease], axis=1)).astype(float)
    table = fit_table(ease, outcomes)
    chosen = np.array([outcomes[p, table.choice(ease[p])] for p in range(500)])
    assert chosen.mean() >= outcomes.mean(axis=0).max()
    assert table.choices[0] == 2
    assert table.choices[-1] == 0


def test_on_held_out_problems_it_loses_no_more_than_noise() -> None:
    rng = np.random.default_rng(1)
    ease = rng.random(600)
    same = (rng.random((600, 3)) < 0.5).astype(float)  # no strategy is better anywhere: nothing to win
    best = same[:, same.mean(axis=0).argmax()]
    difference = best - held_out(ease, same)
    assert difference.mean() < 3 * standard_error(difference)
    useful = (rng.random((600, 2)) < np.stack([ease, 1 - ease], axis=1)).astype(float)
    gain = held_out(ease, useful) - useful[:, useful.mean(axis=0).argmax()]
    assert gain.mean() > 3 * standard_error(gain)


def test_tables_refuse_nonsense_and_know_what_they_do_not_know() -> None:
    assert DifficultyTable((0.1, 0.5), (2, 1, 0)).bin(0.5) == 2
    assert DifficultyTable((0.1, 0.5), (2, 1, 0)).bin(math.nan) == 0
    assert quantile_edges(np.repeat([0.0, 1.0], 10)) == (1.0,)
    assert fit_table([0.5, 0.5], [[1.0, 1.0], [0.0, 0.0]], costs=[2.0, 1.0]).choices[-1] == 1
    for wrong in (((0.5, 0.1), (0, 1, 2)), ((0.5,), (0,))):
        with pytest.raises(InputError):
            DifficultyTable(*wrong)


def test_compute_optimal_goes_on_with_the_strategy_of_the_problems_bin() -> None:
    parts = (Majority(**PARTS, n=3), StepBeam(**PARTS, model=Exact(), width=2, expansions=2, aggregation="last"))
    search = ComputeOptimal(**PARTS, model=Exact(), strategies=parts, edges=(0.5,), choices=(1, 0), drafts=2)
    used = set()
    for result in results(search, PROBLEMS[:40]):
        ease = float(np.mean([SOLVER.value(end.trajectory) for end in result.tree.ends[:2]]))
        assert result.source["notes"]["ease"] == pytest.approx(ease)
        assert result.source["notes"]["strategy"] == (0 if ease >= 0.5 else 1)
        used.add(result.source["notes"]["strategy"])
    assert used == {0, 1}
    check_search(search, PROBLEMS[:3])
    with pytest.raises(InputError, match="another policy"):
        ComputeOptimal(**(PARTS | {"policy": replace(SOLVER, notice=0.5)}), model=Exact(), strategies=parts, edges=(0.5,), choices=(1, 0))
    with pytest.raises(InputError, match="places 0 to 1"):
        ComputeOptimal(**PARTS, model=Exact(), strategies=parts)


@pytest.mark.parametrize(
    "search",
    [
        adaptive(),
        AdaptiveBeam(**PARTS, model=Bounded(), width=2, expansions=3),
        AdaptiveWidthBeam(**PARTS, model=Bounded(), width=3, expansions=2),
        AdaptiveMajority(**PARTS, n=12),
    ],
    ids=lambda search: search.name,
)
def test_adaptive_strategies_keep_their_promises_and_their_budgets(search: Any) -> None:
    check_search(search, PROBLEMS[:3])
    for tokens in (20, 60, 200):
        for result in results(replace(search, budget=Budget(policy_tokens=tokens)), PROBLEMS[:8]):
            assert result.usage.policy_tokens <= tokens


def test_a_failed_score_of_a_model_with_quantiles_is_unknown_and_does_not_end_the_search() -> None:
    """A failed request carries no quantiles: it counts as a chance that is not known, not as a model without them."""
    for kind in (AdaptiveBestOfN, AdaptiveBeam, AdaptiveWidthBeam):
        for result in results(kind(**PARTS, model=Bounded(fail_every=3)), PROBLEMS[:6]):
            assert result.source["n_failed_requests"] > 0
            assert result.chosen is None or result.tree.nodes[result.source["chosen_node"]].reason is None
        for result in results(kind(**PARTS, model=Bounded(fail_every=1)), PROBLEMS[:2]):
            assert "no answer" in (result.reason or "")


@dataclass(frozen=True)
class Busy:
    """A policy whose every third draw of a whole solution fails, the first one too."""

    fingerprint: str = "busy"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if any(number % 3 == 0 for number in range(draw, draw + n)):
            raise RequestFailed("busy")
        return await SOLVER.sample(prefix, n, until=until, sampling=sampling, draw=draw)


@pytest.mark.parametrize("rule", ["beta", "window", "certain"])
def test_a_failed_draw_does_not_end_a_vote(rule: Literal["beta", "window", "certain"]) -> None:
    search = AdaptiveMajority(policy=Busy(), environment=WORLD, n=12, wave=1, window=1, rule=rule, confidence=0.999)
    for result in results(search, PROBLEMS[:5]):
        notes = result.source["notes"]
        assert notes["n_samples"] == len(result.tree.ends) == result.source["calls"] - result.source["n_failed_requests"]
        assert notes["settled"] or result.source["calls"] == 12
        assert result.chosen is not None


def test_a_failed_portion_does_not_end_a_search_that_asks_for_more() -> None:
    """Portions of one: under a budget of seconds the first portion is one solution, and here it fails."""
    for search in (
        BestOfN(policy=Busy(), environment=WORLD, model=Exact(), n=6, budget=Budget(seconds=600.0)),
        AdaptiveBestOfN(policy=Busy(), environment=WORLD, model=Exact(), n_max=6, probes=1, bound="value"),
    ):
        (result,) = results(search, PROBLEMS[:1]) if search.name == "best-of-n" else results(replace(search, policy=First()), PROBLEMS[:1])
        assert result.chosen is not None
        assert result.source["n_failed_requests"] > 0


@dataclass(frozen=True)
class First:
    """A policy whose first draw fails."""

    fingerprint: str = "first"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        if draw == 0:
            raise RequestFailed("not yet awake")
        return await SOLVER.sample(prefix, n, until=until, sampling=sampling, draw=draw)


def test_what_an_adaptive_search_draws_under_a_budget_of_calls_is_judged() -> None:
    (result,) = results(adaptive(model=Bounded(low=lambda value: 0.0), n_max=64, budget=Budget(calls=24)), PROBLEMS[:1])
    assert (len(result.tree.ends), sum(end.scores is not None for end in result.tree.ends)) == (12, 12)


def test_compute_optimal_searches_are_not_nested() -> None:
    inner = ComputeOptimal(**PARTS, model=Exact(), strategies=(Majority(**PARTS, n=1),), edges=(), choices=(0,))
    with pytest.raises(InputError, match="more bins"):
        ComputeOptimal(**PARTS, model=Exact(), strategies=(inner,), edges=(), choices=(0,))


@dataclass(frozen=True)
class Steep:
    """Exact values as logits below 0, whatever they are: another scale than Exact."""

    fingerprint: str = "steep"
    granularity: Literal["step"] = "step"
    scale: Literal["logit"] = "logit"

    async def score(self, trajectory: Trajectory) -> StepScores:
        scores = await Exact().score(trajectory)
        return replace(scores, values=scores.values - 5.0, scale="logit")


def test_drafts_do_not_compete_with_ends_on_another_scale() -> None:
    """Chances of drafts stand above all logits of the strategy: they would always win. Where both judge alike they may."""
    settings = {"strategies": (BestOfN(**PARTS, model=Steep(), n=3, aggregation="last"),), "edges": (), "choices": (0,), "drafts": 3}
    for result in results(ComputeOptimal(**PARTS, model=Exact(), **settings), PROBLEMS[:20]):
        drafts = result.tree.ends[:3]
        assert all(math.isnan(node.value) and node.reason == "a draft, judged for difficulty only" and node.scores is not None for node in drafts)
        assert result.source["chosen_node"] not in {node.index for node in drafts}
    alike = settings | {"strategies": (BestOfN(**PARTS, model=Exact(), n=3, aggregation="last"),)}
    found = results(ComputeOptimal(**PARTS, model=Exact(), **alike), PROBLEMS[:20])
    assert all(not math.isnan(end.value) for result in found for end in result.tree.ends)
    assert {result.source["chosen_node"] for result in found} & {1, 2, 3}


def test_the_best_draft_answers_where_the_strategy_came_to_nothing() -> None:
    search = ComputeOptimal(
        **PARTS, model=Exact(), strategies=(BestOfN(**PARTS, model=Steep(), n=3),), edges=(), choices=(0,), drafts=3, budget=Budget(calls=6)
    )
    for result in results(search, PROBLEMS[:20]):
        values = [SOLVER.value(end.trajectory) for end in result.tree.ends]
        assert result.chosen is not None
        assert len(values) == 3
        assert SOLVER.value(result.chosen) == max(values)
