"""Particle filters: with exact values their estimate, their survivors and their law are known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from tests.search.coins import Coins
from tests.search.exact import PROBLEMS, SOLVER, WORLD, Exact, particles_of, results, right, standard_error

from stepward.core import InputError, Problem, StepScores, Trajectory, Usage, charge
from stepward.search.budget import Budget
from stepward.search.gibbs import ParticleGibbs
from stepward.search.particles import ParticleFilter
from stepward.search.resampling import RESAMPLINGS, effective_sample_size, log_mean, n_uniforms, normalised, resample
from stepward.testing import check_search
from stepward.testing.planted import PlantedPolicy, PlantedTree


def filter_with(**settings: object) -> ParticleFilter:
    return ParticleFilter(**({"policy": SOLVER, "environment": WORLD, "model": Exact(), "n": 4, "potential": "log"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", RESAMPLINGS)
def test_a_particle_is_named_n_times_its_weight_on_average(method: str) -> None:
    weights = normalised(np.log([0.5, 0.3, 0.0 + 1e-300, 0.2]))
    rng = np.random.default_rng(0)
    counts = np.array([np.bincount(resample(weights, rng.random(n_uniforms(method, 4)), method=method), minlength=4) for _ in range(4000)])
    errors = counts.std(axis=0, ddof=1) / math.sqrt(len(counts)) + 1e-9
    assert (np.abs(counts.mean(axis=0) - 4 * weights) < 4 * errors).all()
    assert (counts[:, 2] == 0).all()
    if method == "systematic":
        assert ((counts == np.floor(4 * weights)) | (counts == np.ceil(4 * weights))).all()


def test_low_variance_schemes_vary_less() -> None:
    weights = normalised(np.log(np.arange(1.0, 9.0)))
    rng = np.random.default_rng(1)
    spread = {
        method: np.var([np.bincount(resample(weights, rng.random(n_uniforms(method, 8)), method=method), minlength=8) for _ in range(1000)], axis=0).sum()
        for method in RESAMPLINGS
    }
    assert spread["systematic"] < spread["stratified"] < spread["multinomial"]


def test_effective_sample_size_is_n_for_equal_weights_and_1_for_one_particle() -> None:
    assert effective_sample_size(normalised([3.0] * 5)) == pytest.approx(5.0)
    assert effective_sample_size(normalised([0.0, -math.inf, -math.inf])) == 1.0
    assert log_mean([-1000.0, -math.inf]) == pytest.approx(-1000.0 + math.log(0.5))
    assert log_mean([-math.inf]) == -math.inf


def test_weights_too_small_for_floats_still_have_their_ratios() -> None:
    assert normalised([-2000.0, -2000.0 + math.log(3.0)]) == pytest.approx([0.25, 0.75])
    assert normalised([-math.inf] * 4) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("settings", [{}, {"ess_threshold": 0.5, "resampling": "systematic"}, {"resampling": "stratified"}])
def test_the_estimate_of_the_normalising_constant_is_unbiased(settings: dict[str, object]) -> None:
    """psi = ln V exact: the product of mean weights over V(root) has mean 1; 100 problems, within three standard errors."""
    found = results(filter_with(n=6, **settings), PROBLEMS[:100])
    ratios = np.array(
        [
            0.0 if result.source["notes"]["log_normaliser"] is None else math.exp(result.source["notes"]["log_normaliser"]) / SOLVER.value(Trajectory(problem))
            for result, problem in zip(found, PROBLEMS[:100], strict=True)
        ]
    )
    assert abs(ratios.mean() - 1.0) < 3 * standard_error(ratios)
    assert standard_error(ratios) < 0.2


def test_every_particle_that_survives_the_last_resampling_is_right() -> None:
    found = results(filter_with(), PROBLEMS[:60])
    alive = [result for result in found if result.source["notes"]["log_normaliser"] is not None]
    assert len(alive) > 0.7 * len(found)
    for result in alive:
        assert all(SOLVER.value(node.trajectory) == 1.0 for node in particles_of(result))
    assert right(alive).all()


def test_with_a_constant_reward_every_particle_is_a_draw_of_the_policy() -> None:
    """Resampled at every step, particles are copies of each other, but the share of right ones is the policy's own on average."""
    found = results(filter_with(model=Exact(constant=0.7)), PROBLEMS)
    shares = np.array([np.mean([SOLVER.value(node.trajectory) for node in particles_of(result)]) for result in found])
    chance = np.array([SOLVER.value(Trajectory(problem)) for problem in PROBLEMS])
    assert abs((shares - chance).mean()) < 3 * standard_error(shares - chance)
    assert any(len(set(map(id, particles_of(result)))) < 4 for result in found)


