"""Stop rules, the law of stopped counts, and intervals: exact where they claim to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta as scipy_beta
from scipy.stats import binom

from stepward.core import InputError
from stepward.labeling.adaptive import (
    BetaPosterior,
    Decision,
    EValue,
    FirstSuccess,
    Fixed,
    HalfWidth,
    InverseBinomial,
    Sprt,
    StopRule,
    clopper_pearson,
    confidence_sequence,
    jeffreys,
    stopped_by,
)
from stepward.labeling.adaptive.beta import beta_cdf, beta_quantile
from stepward.labeling.adaptive.stopping import most_rollouts

RULES: list[StopRule] = [
    Fixed(8),
    FirstSuccess(8),
    InverseBinomial(1, 8),
    InverseBinomial(2, 16),
    InverseBinomial(3, 16),
    Sprt(0.1, 0.4, limit=60),
    BetaPosterior(0.3, 0.1, limit=60),
    EValue(0.3, 0.05, limit=80),
    HalfWidth(0.2),
]
VALUES = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.45, 0.5, 0.7, 0.9, 0.99])


def run(rule: StopRule, tosses: np.ndarray) -> tuple[Decision, int, int]:
    """(decision, successes, rollouts) of a rule on one stream of outcomes."""
    successes = 0
    for n, toss in enumerate(tosses, 1):
        successes += int(toss)
        decision = rule.decide(successes, n)
        if decision is not Decision.GO_ON:
            return decision, successes, n
    raise AssertionError("the stream ended before the rule did")


def test_the_beta_distribution_is_scipys() -> None:
    for a, b in ((0.5, 30.5), (2.0, 5.0), (40.5, 0.5), (300.0, 200.0)):
        for x in (0.001, 0.05, 0.3, 0.6, 0.99):
            assert beta_cdf(x, a, b) == pytest.approx(scipy_beta.cdf(x, a, b), abs=1e-12)
            assert beta_quantile(x, a, b) == pytest.approx(scipy_beta.ppf(x, a, b), abs=1e-10)


def test_first_success_gives_the_labels_of_fixed_on_the_same_rollouts() -> None:
    """Pathwise, on 4,000 streams; and its mean cost is (1 - (1 - V)^N) / V, in the exact law and within 3 standard errors on the streams."""
    rng, n = np.random.default_rng(0), 8
    for v in (0.0, 0.05, 0.2, 0.5):
        streams = rng.random((1000, n)) < v
        early = [run(FirstSuccess(n), stream) for stream in streams]
        assert [decision for decision, _, _ in early] == [run(Fixed(n), stream)[0] for stream in streams]
        expected = (1 - (1 - v) ** n) / v if v else float(n)
        used = np.array([count for _, _, count in early], dtype=float)
        assert stopped_by(FirstSuccess(n)).mean_rollouts(v) == pytest.approx(expected, abs=1e-12)
        assert abs(used.mean() - expected) <= 3 * used.std() / math.sqrt(len(used)) + 1e-12


def test_more_rollouts_make_any_success_labels_worse_beyond_the_best_number() -> None:
    """With success rates q1 before and q0 after an error, err(N) is smallest next to N*, and rises from there on."""
    q1, q0, share = 0.5, 0.05, 0.5

    def err(n: int) -> float:
        law = stopped_by(FirstSuccess(n))
        return (1 - share) * law.chance(Decision.GOOD, q0) + share * law.chance(Decision.BAD, q1)

    best = most_rollouts(q1, q0, share)
    assert best == pytest.approx(4.06, abs=0.01)
    errors = [err(n) for n in range(1, 33)]
    assert int(np.argmin(errors)) + 1 in (math.floor(best), math.ceil(best))
    assert errors[31] > errors[15] > errors[7] > errors[3]
    assert err(8) == pytest.approx(0.5 * (1 - 0.95**8) + 0.5 * 0.5**8, abs=1e-12)
    assert most_rollouts(0.5, 0.0) == math.inf


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_law_of_a_stopped_count_is_a_law_and_its_estimate_is_unbiased(rule: StopRule) -> None:
    law = stopped_by(rule)
    estimates = np.array([law.estimate(s, n) for s, n, _ in law.ends])
    for v in VALUES:
        chances = law.law(v)
        assert chances.sum() == pytest.approx(1.0, abs=1e-9)
        assert chances @ estimates == pytest.approx(v, abs=1e-9), f"E[estimate] under V = {v}"


def test_the_share_of_successes_is_biased_where_the_rule_stops_at_successes() -> None:
    """first_success(8): E[S / n] is 0.226 at V = 0.1 and 0.609 at 0.4, as far from V as that; the unbiased estimate is then the first rollout."""
    law = stopped_by(FirstSuccess(8))
    naive = np.array([s / n for s, n, _ in law.ends])
    assert law.law(0.1) @ naive == pytest.approx(0.226, abs=0.001)
    assert law.law(0.4) @ naive == pytest.approx(0.609, abs=0.001)
    assert law.estimate(1, 1) == 1.0
    assert law.estimate(1, 5) == 0.0


def test_the_unbiased_estimate_of_inverse_sampling_is_the_known_one() -> None:
    law = stopped_by(InverseBinomial(3, 16))
    for n in range(3, 16):
        assert law.estimate(3, n) == pytest.approx(2 / (n - 1))
    assert stopped_by(Fixed(8)).estimate(3, 8) == pytest.approx(3 / 8)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_exact_intervals_of_stopped_counts_cover_for_every_value(rule: StopRule) -> None:
    """At least 95 % for each of 199 values, by the exact law: no sampling error in this test. On average not far above it."""
    law = stopped_by(rule)
    bounds = np.array([law.interval(s, n) for s, n, _ in law.ends])
    covered = [float(law.law(v)[(bounds[:, 0] <= v) & (v <= bounds[:, 1])].sum()) for v in np.linspace(0.005, 0.995, 199)]
    assert min(covered) >= 0.95 - 1e-9, f"least coverage {min(covered):.4f}"
    assert np.mean(covered) <= 0.99


def test_the_interval_of_a_fixed_number_is_inside_clopper_and_pearsons() -> None:
    law = stopped_by(Fixed(20))
    for s in range(21):
        low, high = clopper_pearson(s, 20)
        got = law.interval(s, 20)
        assert got[1] - got[0] <= high - low + 2e-3
        assert clopper_pearson(s, 20) == pytest.approx(
            (0.0 if s == 0 else scipy_beta.ppf(0.025, s, 21 - s), 1.0 if s == 20 else scipy_beta.ppf(0.975, s + 1, 20 - s)), abs=1e-9
        )


@pytest.mark.parametrize("half", [0.2, 0.15])
def test_half_width_keeps_its_promise_for_no_more_than_a_fixed_number_costs(half: float) -> None:
    """No interval is wider than 2 x the half width, and on average none is wider than Clopper-Pearson's at as many rollouts."""
    law = stopped_by(HalfWidth(half))
    bounds = np.array([law.interval(s, n) for s, n, _ in law.ends])
    widths = bounds[:, 1] - bounds[:, 0]
    assert widths.max() <= 2 * half + 1e-9
    ratios = []
    for v in np.linspace(0.05, 0.95, 19):
        n = math.floor(law.mean_rollouts(v))
        fixed = sum(binom.pmf(s, n, v) * (clopper_pearson(s, n)[1] - clopper_pearson(s, n)[0]) for s in range(n + 1))
        ratios.append(float(law.law(v) @ widths) / fixed)
    assert np.mean(ratios) < 1.0
    assert law.mean_rollouts(0.02) < 0.4 * law.mean_rollouts(0.5), "values near 0 need far fewer rollouts"


