from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.parts import CountingModel, FailingPolicy, NoisyPolicy, prefix

from stepward.core.errors import CountMismatch, RequestFailed
from stepward.core.problem import Problem
from stepward.core.protocols import Environment, Labeler, Policy, RewardModel
from stepward.core.sampling import Sampling, Until
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, metered
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledEnvironment, JournaledLabeler, JournaledPolicy, JournaledRewardModel
from stepward.engine.recall import split_usage


def test_eight_after_four_pays_for_four(tmp_path: Path) -> None:
    policy = NoisyPolicy()

    async def main(journal: Journal) -> None:
        journaled = JournaledPolicy(policy, journal)
        four = await journaled.sample(prefix(), 4)
        eight = await journaled.sample(prefix(), 8)
        assert eight[:4] == four
        assert await journaled.sample(prefix(), 2, draw=3) == eight[3:5]

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))
    assert policy.calls == [(0, 4), (4, 4)]


def test_only_the_missing_draws_are_asked_for_in_neighbouring_runs(tmp_path: Path) -> None:
    policy = NoisyPolicy()

    async def main(journal: Journal) -> None:
        journaled = JournaledPolicy(policy, journal)
        await journaled.sample(prefix(), 2, draw=3)
        everything = await journaled.sample(prefix(), 9)
        assert everything == await NoisyPolicy().sample(prefix(), 9)

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))
    assert policy.calls == [(3, 2), (0, 3), (5, 4)]


def test_replayed_samples_are_exactly_what_the_policy_wrote(tmp_path: Path) -> None:
    start = prefix().extend(Step("So far.", "\n", action={"tool": ["calc", 3]}, observation="7", agent="solver", n_tokens=4, logprob=-0.1))
    fresh = asyncio.run(NoisyPolicy().sample(start, 5))
    for _ in range(2):
        with Journal(tmp_path / "j.sqlite") as journal:
            assert asyncio.run(JournaledPolicy(NoisyPolicy(), journal).sample(start, 5)) == fresh
    with Journal(tmp_path / "j.sqlite") as journal:
        failing = FailingPolicy()  # has the same fingerprint, and is never asked
        assert asyncio.run(JournaledPolicy(failing, journal).sample(start, 5)) == fresh
        assert failing.calls == []


def test_other_questions_are_other_records(tmp_path: Path) -> None:
    policy = NoisyPolicy()

    async def main(journal: Journal) -> None:
        journaled = JournaledPolicy(policy, journal)
        await journaled.sample(prefix("a"))
        await journaled.sample(prefix("b"))
        await journaled.sample(prefix("a"), until=Until.END)
        await journaled.sample(prefix("a"), sampling=Sampling(seed=1))
        await journaled.sample(prefix("a").extend("x"))
        await journaled.sample(Trajectory(Problem("a", id="another name for it")))

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))
        assert journal.stats().n_records == {"sample": 5}
    assert len(policy.calls) == 5


def test_equal_requests_at_the_same_time_pay_once(tmp_path: Path) -> None:
    policy = NoisyPolicy()

    async def main(journal: Journal) -> None:
        one, two = JournaledPolicy(policy, journal), JournaledPolicy(policy, journal)
        results = await asyncio.gather(*(maker.sample(prefix(), 4) for maker in (one, two) for _ in range(50)), one.sample(prefix(), 8))
        assert all(result == results[-1][:4] for result in results[:-1])
        assert journal.pending() == {}

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))
    assert set(policy.paid.values()) == {1}
    assert len(policy.paid) == 8


def test_a_rerun_reports_the_same_usage_and_pays_nothing(tmp_path: Path) -> None:
    async def main(journal: Journal) -> tuple[Usage, Usage]:
        journaled = JournaledPolicy(NoisyPolicy(), journal)
        with metered() as ledger:
            await asyncio.gather(*(journaled.sample(prefix(f"p{index}"), 1 + index % 5) for index in range(40)))
        return ledger.usage, ledger.paid

    with Journal(tmp_path / "j.sqlite") as journal:
        usage, paid = asyncio.run(main(journal))
    assert usage == paid
    assert usage.calls == 40
    with Journal(tmp_path / "j.sqlite") as journal:
        again, paid_again = asyncio.run(main(journal))
    assert again == usage
    assert paid_again == Usage()


@given(
    counts=st.lists(st.none() | st.integers(0, 50), min_size=1, max_size=9),
    tokens=st.integers(0, 200),
    flops=st.integers(0, 2**50),
    own=st.booleans(),
)
def test_a_split_cost_sums_to_the_whole(counts: list[int | None], tokens: int, flops: int, own: bool) -> None:
    total = sum(count or 0 for count in counts) if own else tokens
    usage = Usage(policy_tokens=total, policy_prefill=tokens, calls=1, flops=float(flops))
    parts = split_usage(usage, counts)
    assert Usage.total(parts) == usage
    assert all(value >= 0 for part in parts for value in part.to_record().values())
    if own and None not in counts:
        assert [part.policy_tokens for part in parts] == counts


