"""The change-point posterior against brute force, its monotonicities, its calibration, the choice of rollouts, and the fit of its prior."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.labeling.adaptive_worlds import draw_chain, search, toss, two_levels

from stepward.core import Floats, InputError
from stepward.labeling.adaptive import DEFAULT_PRIOR, Chain, Prior, infer
from stepward.labeling.adaptive.changepoint import agreement, rollout_likelihood
from stepward.labeling.adaptive.choice import Costs, information
from stepward.labeling.adaptive.fit import Expected, count, evidence, fit, pin
from stepward.labeling.adaptive.prior import BAND, LEVELS, RATES

G = len(LEVELS)


def some_chain(outcome: bool | None, seed: int = 0, n_steps: int = 3) -> Chain:
    """Counts of every kind: rollouts, agreement, a witness."""
    rng, chain = np.random.default_rng(seed), Chain(n_steps, outcome)
    for t in range(chain.n_open + 1):
        toss(chain, t, rng.random(n_steps + 1), rng.random(n_steps), int(rng.integers(0, 5)), rng)
    chain.hear(1, math.log(0.3), math.log(0.6), math.log(0.5))
    return chain


def brute_force(chain: Chain, prior: Prior) -> tuple[Floats, Floats, Floats]:
    """(P(first error), E[V | first error] by prefix, levels) by summing over every path of phases and every path of levels, one table a path."""
    n, last = chain.n_steps, chain.n_open
    seen, (same, _) = rollout_likelihood(chain), agreement(chain, prior)
    other = np.exp(chain.others)
    h, r = prior.hazard, prior.repair
    on = {phase: 1.0 - prior.ends(a) - prior.ends(b) for phase, a, b in (("C", "end_right", "end_error"), ("A", "astray_right", "astray_wrong"))}
    on["R"] = on["C"]
    chance, means, levels = np.zeros(n + 1), np.zeros((n + 1, last + 1)), np.zeros((last + 1, G))
    for phases in itertools.product("CAR", repeat=last):
        path, first = ("C", *phases), next((i for i, phase in enumerate(phases) if phase != "C"), None)
        table, fine = np.array(prior.start) * seen[0], True
        for i in range(last):
            step = path[i] + path[i + 1]
            laws = {
                "CC": ((1 - h) * same[0, i] * other[i, 0], "rise"),
                "CA": (h * same[1, i] * other[i, 1], "fall"),
                "AA": ((1 - r) * same[2, i] * other[i, 2], "stay"),
                "AR": (r * same[3, i] * other[i, 2], "recover"),
                "RR": ((1 - h) * same[0, i] * other[i, 2], "rise"),
                "RA": (h * same[1, i] * other[i, 2], "fall"),
            }
            if step not in laws:
                fine = False
                break
            factor, kernel = laws[step]
            law = factor * on[path[i]][:, None] * prior.kernel(kernel) * seen[i + 1][None, :]
            table = table[..., None] * law  # one more axis a step
        if not fine:
            continue
        ends: list[tuple[int, Floats]] = [(n if first is None else first, np.ones(G))]
        if chain.outcome is not None:
            right = prior.ends("end_right") * (1 - prior.noise if chain.outcome else prior.noise)
            error = prior.ends("end_error") * (prior.lucky if chain.outcome else 1 - prior.lucky)
            astray = prior.ends("astray_right" if chain.outcome else "astray_wrong")
            final, said = same[:, n - 1], other[n - 1]
            if path[-1] == "C":
                ends = [(n, right * final[0] * said[0]), (n - 1, error * final[1] * said[1])]
            elif path[-1] == "A":
                ends = [(first or 0, astray * final[2] * said[2])]
            else:
                ends = [(first or 0, (right * final[0] + error * final[1]) * said[2])]
        for place, factor_by_level in ends:
            whole = table * factor_by_level
            chance[place] += whole.sum()
            for t in range(last + 1):
                by_level = whole.sum(axis=tuple(axis for axis in range(whole.ndim) if axis != t))
                means[place, t] += by_level @ LEVELS
                levels[t] += by_level
    return chance / chance.sum(), means / np.maximum(chance[:, None], 1e-300), levels / chance.sum()


@pytest.mark.parametrize("outcome", [True, False, None])
@pytest.mark.parametrize("prior", [DEFAULT_PRIOR, two_levels(20), two_levels(24, after=8)], ids=["default", "no repair", "two levels"])
def test_the_posterior_is_that_of_brute_force(outcome: bool | None, prior: Prior) -> None:
    """Every path of phases and levels, for chains of 1 to 3 steps with all kinds of evidence; the chances sum to 1."""
    for n_steps, seed in ((3 if outcome is not None else 2, 0), (2, 1)):
        chain = some_chain(outcome, seed, n_steps)
        got = infer(chain, prior)
        chance, means, levels = brute_force(chain, prior)
        np.testing.assert_allclose(got.first_error, chance, atol=1e-9)
        assert got.first_error.sum() == pytest.approx(1.0)
        possible = chance > 1e-12
        np.testing.assert_allclose(got.success[possible], means[possible], atol=1e-7)
        np.testing.assert_allclose(got.levels, levels, atol=1e-9)
        np.testing.assert_allclose(got.good, [chance[k + 1 :].sum() for k in range(n_steps)], atol=1e-9)


def test_the_fit_and_the_posterior_are_one_model() -> None:
    """The evidence by forward sums over three phases, which the fit climbs, equals the one by sums joined at the first error."""
    for outcome in (True, False, None):
        for prior in (DEFAULT_PRIOR, replace(DEFAULT_PRIOR, hazard=0.3, repair=0.3), two_levels(24, after=8)):
            chain, seen = some_chain(outcome, n_steps=5), Expected()
            count(chain, prior, seen)
            assert seen.log_evidence == pytest.approx(infer(chain, prior).log_evidence, abs=1e-8)


def test_without_repair_a_success_never_speaks_against_the_steps_before_it() -> None:
    """Post-error value 0: one more success at t never lowers P(no error up to j) for j <= t, and makes it 1 there."""
    prior, rng = two_levels(22), np.random.default_rng(4)
    for seed in range(30):
        chain = Chain(6, False)
        for t in range(chain.n_open + 1):
            chain.rollouts[t] = rng.integers(0, 4)
        before = infer(chain, prior).good
        t = int(rng.integers(1, 6))
        chain.rollouts[t] += 1
        chain.successes[t] += 1
        after = infer(chain, prior).good
        assert (after[:t] >= before[:t] - 1e-12).all(), f"seed {seed}"
        assert after[t - 1] == pytest.approx(1.0, abs=1e-6)


def test_a_success_that_passes_through_a_prefix_proves_that_it_is_not_hopeless() -> None:
    prior = two_levels(20)
    chain = Chain(5, False)
    chain.successes[0] = chain.rollouts[0] = 1
    chain.reached[:4] = True
    assert infer(chain, prior).good[2] == pytest.approx(1.0, abs=1e-6)


def test_a_wrong_outcome_leaves_no_room_for_no_error_and_a_right_one_does() -> None:
    assert infer(Chain(5, False), DEFAULT_PRIOR).first_error[-1] < 0.01
    assert infer(Chain(5, True), DEFAULT_PRIOR).first_error[-1] > 0.5
    assert infer(Chain(5, True), replace(DEFAULT_PRIOR, repair=0.4)).first_error[:-1].sum() > 0.05, "repaired errors end right too"


def test_pinned_first_errors_are_believed() -> None:
    for first in (-1, 0, 2, 4):
        chain = Chain(5, first < 0)
        pin(chain, first)
        assert int(infer(chain, DEFAULT_PRIOR).first_error.argmax()) == (first if first >= 0 else 5)


def test_the_posterior_is_calibrated_in_worlds_drawn_from_the_prior() -> None:
    """500 chains of the default prior, labelled adaptively: in each bin of the highest chance the share of hits is within 3 standard errors, and so is
    the coverage of V by 95 % credible intervals (standard error by chain)."""
    rng, prior = np.random.default_rng(5), DEFAULT_PRIOR
    claimed, hit, inside = [], [], []
    for _ in range(500):
        first, values, again, outcome = draw_chain(prior, rng)
        posterior = infer(search(prior, values, again, outcome, rng, error=0.2, cap=12), prior)
        claimed.append(posterior.first_error.max())
        hit.append(posterior.first_error.argmax() == first)
        bounds = [posterior.interval(t) for t in range(len(values))]
        inside.append(np.mean([low - 1e-9 <= v <= high + 1e-9 for (low, high), v in zip(bounds, values, strict=True)]))
    said, right = np.array(claimed), np.array(hit, dtype=float)
    for low, high in ((0.0, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 1.01)):
        among = (said >= low) & (said < high)
        assert among.sum() > 20
        error = math.sqrt((said[among] * (1 - said[among])).sum()) / among.sum()
        assert abs(right[among].mean() - said[among].mean()) < 3 * error, f"claimed {said[among].mean():.3f}, got {right[among].mean():.3f}"
    assert np.mean(inside) > 0.95 - 3 * np.std(inside) / math.sqrt(len(inside))


def capacity(q1: float, q0: float) -> float:
    """Capacity in nats of one rollout as a channel from 'before the error?' to its outcome, by a fine search over inputs."""

    def h(p: Floats | float) -> Floats:
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return np.asarray(-(p * np.log(p) + (1 - p) * np.log(1 - p)))

    p = np.linspace(0.001, 0.999, 2001)
    return float((h(p * q1 + (1 - p) * q0) - p * h(q1) - (1 - p) * h(q0)).max())


def test_no_search_beats_the_information_bound() -> None:
    """E[rollouts] >= (H(k) - h(d) - d ln S) / C at the error d that is reached, with two known levels; and the search is within 3 times of it."""
    assert capacity(0.5, 0.05) == pytest.approx(0.144, abs=0.001)
    n, rng = 8, np.random.default_rng(6)
    for before, after in ((18 + 1, None), (22, 8)):
        prior = two_levels(before, after=after)
        q1, q0 = LEVELS[before], 0.0 if after is None else LEVELS[after]
        prior_k = infer(Chain(n, False), prior).first_error[:n]
        used, wrong = [], []
        for _ in range(150):
            first = int(rng.choice(n, p=prior_k / prior_k.sum()))
            values = np.array([q1 if t <= first else q0 for t in range(n)])
            chain = search(prior, values, np.zeros(n), False, rng, error=0.1)
            used.append(chain.rollouts.sum())
            wrong.append(int(infer(chain, prior).first_error.argmax()) != first)
        d = float(np.mean(wrong))
        left = -(d * math.log(d) + (1 - d) * math.log(1 - d)) if 0 < d < 1 else 0.0
        bound = (-(prior_k * np.log(prior_k)).sum() - left - d * math.log(n)) / capacity(float(q1), float(q0))
        mean, error = np.mean(used), np.std(used) / math.sqrt(len(used))
        assert mean + 3 * error >= bound, f"{mean:.1f} rollouts beat the bound of {bound:.1f}"
        assert mean <= 3 * bound, f"{mean:.1f} rollouts for a bound of {bound:.1f}"


def test_information_is_the_mutual_information_with_the_next_rollout() -> None:
    """Brute force over what a rollout can show: how far it follows the chain, and whether it ends right."""
    posterior = infer(some_chain(False, 3, 4), DEFAULT_PRIOR)
    gains = information(posterior)
    p = posterior.first_error
    for t in range(len(gains)):
        total = 0.0
        for stop, success in itertools.product(range(t, 5), (True, False)):
            given = np.array(
                [
                    math.prod(posterior.repeat[k, t:stop])
                    * (1 - posterior.repeat[k, stop] if stop < 4 else 1.0)
                    * (posterior.success[k, t] if success else 1 - posterior.success[k, t])
                    for k in range(5)
                ]
            )
            mean = float(p @ given)
            total += sum(float(p[k] * given[k] * math.log(given[k] / mean)) for k in range(5) if p[k] * given[k] > 0)
        assert gains[t] == pytest.approx(total, abs=1e-9)


def test_free_text_says_nothing_by_its_wording() -> None:
    """Where no rollout ever repeats a step, however many there are, agreement does not move the first error among the steps."""
    silent, told = Chain(5, False), Chain(5, False)
    told.deviations[:] = 20
    a, b = infer(silent, DEFAULT_PRIOR).first_error[:5], infer(told, DEFAULT_PRIOR).first_error[:5]
    np.testing.assert_allclose(b / b.sum(), a / a.sum(), atol=0.03)


def test_a_rollout_costs_what_is_left_to_write() -> None:
    costs = Costs(np.array([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(costs.expected(3), [60.0, 50.0, 30.0])
    costs.see(1, 110)  # from after the first step: a solution of 120 tokens
    np.testing.assert_allclose(costs.expected(3), [80.0, 70.0, 50.0])


def test_each_round_of_the_fit_explains_the_pilot_better() -> None:
    """Expectation-maximisation never lowers evidence x prior density; here the evidence itself is watched with a weak base."""
    rng = np.random.default_rng(7)
    truth = replace(DEFAULT_PRIOR, hazard=0.25, repair=0.3)
    chains = [pilot(truth, rng) for _ in range(40)]
    evidence = []
    for rounds in (0, 1, 3, 6):
        prior = fit(chains, rounds=rounds, strength=0.5)
        evidence.append(sum(infer(chain, prior).log_evidence for chain in chains))
    assert evidence == sorted(evidence), evidence


def pilot(prior: Prior, rng: np.random.Generator, n: int = 8) -> Chain:
    _, values, again, outcome = draw_chain(prior, rng)
    chain = Chain(len(values), outcome)
    for t in range(chain.n_open + 1):
        toss(chain, t, values, again, n, rng)
    return chain


def test_the_fit_finds_how_often_the_world_errs() -> None:
    """Planted hazards, without any label, from 100 chains. The repair rate is hardly told without labels and stays near the base: no claim about it."""
    rng = np.random.default_rng(8)
    for hazard, repair in ((0.25, 0.02), (0.08, 0.35)):
        truth = replace(DEFAULT_PRIOR, hazard=hazard, repair=repair)
        found = fit([pilot(truth, rng) for _ in range(100)], rounds=6)
        assert found.hazard == pytest.approx(hazard, abs=0.06)
        assert found.fitted == 100


def test_a_pilot_tells_whether_errors_are_ever_repaired() -> None:
    """The evidence chooses between the prior in which nothing is repaired and the one in which a third of what is astray is, either way."""
    rng = np.random.default_rng(9)
    for truth in (DEFAULT_PRIOR.never_repaired(), replace(DEFAULT_PRIOR, repair=0.35)):
        chains = [pilot(truth, rng, 6) for _ in range(40)]
        priors = [fit(chains, base=base, rounds=4) for base in (DEFAULT_PRIOR, DEFAULT_PRIOR.never_repaired())]
        never = evidence(chains, priors[1]) > evidence(chains, priors[0])
        assert never == (truth.repair == 0.0)


def test_a_prior_must_be_a_law() -> None:
    with pytest.raises(InputError, match="hazard"):
        Prior(hazard=1.5)
    with pytest.raises(InputError, match="weights of sum 1"):
        Prior(agree_right=(0.5,) * len(RATES))
    with pytest.raises(InputError, match="chances"):
        Prior(end_right=(2.0,) * 6)
    assert len(BAND) == G
    assert Prior().key == DEFAULT_PRIOR.key != Prior(hazard=0.2).key


def test_a_prior_that_rules_out_what_was_seen_is_refused() -> None:
    prior = two_levels(20)
    chain = Chain(3, True)
    chain.successes[2] = chain.rollouts[2] = 1
    impossible = replace(prior, start=(1.0, *(0.0,) * (G - 1)))  # V = 0 from the beginning
    with pytest.raises(InputError, match="rules out"):
        infer(chain, impossible)
    with pytest.raises(InputError, match="at least one step"):
        infer(Chain(0), prior)