def test_a_rule_never_stops_before_the_fewest_rollouts_that_it_is_bound_to_need() -> None:
    law = stopped_by(HalfWidth(0.2))
    rng = np.random.default_rng(3)
    for v in (0.02, 0.5, 0.9):
        tosses = rng.random(100) < v
        _, _, used = run(law.rule, tosses)
        at, asked = 0, 0
        while at < used:
            fewest = law.fewest(int(tosses[:at].sum()), at)
            assert 1 <= fewest <= used - at
            at, asked = at + fewest, asked + 1
        assert at == used
        assert asked < used


def test_peeking_with_a_fixed_test_breaks_its_level_and_the_e_value_keeps_it() -> None:
    """V = threshold = 0.3, looked at after each of 200 rollouts, 2,000 times: the one-sided 5 % binomial test says 'above' far more than 5 % of the time."""
    rng, runs, n, v = np.random.default_rng(1), 2000, 200, 0.3
    counts = np.cumsum(rng.random((runs, n)) < v, axis=1)
    limits = np.array([binom.ppf(0.95, k, v) for k in range(1, n + 1)])  # P(S > limit) <= 5 %
    naive = (counts > limits).any(axis=1).mean()
    wrong = np.mean([run(EValue(v, 0.05, n), np.diff(row, prepend=0))[0] in (Decision.GOOD, Decision.BAD) for row in counts])
    assert naive > 0.15, f"naive peeking {naive:.3f}"
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs), f"e-value {wrong:.3f}"