def test_with_a_constant_reward_and_a_threshold_below_one_the_particles_are_independent_chains() -> None:
    for result in results(filter_with(model=Exact(constant=0.7), ess_threshold=0.99), PROBLEMS[:50]):
        assert len(result.tree.root.children) == 4
        assert all(len(node.children) <= 1 for node in result.tree if node.parent is not None)
        assert not any(node.dropped for node in result.tree)
        assert result.source["notes"]["effective_sample_sizes"] == pytest.approx([4.0] * len(result.source["notes"]["effective_sample_sizes"]))


def test_the_filter_solves_more_than_as_many_single_samples_would_choose_blindly() -> None:
    found = results(filter_with(potential="logit"), PROBLEMS[:80])
    chance = np.array([SOLVER.value(Trajectory(problem)) for problem in PROBLEMS[:80]])
    gain = right(found) - chance
    assert gain.mean() > 3 * standard_error(gain)


def test_weights_of_current_scores_are_the_public_codes() -> None:
    """w = odds of the current value, ended particles included."""
    result = results(filter_with(weighting="current", potential="logit", ess_threshold=0.0, model=Exact()), PROBLEMS[:1])[0]
    values = np.clip([node.value for node in particles_of(result)], 1e-7, 1 - 1e-7)
    odds = values / (1 - values)
    assert "log_normaliser" not in result.source["notes"], "products of such weights estimate nothing"
    (swept,) = results(ParticleGibbs(policy=SOLVER, environment=WORLD, model=Exact(), n=3, weighting="current"), PROBLEMS[:1])
    assert "log_normaliser" not in swept.source["notes"]
    assert [weight for _, weight in result.source["notes"]["particles"]] == pytest.approx(list(odds / odds.sum()))


@pytest.mark.parametrize("answer_by", ["argmax", "sample", "vote"])
def test_every_way_to_answer_keeps_the_promises(answer_by: str) -> None:
    check_search(filter_with(answer_by=answer_by), PROBLEMS[:3])


def test_the_answer_is_one_of_the_survivors() -> None:
    for answer_by in ("argmax", "sample", "vote"):
        for result in results(filter_with(answer_by=answer_by, model=Exact(constant=0.5)), PROBLEMS[:40]):
            assert result.chosen is None or result.chosen in [node.trajectory for node in particles_of(result)]


def test_particles_that_cannot_be_scored_die_with_the_reason() -> None:
    found = results(filter_with(model=Exact(fail_every=5), n=6), PROBLEMS[:40])
    unscored = [node for result in found for node in result.tree if node.reason]
    assert unscored
    assert all((node.dropped or "").startswith("unscored: scoring failed: no answer") for node in unscored)
    assert all(not node.children for node in unscored)
    assert not any(result.chosen is not None and result.chosen.key in {node.trajectory.key for node in result.tree if node.reason} for result in found)
    nothing = results(filter_with(model=Exact(fail_every=1)), PROBLEMS[:1])[0]
    assert nothing.chosen is None
    assert "no answer" in (nothing.reason or "")