def test_a_failed_request_is_not_kept_and_reaches_everybody_who_waits(tmp_path: Path) -> None:
    failing = FailingPolicy()

    async def main(journal: Journal) -> None:
        journaled = JournaledPolicy(failing, journal)
        results = await asyncio.gather(*(journaled.sample(prefix()) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, RequestFailed) for result in results)
        assert len(failing.calls) == 1
        assert journal.pending() == {}
        assert len(await JournaledPolicy(NoisyPolicy(), journal).sample(prefix())) == 1

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))


def test_when_the_one_who_computes_is_cancelled_another_takes_over(tmp_path: Path) -> None:
    class Slow(NoisyPolicy):
        gate: asyncio.Event

        async def sample(self, *args: object, **kwargs: object) -> list[Trajectory]:  # type: ignore[override]
            self.calls.append((0, 1))
            await self.gate.wait()
            return await super().sample(*args, **kwargs)

    async def main(journal: Journal) -> None:
        policy = Slow()
        policy.gate = asyncio.Event()
        journaled = JournaledPolicy(policy, journal)
        first = asyncio.create_task(journaled.sample(prefix()))
        while not policy.calls:
            await asyncio.sleep(0)
        second, third = (asyncio.create_task(journaled.sample(prefix())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        third.cancel()
        policy.gate.set()
        assert len(await second) == 1
        assert first.cancelled() or await asyncio.wait([first])
        with pytest.raises(asyncio.CancelledError):
            await third
        assert journal.pending() == {}

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))


def test_a_policy_that_breaks_the_contract_is_named(tmp_path: Path) -> None:
    class Short(NoisyPolicy):
        async def sample(self, prefix: Trajectory, n: int = 1, **_: object) -> list[Trajectory]:  # type: ignore[override]
            return [prefix.extend("x")]

    class Astray(NoisyPolicy):
        async def sample(self, prefix: Trajectory, n: int = 1, **_: object) -> list[Trajectory]:  # type: ignore[override]
            return [Trajectory(Problem("something else")).extend("x")] * n

    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(CountMismatch, match="test:noisy returned 1 samples when asked for 3"):
            asyncio.run(JournaledPolicy(Short(), journal).sample(prefix(), 3))
        with pytest.raises(CountMismatch, match="does not start with the prefix"):
            asyncio.run(JournaledPolicy(Astray(), journal).sample(prefix(), 3))
        assert journal.stats().n_records == {}


def test_scores_labels_and_grades_are_kept_but_failures_are_tried_again(tmp_path: Path) -> None:
    good = Trajectory.from_texts("What is 3 + 4?", ["3 + 4 = 7.", "The answer is 7."])
    bad = Trajectory.from_texts("What is 3 + 4?", ["fail"])
    model = CountingModel()

    async def main(journal: Journal) -> None:
        scorer, labeler, world = JournaledRewardModel(model, journal), JournaledLabeler(model, journal), JournaledEnvironment(model, journal)
        assert isinstance(scorer, RewardModel)
        assert isinstance(labeler, Labeler)
        assert isinstance(world, Environment)
        for method, direct in ((scorer.score, model.score), (labeler.label, model.label), (world.grade, model.grade)):
            before = model.n_calls
            results = [await method(good) for _ in range(3)]  # type: ignore[operator]
            assert model.n_calls == before + 1
            assert results == [await direct(good) for _ in range(3)]  # type: ignore[operator]
        for method in (scorer.score, world.grade):
            before = model.n_calls
            results = [await method(bad) for _ in range(3)]  # type: ignore[operator]
            assert model.n_calls == before + 3
        assert scorer.granularity == "step"
        assert scorer.scale == "probability"
        assert world.answer(good) == "The answer is 7."
        assert world.is_finished(good)
        assert await world.observe(good) is good

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(main(journal))
        assert journal.stats().n_records == {"grade": 1, "label": 1, "score": 1}


def test_how_a_trajectory_ended_is_part_of_the_question(tmp_path: Path) -> None:
    model = CountingModel()
    ended = Trajectory.from_texts("q", ["a"])
    with Journal(tmp_path / "j.sqlite") as journal:
        world = JournaledEnvironment(model, journal)
        for trajectory in (ended, Trajectory(ended.problem, ended.steps), Trajectory(ended.problem, ended.steps, truncated=True)):
            asyncio.run(world.grade(trajectory))
    assert model.n_calls == 3


def test_wrapping_twice_is_wrapping_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        twice = JournaledPolicy(JournaledPolicy(NoisyPolicy(), journal), journal)
        assert isinstance(twice, Policy)
        assert isinstance(twice.inner, NoisyPolicy)
        assert len(asyncio.run(twice.sample(prefix(), 3))) == 3