def test_verdicts_of_the_e_value_are_wrong_with_at_most_its_chance_for_every_value() -> None:
    law = stopped_by(EValue(0.4, 0.1, limit=300))
    for v in np.linspace(0.02, 0.4, 20):
        assert law.chance(Decision.GOOD, v) <= 0.1
    for v in np.linspace(0.4, 0.98, 20):
        assert law.chance(Decision.BAD, v) <= 0.1
    assert law.chance(Decision.GOOD, 0.7) > 0.95
    assert law.mean_rollouts(0.7) < 40


def test_a_confidence_sequence_covers_at_all_times_at_once_and_a_fixed_interval_does_not() -> None:
    rng, runs, n = np.random.default_rng(2), 400, 80
    for v in (0.1, 0.5):
        edges = np.array([[confidence_sequence(s, k) for s in range(k + 1)] + [(0.0, 1.0)] * (n - k) for k in range(1, n + 1)])
        counts = np.cumsum(rng.random((runs, n)) < v, axis=1)
        at = edges[np.arange(n), counts]
        always = ((at[..., 0] <= v) & (v <= at[..., 1])).all(axis=1).mean()
        assert always >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)
    fixed = np.array([[clopper_pearson(s, k) for s in range(k + 1)] + [(0.0, 1.0)] * (60 - k) for k in range(1, 61)])[np.arange(60), counts[:, :60]]
    assert ((fixed[..., 0] <= v) & (v <= fixed[..., 1])).all(axis=1).mean() < 0.9


def test_the_sequential_probability_ratio_test_keeps_its_errors_and_needs_fewer_rollouts_than_a_fixed_test() -> None:
    """Exact law, V at both ends of the indifference zone; the fixed test is the smallest binomial one with the same errors."""
    for low, high, fixed in ((0.1, 0.4, 24), (0.05, 0.3, 24), (0.1, 0.3, 41)):
        law = stopped_by(Sprt(low, high, limit=400))
        assert law.chance(Decision.GOOD, low) <= 0.05 / 0.95
        assert law.chance(Decision.BAD, high) <= 0.05 / 0.95
        assert max(law.mean_rollouts(low), law.mean_rollouts(high)) < 0.65 * fixed
        assert not any(binom.sf(c, fixed - 1, low) <= 0.05 and binom.cdf(c, fixed - 1, high) <= 0.05 for c in range(fixed))


def test_the_beta_rule_errs_as_often_as_it_says_on_average_over_its_prior() -> None:
    """V drawn from the prior: at most the stated share of verdicts is wrong, by the exact law; at a V next to the threshold it is not."""
    rule = BetaPosterior(0.3, 0.1, a=1.0, b=2.0, limit=150)
    law, grid = stopped_by(rule), (np.arange(400) + 0.5) / 400
    weight = scipy_beta.pdf(grid, 1, 2)
    wrong = np.array([law.chance(Decision.GOOD if v <= 0.3 else Decision.BAD, v) for v in grid])
    said = np.array([law.chance(Decision.GOOD, v) + law.chance(Decision.BAD, v) for v in grid])
    assert (weight @ wrong) / (weight @ said) <= 0.1
    assert law.chance(Decision.GOOD, 0.299) > 0.1, "no guarantee for a single value"


def test_jeffreys_covers_on_average_over_its_prior() -> None:
    grid = (np.arange(200) + 0.5) / 200
    bounds = np.array([jeffreys(s, 15) for s in range(16)])
    covered = [float(binom.pmf(np.arange(16), 15, v)[(bounds[:, 0] <= v) & (v <= bounds[:, 1])].sum()) for v in grid]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"Fixed\.limit"):
        Fixed(0)
    with pytest.raises(InputError, match="low = 0"):
        Sprt(0.0, 0.3)
    with pytest.raises(InputError, match="never stops at"):
        stopped_by(Fixed(8)).estimate(1, 3)
    with pytest.raises(InputError, match="level"):
        jeffreys(1, 2, 1.0)
    with pytest.raises(InputError, match="tabulated"):
        stopped_by(Fixed(5000))
    with pytest.raises(InputError, match="half_width"):
        HalfWidth(0.01)
