"""Step refinement pairs: who wins by how much, symmetry, and the chance of a false pair; and the record of a pair."""

from __future__ import annotations

import asyncio
import math

import pytest
from tests.labeling.chains import PROBLEM, WORLD, Failing, Ladder, by_length, chain, many

from stepward.core import InputError, Outcome, Problem, Step, Trajectory, from_record
from stepward.labeling.binomial import exactly
from stepward.labeling.pairs import StepPair
from stepward.labeling.refinement import Refinement, StepRefinement

LENGTH = 4


def expert(end: str = "right", *, problem: Problem = PROBLEM) -> Trajectory:
    return Trajectory.from_texts(problem, [*(f"expert {k}" for k in range(LENGTH - 1)), end], separator="\n")


def refine(policy: Ladder | Failing, trajectory: Trajectory, **settings: object) -> Refinement:
    return asyncio.run(StepRefinement(policy=policy, environment=WORLD, **settings).refine(trajectory))  # type: ignore[arg-type]


def test_an_experts_step_is_chosen_where_the_agents_own_loses() -> None:
    """The agent's rollouts after an expert's step all come right but its own way ends wrong: every open state makes a pair."""
    policy = Ladder(lambda prefix: 1.0 if prefix.steps and prefix.steps[-1].text.startswith("expert") else 0.0, LENGTH)
    found = refine(policy, expert(), n=5)
    assert [len(pair.prefix) for pair in found.pairs] == [0], "from later states the agent's own way comes right too, so final rewards do not differ"
    pair = found.pairs[0]
    assert pair.chosen[0].text == "expert 0"
    assert pair.rejected[0].text.startswith("more")
    assert pair.margin == 1.0
    assert pair.source["winner"] == "expert"
    assert len(pair.chosen) == len(pair.rejected) == 1


def test_the_agent_is_chosen_where_it_does_better_and_swapping_sides_mirrors_the_pairs() -> None:
    better = refine(Ladder(lambda prefix: 0.0 if any("expert" in step.text for step in prefix.steps) else 1.0, LENGTH), expert("wrong"))
    worse = refine(Ladder(lambda prefix: 1.0 if any("expert" in step.text for step in prefix.steps) else 0.0, LENGTH), expert("right"))
    assert [pair.source["winner"] for pair in better.pairs] == ["agent"]
    assert [pair.source["winner"] for pair in worse.pairs] == ["expert"]
    assert [(pair.chosen, pair.rejected) for pair in better.pairs] == [(pair.rejected, pair.chosen) for pair in worse.pairs]
    assert better.pairs[0].margin == worse.pairs[0].margin


def test_no_pair_when_both_are_equal() -> None:
    for value, end in ((1.0, "right"), (0.0, "wrong")):
        assert not refine(Ladder(by_length([value] * LENGTH), LENGTH), expert(end), whole="add").pairs
    same = Trajectory(PROBLEM, (Step("more 0", "\n"), Step("more 0", "\n"), Step("more 0", "\n"), Step("right")), finished=True)
    pairs = refine(Ladder(by_length([0.0] * LENGTH), LENGTH), same).pairs
    assert [len(pair.prefix) for pair in pairs] == [LENGTH - 1], "equal actions are no pair; the last ones differ"


def test_false_pairs_at_equal_values_are_as_rare_as_the_binomial_difference_says() -> None:
    """At equal V = .5 and 5 rollouts a side: P(|difference| > .35) bounds the rate of pairs per comparison."""
    n, value = 5, 0.5
    bound = math.fsum(exactly(a, n, value) * exactly(b, n, value) for a in range(n + 1) for b in range(n + 1) if abs(a - b) / n > 0.35)
    made = compared = 0
    for problem in many(150):
        found = refine(Ladder(by_length([value] * LENGTH), LENGTH), expert("right", problem=problem), n=n)
        open_states = [pair for pair in found.pairs if len(pair.prefix) < LENGTH - 1]
        made, compared = made + len(open_states), compared + LENGTH - 1
    assert made / compared <= bound + 3 * math.sqrt(bound * (1 - bound) / compared)
    assert made > 0


def test_suffixes_and_whole_trajectories() -> None:
    policy = Ladder(lambda prefix: 1.0 if any("expert" in step.text for step in prefix.steps) else 0.0, LENGTH)
    found = refine(policy, expert(), unit="suffix", whole="add")
    assert [len(pair.chosen) for pair in found.pairs] == [LENGTH, LENGTH]
    assert found.pairs[0].chosen == expert().steps
    assert found.pairs[1].source["unit"] == "trajectory"


def test_what_is_not_known_makes_no_pair_and_is_told() -> None:
    unclear = refine(Ladder(by_length([0.5] * LENGTH), LENGTH, lost=1.0), expert())
    assert not unclear.pairs
    assert set(unclear.reasons) == set(range(LENGTH))
    gone = refine(Failing(Ladder(by_length([0.0] * LENGTH), LENGTH), frozenset({0, 1})), expert())
    assert "the server is gone" in gone.reasons[0]
    ungraded = expert().graded(Outcome.unscored("nobody knows"))
    assert "nobody knows" in refine(Ladder(by_length([0.0] * LENGTH), LENGTH), ungraded).reasons[0]
    with pytest.raises(InputError, match="has ended"):
        refine(Ladder(by_length([0.0] * LENGTH), LENGTH), expert().prefix(2))


def test_rollouts_after_the_experts_steps_are_shared_with_the_explorations() -> None:
    """n rollouts from every inner state of the expert's, one from the first, and n after each action of the agent's that does not end it."""
    found = refine(Ladder(by_length([0.5] * LENGTH), LENGTH), expert(), n=5)
    expert_side = LENGTH + 5 * sum(LENGTH - k for k in range(1, LENGTH))
    agent_side = 5 * sum(LENGTH - k for k in range(1, LENGTH))
    assert found.usage.policy_tokens == expert_side + agent_side
    assert found.n_compared == LENGTH


def test_a_pair_survives_being_written_and_refuses_nonsense() -> None:
    pair = StepPair(chain(3).prefix(1), (Step("a", "\n"),), (Step("b"), Step("c")), 0.4, {"method": "by hand", "n": [1, 2]})
    again = from_record(pair.to_record())
    assert again == pair
    assert pair.swapped().chosen == pair.rejected
    assert pair.swapped().swapped() == pair
    with pytest.raises(InputError, match="margin"):
        StepPair(chain(3).prefix(1), (Step("a"),), (Step("b"),), math.nan)
    with pytest.raises(InputError, match="ended"):
        StepPair(chain(3), (Step("a"),), (Step("b"),), 0.1)
    with pytest.raises(InputError, match="at least one"):
        StepPair(chain(3).prefix(1), (), (Step("b"),), 0.1)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="margins"):
        StepRefinement(policy=Ladder(by_length([1.0]), 1), environment=WORLD, step_margin=1.0)
    with pytest.raises(InputError, match="unit"):
        StepRefinement(policy=Ladder(by_length([1.0]), 1), environment=WORLD, unit="word")  # type: ignore[arg-type]