def test_a_budget_ends_a_filter_with_what_it_has() -> None:
    """Enough of it changes nothing; too little is told, and leaves particles out, or cut off, or open."""
    unlimited = {result.tree.problem.prompt: result for result in results(filter_with(), PROBLEMS[:20])}
    n_cut = 0
    for tokens in (1, 30, 60, 120, 200):
        for result in results(filter_with(budget=Budget(policy_tokens=tokens)), PROBLEMS[:20]):
            assert result.usage.policy_tokens <= tokens
            free = unlimited[result.tree.problem.prompt]
            if free.usage.policy_tokens <= tokens:
                assert result.tree.to_record() == free.tree.to_record()
                continue
            n_left = len(particles_of(result)) if "notes" in result.source else 0
            assert "stopped" in result.source, "less than was asked for says so"
            assert n_left < 4 or any(node.trajectory.truncated or not node.ended for node in particles_of(result))
            n_cut += 1
    assert n_cut > 20


def test_mistaken_settings_are_refused() -> None:
    for settings, said in (
        ({"weighting": "best"}, "incremental, current"),
        ({"model": Exact(scale="logit")}, "calibrate it"),
        ({"resampling": "random"}, "unknown resampling"),
        ({"ess_threshold": 1.5}, r"\[0, 1\]"),
        ({"n": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            filter_with(**settings)


# Particle Gibbs


def gibbs_with(**settings: object) -> ParticleGibbs:
    return ParticleGibbs(**({"policy": SOLVER, "environment": WORLD, "model": Exact(), "n": 3, "potential": "log"} | settings))  # type: ignore[arg-type]


def test_one_sweep_of_particle_gibbs_is_a_particle_filter() -> None:
    for one, other in zip(results(gibbs_with(sweeps=1), PROBLEMS[:20]), results(filter_with(n=3), PROBLEMS[:20]), strict=True):
        assert one.tree.to_record() == other.tree.to_record()


def test_a_reference_is_still_among_the_particles_after_the_next_sweep() -> None:
    for result in results(gibbs_with(sweeps=2, model=Exact(constant=0.5)), PROBLEMS[:40]):
        after = {id(node) for node in particles_of(result)}
        first = len(result.tree.root.children) - 2  # 3 free particles in the first sweep, 2 in the second
        assert first == 3
        old = {id(end) for child in result.tree.root.children[:3] for end in _ends_below(child)}
        assert after & old


def _ends_below(node: object) -> list[object]:
    return [node] if node.ended else [end for child in node.children for end in _ends_below(child)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("ancestors", ["kept", "sampled"])
def test_more_sweeps_come_to_the_law_that_two_particles_alone_miss(ancestors: str) -> None:
    """Target P(x) v(x) over the 8 solutions of three coins: after 5 sweeps of 2 particles the shares fit it, after 1 they do not."""
    coins = Coins()
    target = coins.target()

    def misfit(sweeps: int, n: int) -> float:
        problems = [Problem(f"toss {index}") for index in range(n)]
        search = ParticleGibbs(
            policy=coins,
            environment=coins,
            model=coins,
            n=2,
            sweeps=sweeps,
            potential="log",
            answer_by="sample",
            ancestors=ancestors,  # type: ignore[arg-type]
        )
        counts = Counter(result.chosen.text for result in results(search, problems) if result.chosen is not None)
        return sum((counts[text] - len(problems) * share) ** 2 / (len(problems) * share) for text, share in target.items())

    assert misfit(5, 150) < 18.5  # 99 % point of chi-square with 7 degrees of freedom
    assert misfit(1, 400) > 18.5


def test_a_sampled_ancestor_puts_the_rest_of_the_reference_behind_another_prefix() -> None:
    coins = Coins()
    search = ParticleGibbs(policy=coins, environment=coins, model=coins, n=4, sweeps=4, potential="log", ancestors="sampled")
    copied = [
        node
        for result in results(search, [Problem(f"toss {index}") for index in range(5)])
        for node in result.tree
        if node.parent and node.trajectory.steps[-1].n_tokens is None
    ]
    assert copied
    check_search(search, [Problem("toss 1"), Problem("toss 2")])


def test_agents_are_filtered_too() -> None:
    world = PlantedTree(interactive=True)
    problems = [world.random(seed, depth=3, branching=3) for seed in range(2)]
    policy = PlantedPolicy(skew=1.0, interactive=True)
    for search in (
        filter_with(policy=policy, environment=world, model=Exact(constant=0.5)),
        gibbs_with(policy=policy, environment=world, model=Exact(constant=0.5)),
    ):
        check_search(search, problems)
        assert all(node.trajectory.steps[-1].observation for node in results(search, problems)[0].tree if node.parent is not None)
    with pytest.raises(InputError, match="environment that answers"):
        gibbs_with(policy=policy, environment=world, ancestors="sampled")


def test_gibbs_keeps_its_promises_and_refuses_what_it_cannot_do() -> None:
    check_search(gibbs_with(), PROBLEMS[:3])
    for settings, said in (
        ({"references": 3}, "fewer than its n"),
        ({"resampling": "systematic"}, "multinomial"),
        ({"ancestors": "sampled"}, "log-probabilities"),
    ):
        with pytest.raises(InputError, match=said):
            gibbs_with(**settings)


@dataclass(frozen=True)
class Strict(Coins):
    """Solutions that begin with "b" are worth nothing."""

    def worth(self, text: str) -> float:
        return 0.0 if text.startswith("b") else super().worth(text)


@dataclass(frozen=True)
class Priced:
    """The same values, for a token a step."""

    fingerprint: str = "priced"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        charge(self.price(trajectory))
        return await Strict().score(trajectory)

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=len(trajectory), calls=1)


def test_ancestors_are_sampled_beside_particles_of_weight_nothing() -> None:
    """Values of exactly 0 are weights of 0: never an ancestor, and the chain still comes to its law."""
    coins = Strict()
    target = {text: share for text, share in coins.target().items() if share}
    problems = [Problem(f"toss {index}") for index in range(100)]
    search = ParticleGibbs(policy=coins, environment=coins, model=coins, n=3, sweeps=4, potential="log", answer_by="sample", ancestors="sampled")
    counts = Counter(result.chosen.text for result in results(search, problems) if result.chosen is not None)
    n = sum(counts[text] for text in target)
    assert n > 90
    assert sum((counts[text] - n * share) ** 2 / (n * share) for text, share in target.items()) < 11.35  # 99 %, 3 degrees of freedom


def test_the_estimate_of_particle_gibbs_is_its_first_sweeps_also_where_it_is_nothing() -> None:
    coins = Strict()
    problems = [Problem(f"toss {index}") for index in range(40)]
    parts = {"policy": coins, "environment": coins, "model": coins, "n": 2, "potential": "log"}
    filtered = [result.source["notes"] for result in results(ParticleFilter(**parts), problems)]  # type: ignore[arg-type]
    first = [notes["log_normaliser"] for notes in filtered]
    assert None in first
    assert all((0.0 in notes["effective_sample_sizes"]) == (notes["log_normaliser"] is None) for notes in filtered)
    for budget in (Budget(), Budget(calls=17)):
        found = results(ParticleGibbs(**parts, sweeps=3, budget=budget), problems)  # type: ignore[arg-type]
        assert [result.source["notes"]["log_normaliser"] for result in found] == first


def test_sampled_ancestors_keep_a_budget_of_reward_tokens() -> None:
    coins = Strict()
    search = ParticleGibbs(policy=coins, environment=coins, model=Priced(), n=3, ancestors="sampled", potential="log", budget=Budget(reward_tokens=30))
    found = results(search, [Problem(f"toss {index}") for index in range(10)])
    assert all(20 < result.usage.reward_tokens <= 30 for result in found)
    assert any(result.chosen is not None for result in found)
