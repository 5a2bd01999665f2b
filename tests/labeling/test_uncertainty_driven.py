"""Uncertainty-driven labels: uncertainties, sizing, ranked searches, and what noise does to the rule."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.labeling.chains import WORLD, Ladder, Telling, by_length, chain, label, label_all, many

from stepward.core import Count, InputError
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.labeling.chain import Chain
from stepward.labeling.uncertainty import choose_solutions, order_by_jump, order_by_uncertainty, position_entropy, solution_uncertainty
from stepward.labeling.uncertainty_driven import UncertaintyDriven, mean_logprob

LENGTH = 6
STEPS = ((-1.0,) * 2, (-1.0,) * 9, (-1.0,) * 3, (-1.0,) * 4, (-1.0,) * 30, (-1.0,))  # entropies ln 2, ln 9, ln 3, ln 4, ln 30
SHARP = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]  # the third step is the error: the prefix of 3 steps cannot be finished


def labeler(values: list[float], **settings: object) -> UncertaintyDriven:
    policy = Telling(by_length(values), len(values), logprob=-1.0, steps=STEPS)
    return UncertaintyDriven(policy=policy, environment=WORLD, **{"value": "share", **settings})  # type: ignore[arg-type]


def test_uncertainty_of_a_step_is_an_entropy_over_its_positions() -> None:
    assert position_entropy([-2.0] * 7) == pytest.approx(math.log(7)), "equally likely tokens: the logarithm of their number"
    scaled = np.exp(np.array([-0.1, -3.0, -9.0]) / 5)
    p = scaled / scaled.sum()
    assert position_entropy([-0.1, -3.0, -9.0]) == pytest.approx(-(p * np.log(p)).sum())
    assert position_entropy([]) == 0.0
    assert position_entropy([-5000.0, -1.0]) == pytest.approx(0.0, abs=1e-9)
    assert solution_uncertainty([1.0, 3.0, 2.0]) == pytest.approx(1.5)
    assert solution_uncertainty([1.0]) == 0.0


def test_orders_by_hand() -> None:
    entropies = [position_entropy(step) for step in STEPS[:5]]
    assert order_by_uncertainty(entropies) == [4, 1, 3, 2, 0]
    assert order_by_jump(entropies) == [4, 1, 3, 2], "jumps: ln(30/4), ln(9/2), ln(4/3), ln(3/9); the first step has none"


def test_solutions_are_chosen_for_uncertainty_first_and_difference_second() -> None:
    alike = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert choose_solutions([5.0, 4.9, 4.8], alike, 2) == [0, 1], "scaled to [0, 1], .8 u + .2 d: .8 * .5 + 0 against 0 + .2"
    assert choose_solutions([5.0, 4.9, 4.8], alike, 2, weight=0.2) == [0, 2]
    assert choose_solutions([1.0, 1.0], np.eye(2), 9) == [0, 1]
    with pytest.raises(InputError, match="shape"):
        choose_solutions([1.0], np.eye(2), 1)


def test_the_published_search_answers_with_its_first_hit_and_the_fixed_one_with_the_first_failing_step() -> None:
    """Order of jumps: steps 4, 1, 3, 2 (0-based). Steps 2, 3 and 4 fail; the first probe hits step 4."""
    hit = label(labeler(SHARP, search="first_hit"), chain(LENGTH))
    assert hit.first_error == 4
    assert [step for step, count in enumerate(hit.counts) if count is not None] == [4]
    fixed = label(labeler(SHARP, search="first_error"), chain(LENGTH))
    assert fixed.first_error == 2
    assert fixed.hard == (True, True, False, False, False, False)
    bracket = label(labeler(SHARP, search="bracket"), chain(LENGTH))
    assert bracket.first_error == 2
    assert sum(count is not None for count in bracket.counts) <= sum(count is not None for count in fixed.counts)


def test_no_failing_step_means_that_the_last_one_is_the_error_and_the_published_order_never_asks_the_first() -> None:
    only_first = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    published = label(labeler(only_first, search="first_hit"), chain(LENGTH))
    assert published.first_error == LENGTH - 1, "the first step is never probed"
    assert label(labeler(only_first, search="first_error"), chain(LENGTH)).first_error == 0
    assert label(labeler([1.0] * 6), chain(LENGTH, "right")).usage.policy_tokens == 0


def test_rollouts_a_step_are_sized_by_the_problem() -> None:
    """As many as it takes to see 10 right ones, in eights, at least 16: certain success takes 16, one in three about 32; fewer than 10 of 72 are skipped."""
    assert label(labeler([1.0] * 6, search="bisect"), chain(LENGTH)).counts[2] == Count(16, 16)
    sizes = []
    for labels in label_all(labeler([1 / 3] * 6, search="bisect"), [chain(LENGTH, problem=problem) for problem in many(30)]):
        sizes += [count.rollouts for count in labels.counts if count is not None]
    assert set(sizes) <= {16, 24, 32, 40, 48, 56, 64, 72}
    assert 24 < np.mean(sizes) < 40
    rare = label(labeler([0.01] * 6, search="bisect"), chain(LENGTH))
    assert all((reason or "").startswith("abstained") for reason in rare.reasons)
    known = label(labeler([1.0] * 6, search="bisect"), chain(LENGTH), root=Count(20, 60))
    assert known.counts[2] == Count(32, 32), "10 right ones of one in three take 30, in eights 32"


def test_below_the_root_at_the_level_of_noise_flags_about_half_of_the_harmless_steps() -> None:
    """With V_t = V_0 before the error the first probe fires for about half of the solutions; a little less, because ties pass."""
    cases = [chain(LENGTH, problem=problem) for problem in many(100)]
    first = [labels.evidence[4][-1] for labels in label_all(labeler([0.5] * 6, search="first_hit", n_root=48), cases)]
    share = np.mean([item["value"] < item["root"] for item in first])
    assert 0.35 < share < 0.55, share


def test_values_are_weighted_by_log_probability_when_asked() -> None:
    found = label(labeler([1.0] * 6, value="logprob", search="bisect"), chain(LENGTH))
    assert found.first_error == LENGTH - 1
    silent = UncertaintyDriven(policy=Ladder(by_length([1.0] * 6), LENGTH), environment=WORLD, search="bisect", value="logprob")
    assert "log-probabilities" in (label(silent, chain(LENGTH)).reasons[0] or "")
    bank = asyncio.run(labeler([1.0] * 6).completer.rollouts(chain(LENGTH).prefix(2), 1))
    assert mean_logprob(bank[0]) == pytest.approx(-1.0)
    with pytest.raises(InputError, match="share"):
        label(labeler([1.0] * 6, value="logprob"), chain(LENGTH), root=Count(5, 10))


def test_bisection_starts_where_the_problems_difficulty_says() -> None:
    first = [next(iter(asyncio.run(first_probe(value)))) for value in (0.2, 0.5, 0.95)]
    assert first == [2, 4, 6]


async def first_probe(bar: float) -> list[int]:
    asked: list[int] = []

    async def probe(step: int) -> bool | None:
        asked.append(step)
        return True

    await labeler([1.0] * 6, search="shifted").find(probe, Chain(chain(8), None), bar)
    return asked


def test_a_policy_that_tells_no_log_probabilities_cannot_rank() -> None:
    with pytest.raises(InputError, match="reader"):
        UncertaintyDriven(policy=Ladder(by_length([1.0]), 1), environment=WORLD)
    with pytest.raises(InputError, match="search"):
        labeler([1.0], search="guess")


def test_a_journaled_policy_ranks_by_the_policy_inside(tmp_path: Path) -> None:
    plain = labeler(SHARP)
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert label(replace(plain, policy=JournaledPolicy(plain.policy, journal)), chain(LENGTH)) == label(plain, chain(LENGTH))
