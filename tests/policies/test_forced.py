"""Budget forcing: how long solutions get, and what stands at the joints."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.policies import tiny_models

from stepward.core import InputError, Problem, RequestFailed, Sampling, Step, Trajectory, Until, metered
from stepward.engine.loop import run_sync
from stepward.environments.maths import Maths
from stepward.policies.forced import BudgetForced
from stepward.policies.local import LocalPolicy
from stepward.search.sampled import Majority
from stepward.testing import check_search

START = Trajectory(Problem("Tom has 3 apples."))
WORDS = tiny_models.word_level()


@pytest.fixture(scope="module")
def writer() -> LocalPolicy:
    model = tiny_models.model("llama", len(WORDS), eos=WORDS.eos_token_id, scale=1.0)
    return LocalPolicy(model, WORDS, separator="\n")


def draws(policy: BudgetForced, n: int = 24, **limits: int) -> list[Trajectory]:
    return run_sync(policy.sample(START, n, until=Until.END, sampling=Sampling(max_step_tokens=400, **limits)))


def n_tokens(trajectory: Trajectory) -> int:
    return sum(step.n_tokens or 0 for step in trajectory.steps)


def test_the_number_of_tokens_lies_in_the_range(writer: LocalPolicy) -> None:
    plain = run_sync(writer.sample(START, 24, until=Until.END, sampling=Sampling(max_step_tokens=400, max_tokens=100)))
    assert min(map(n_tokens, plain)) < 20
    assert max(map(n_tokens, plain)) > 60
    forced = BudgetForced(writer, min_tokens=20, max_tokens=60, continues=50, cue=" So", answer_cue="The answer is", answer_tokens=4, separator="\n")
    found = draws(forced, max_tokens=100)
    for one, free in zip(found, plain, strict=True):
        assert 20 <= n_tokens(one) <= 64
        assert one.finished or n_tokens(one) == 64
        if 20 <= n_tokens(free) <= 60 and free.finished:
            assert one.key == free.key, "nothing is forced where the policy keeps to the range by itself"
        if n_tokens(free) > 60:
            assert "The answer is" in one.text
        assert "\n So" in one.text or n_tokens(free) >= 20
    again = run_sync(forced.sample(START, 2, until=Until.END, sampling=Sampling(max_step_tokens=400, max_tokens=100), draw=3))
    assert [one.key for one in again] == [one.key for one in found[3:5]]
    check_search(Majority(policy=forced, environment=Maths(), n=3, sampling=Sampling(max_step_tokens=400, max_tokens=100)), [START.problem])


def test_without_an_answer_cue_it_is_cut_off_and_continues_run_out(writer: LocalPolicy) -> None:
    for one in draws(BudgetForced(writer, min_tokens=50, max_tokens=60, continues=1, cue=" So", answer_cue="", separator="\n"), max_tokens=100):
        assert one.text.count("\n So") <= 1
        assert one.finished or one.truncated
        assert n_tokens(one) <= 60


def test_its_price_is_the_most_that_it_charges(writer: LocalPolicy) -> None:
    forced = BudgetForced(writer, min_tokens=20, max_tokens=40, continues=5, cue=" So", answer_tokens=4, separator="\n")
    sampling = Sampling(max_step_tokens=400, max_tokens=100)

    async def run() -> None:
        with metered() as ledger:
            await forced.sample(START, 6, until=Until.END, sampling=sampling)
        assert ledger.usage.policy_tokens <= forced.price(START, 6, until=Until.END, sampling=sampling).policy_tokens == 6 * 44

    run_sync(run())


def test_steps_and_impossible_ranges_are_refused(writer: LocalPolicy) -> None:
    with pytest.raises(InputError, match="whole solutions"):
        run_sync(BudgetForced(writer).sample(START, 1))
    for wrong in ({"min_tokens": 9, "max_tokens": 8}, {"continues": -1}, {"cue": ""}):
        with pytest.raises(InputError):
            BudgetForced(writer, **wrong)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Countless:
    """Writes and does not tell how many tokens."""

    fingerprint: str = "countless"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        return [prefix.extend(Step("It is a very long thought of many tokens."), finished=True)] * n


def test_a_policy_that_counts_nothing_is_refused_rather_than_taken_to_write_nothing() -> None:
    with pytest.raises(RequestFailed, match=r"n_tokens.*log-probabilities"):
        draws(BudgetForced(Countless(), min_tokens=5), n=1)
    assert len(draws(BudgetForced(Countless()), n=2)) == 2, "nothing has to be counted where nothing is forced"
