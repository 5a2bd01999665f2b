"""The workbench: order, failures, cancelled searches, draws and prices. Budgets as such are in test_budget.py."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from stepward.core import (
    ContextOverflow,
    InputError,
    Node,
    Outcome,
    Problem,
    RequestFailed,
    Sampling,
    SearchResult,
    Step,
    StepScores,
    Trajectory,
    Until,
    Usage,
    charge,
    metered,
)
from stepward.engine.batching import Batcher
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.search import BestOfN, Majority
from stepward.search.budget import Budget
from stepward.search.strategy import Strategy
from stepward.search.workbench import OutOfBudget, Stopped, Workbench

PROBLEM = Problem("p")


@dataclass
class Pen:
    """Writes "draw d"; one token a step, three steps a solution. `late`: draws that come last; `stuck`: that never come; `fail`: that fail."""

    late: Sequence[int] = ()
    stuck: Sequence[int] = ()
    fail: Sequence[int] = ()
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    priced: Counter[int] = field(default_factory=Counter)
    error: type[Exception] = RequestFailed
    most: int = 3  # what it says that a solution costs at most
    fingerprint: str = "pen"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        self.asked.append((str(until), draw, n))
        mine = range(draw, draw + n)
        if set(mine) & set(self.fail):
            raise self.error(f"draw {draw} fails")
        if set(mine) & set(self.stuck):
            await asyncio.Event().wait()
        for _ in range(20 if set(mine) & set(self.late) else 1):
            await asyncio.sleep(0)
        n_steps = min(1 if until is Until.STEP else 3 - len(prefix), sampling.max_tokens - len(prefix))
        charge(Usage(policy_tokens=n * n_steps, calls=1))
        steps = [(*prefix.steps, *[Step(f"draw {number}", "\n", n_tokens=1)] * n_steps) for number in mine]
        whole = len(prefix) + n_steps >= 3
        return [Trajectory(prefix.problem, written, finished=whole, truncated=not whole and until is Until.END) for written in steps]

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> Usage:
        self.priced[draw] += 1
        return Usage(policy_tokens=n * min(1 if until is Until.STEP else self.most, sampling.max_tokens - len(prefix)))


@dataclass(frozen=True)
class World:
    """Pure, or (interactive) one that answers with the number of steps; after three it is over. `silent_at`: it fails to answer that step."""

    interactive: bool = False
    silent_at: int = -1
    fingerprint: str = "world"

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        if len(trajectory) == self.silent_at:
            raise RequestFailed("the world is silent")
        last = trajectory.steps[-1]
        return Trajectory(trajectory.problem, (*trajectory.steps[:-1], Step(last.text, last.separator, observation=f"{len(trajectory)} so far", n_tokens=1)))

    def is_finished(self, trajectory: Trajectory) -> bool:
        return len(trajectory) >= 3

    async def grade(self, trajectory: Trajectory) -> Outcome:
        return Outcome(1.0)

    def answer(self, trajectory: Trajectory) -> str | None:
        return trajectory.text or None


@dataclass
class Counting:
    """Scores a step by the number of the draw that wrote it; never answers about the draws in `stuck`."""

    stuck: Sequence[str] = ()
    granularity: ClassVar[Literal["step"]] = "step"
    scale: ClassVar[Literal["logit"]] = "logit"
    fingerprint: str = "counting"

    async def score(self, trajectory: Trajectory) -> StepScores:
        if any(step.text in self.stuck for step in trajectory.steps):
            await asyncio.Event().wait()
        return StepScores(np.array([float(step.text.split()[1]) for step in trajectory.steps]), scale="logit")


def bench_of(pen: Pen, world: World = World(), **options: Any) -> Workbench:
    return Workbench(PROBLEM, pen, world, sampling=Sampling(), **options)


def texts(nodes: Sequence[Node]) -> list[str]:
    return [node.trajectory.steps[-1].text for node in nodes]


def test_children_stand_in_the_tree_as_they_were_asked_for_whichever_came_first() -> None:
    async def run() -> None:
        bench = bench_of(Pen(late=[0, 4]))
        first = await bench.expand([bench.root], 2)
        second = await bench.expand(first, [1, 3])
        assert texts(first) == ["draw 0", "draw 1"]
        assert [(node.parent.index, node.index) for node in second if node.parent] == [(1, 3), (2, 4), (2, 5), (2, 6)]

    asyncio.run(run())


def test_steps_and_solutions_from_one_prefix_are_different_draws() -> None:
    """Draw d starts with the same noise either way: a completion that shared its number with a step would repeat it."""

    async def run() -> None:
        pen = Pen()
        bench = bench_of(pen)
        await bench.expand([bench.root], 2)
        await bench.complete([bench.root], 3)
        await bench.expand([bench.root])
        assert pen.asked == [("step", 0, 2), ("end", 2, 3), ("step", 5, 1)]

    asyncio.run(run())


def test_a_node_is_dropped_only_where_nothing_came_of_it() -> None:
    async def run() -> None:
        with metered() as ledger:
            bench = bench_of(Pen(fail=[1]), ledger=ledger, budget=Budget(calls=2))
            children = await bench.expand([bench.root], 2)
            assert children == []

    async def apart() -> None:
        bench = bench_of(Pen(fail=[2]))
        children = await bench.expand([bench.root], 2)
        more = await bench.expand([bench.root, children[0]], [1, 1])
        assert texts(more) == ["draw 0"]
        assert bench.root.dropped == "sampling failed: draw 2 fails"
        assert bench.failures == ["sampling failed: draw 2 fails"]
        assert children[0].dropped is None

    with pytest.raises(Stopped, match="draw 0 fails"):  # one request of two draws
        asyncio.run(run())
    asyncio.run(apart())


def test_a_policy_that_returns_another_number_or_another_prefix_fails_and_nothing_else() -> None:
    class Short(Pen):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: Any) -> list[Trajectory]:
            return (await super().sample(prefix, n, **options))[:-1]

    class Lost(Pen):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: Any) -> list[Trajectory]:
            return await super().sample(Trajectory(Problem("another")), n, **options)

    for pen, said in ((Short(), "returned 1 samples when asked for 2"), (Lost(), "does not continue")):
        with pytest.raises(Stopped, match=said):
            asyncio.run(bench_of(pen).expand([Workbench(PROBLEM, pen, World(), sampling=Sampling()).root], 2))


def test_our_own_mistakes_end_the_search_and_leave_nothing_running() -> None:
    async def run() -> None:
        bench = bench_of(Pen(fail=[1], stuck=[2], error=ZeroDivisionError))
        children = await bench.expand([bench.root], 1)
        with pytest.raises(ZeroDivisionError):
            await bench.expand([bench.root, *children, bench.root], 1)
        assert len(asyncio.all_tasks()) == 1, "requests go on after their search has ended"

    asyncio.run(run())


@dataclass(frozen=True, kw_only=True)
class Alternately(Strategy):
    """Asks for the draws one request each: for n children of the root, at different depths of the same call."""

    n: int = 3
    whole: bool = False
    name = "alternately"

    async def grow(self, bench: Workbench) -> None:
        grow = bench.complete if self.whole else bench.expand
        first = await bench.expand([bench.root], 1)
        await grow([node for _ in range(self.n) for node in (bench.root, *first)], 1)


class Idle(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything else can happen, so that time limits strike at one place."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def wait(timeout: float | None) -> Any:
            found = select(0)
            self.now += 0.0 if found else timeout or 0.0
            return found

        self._selector.select = wait  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def search(strategy: Strategy) -> tuple[SearchResult, int]:
    """The result, and how many tasks were left."""

    async def run() -> tuple[SearchResult, int]:
        result = await strategy.search(PROBLEM)
        return result, len(asyncio.all_tasks()) - 1

    with asyncio.Runner(loop_factory=Idle) as runner:
        return runner.run(run())


def test_what_had_arrived_when_the_time_was_over_stays() -> None:
    result, n_left = search(Alternately(policy=Pen(stuck=[2]), environment=World(), whole=True, budget=Budget(seconds=0.05)))
    assert result.source["stopped"] == "the budget of 0.05 seconds is spent"
    assert [node.trajectory.steps[-1].text for node in result.tree if node.parent] == ["draw 0", "draw 1", "draw 0", "draw 1", "draw 3"]
    assert n_left == 0


def test_scores_that_had_arrived_when_the_time_was_over_decide() -> None:
    model = Counting(stuck=["draw 3"])
    result, n_left = search(BestOfN(policy=Pen(), environment=World(), model=model, n=16, budget=Budget(seconds=0.05)))
    assert [end.value for end in result.tree.ends if not math.isnan(end.value)] == [0.0, 1.0, 2.0]
    assert result.chosen is not None
    assert result.chosen.steps[0].text == "draw 2"
    assert n_left == 0


def test_an_episode_that_the_time_cut_off_keeps_its_steps() -> None:
    @dataclass
    class Tiring(Pen):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: Any) -> list[Trajectory]:
            if len(prefix) == 2:
                await asyncio.Event().wait()
            return await super().sample(prefix, n, **options)

    result, n_left = search(Majority(policy=Tiring(), environment=World(interactive=True), n=2, budget=Budget(seconds=0.05)))
    assert [(len(end.trajectory), end.trajectory.truncated) for end in result.tree.ends] == [(2, True), (2, True)]
    assert n_left == 0


def test_a_search_that_is_given_up_leaves_batches_and_journal_in_order(tmp_path: Path) -> None:
    """The batcher drops what nobody waits for; the journal has what was paid for, and the next search finds it."""
    hold = threading.Event()
    done: list[int] = []

    class Batched(Pen):
        def __init__(self) -> None:
            super().__init__()
            self.batcher = Batcher[int, int](self.work, max_batch=1)

        def work(self, numbers: Sequence[int]) -> list[int | Exception]:
            if numbers == [3]:
                hold.wait()
            done.extend(numbers)
            return list(numbers)

        async def sample(self, prefix: Trajectory, n: int = 1, *, draw: int = 0, **options: Any) -> list[Trajectory]:
            for number in range(draw, draw + n):
                await self.batcher(number)
            return await super().sample(prefix, n, draw=draw, **options)

    async def run() -> None:
        with Journal(tmp_path / "journal") as journal:
            pen = Batched()
            policy = JournaledPolicy(pen, journal)
            given_up = asyncio.create_task(Alternately(policy=policy, environment=World(), whole=True, n=4).search(PROBLEM))
            while (
                journal.stats().n_records.get("sample", 0) < 5
            ):  # a step; solutions 1 and 2 of the root, 0 and 1 of its child; the next one is held up in its batch
                await asyncio.sleep(0.001)
            given_up.cancel()
            await asyncio.wait([given_up])
            assert given_up.cancelled()
            assert len(asyncio.all_tasks()) == 1
            hold.set()
            asked = len(pen.asked)
            whole = await Majority(policy=policy, environment=World(), n=6).search(PROBLEM)
            assert len(whole.tree.ends) == 6
            assert [draw for _, first, n in pen.asked[asked:] for draw in range(first, first + n)] == [0, 3, 4, 5], "solutions 1 and 2 were kept"
            assert done == [0, 1, 0, 2, 1, 3, 0, 3, 4, 5], "what waited behind the batch that was held up is gone"
            pen.batcher.close()

    asyncio.run(run())


def test_a_wave_asks_for_each_price_once() -> None:
    """1000 draws under a budget that takes many waves: prices are linear in the draws, but for the few that are cut."""
    pen = Pen(most=100)
    result, _ = search(Majority(policy=pen, environment=World(), n=1000, budget=Budget(policy_tokens=2000)))
    assert result.usage.policy_tokens == 2000
    assert len(result.tree.ends) == 667
    priced = [pen.priced[draw] for draw in range(667)]
    assert priced[:600] == [1] * 600
    assert max(priced) < 20, "the last draws are cut: their limit is found by bisection"


def test_a_prefix_without_a_price_fails_alone() -> None:
    class Narrow(Pen):
        def price(self, prefix: Trajectory, *arguments: Any, **options: Any) -> Usage:
            if prefix.steps and prefix.steps[0].text == "draw 1":
                raise ContextOverflow("too long")
            return super().price(prefix, *arguments, **options)

    async def run() -> None:
        with metered() as ledger:
            bench = bench_of(Narrow(), ledger=ledger, budget=Budget(policy_tokens=100))
            first = await bench.expand([bench.root], 3)
            second = await bench.expand(first)
        assert [node.parent.index for node in second if node.parent] == [1, 3]
        assert first[1].dropped == "sampling failed: too long"

    asyncio.run(run())


def test_a_call_that_the_budget_allows_in_part_returns_that_part_and_the_next_one_stops() -> None:
    async def run() -> None:
        with metered() as ledger:
            bench = bench_of(Pen(), ledger=ledger, budget=Budget(calls=5))
            assert len(await bench.expand([bench.root], 3)) == 3
            scores = await bench.score(Counting(), [Trajectory(PROBLEM, (Step(f"draw {n}"),)) for n in range(4)])
            assert [scores_.values[0] for scores_ in scores[:2]] == [0.0, 1.0]
            assert [scores_.reasons[0] for scores_ in scores[2:]] == ["not scored: the budget of 5 calls is spent"] * 2
            for call in (bench.expand([bench.root]), bench.score(Counting(), [Trajectory(PROBLEM, (Step("draw 0"),))])):
                with pytest.raises(OutOfBudget, match="the budget of 5 calls is spent"):
                    await call
            assert await bench.expand([], 3) == []

    asyncio.run(run())


def test_a_prefix_without_steps_has_scores_too() -> None:
    """No scores of no steps: scored, and not what the budget left out."""

    async def run() -> None:
        with metered() as ledger:
            bench = bench_of(Pen(), ledger=ledger, budget=Budget(calls=1))
            scores = await bench.score(Counting(), [bench.root.trajectory, Trajectory(PROBLEM, (Step("draw 7"),))])
        assert [len(found) for found in scores] == [0, 1]
        assert scores[1].reasons == ("not scored: the budget of 1 calls is spent",)

    asyncio.run(run())


def test_a_question_is_metered_and_not_begun_where_it_does_not_fit() -> None:
    begun = []

    async def question() -> str:
        begun.append(1)
        charge(Usage(reward_tokens=10, calls=1))
        return "yes"

    async def run() -> None:
        with metered() as ledger:
            bench = bench_of(Pen(), ledger=ledger, budget=Budget(reward_tokens=15))
            assert await bench.ask(question(), price=Usage(reward_tokens=12)) == "yes"
            with pytest.raises(OutOfBudget, match="no room for the next request after 10"):
                await bench.ask(question(), price=Usage(reward_tokens=12))
        assert (len(begun), bench.calls, bench.spent["reward_tokens"]) == (1, 1, 10)

    asyncio.run(run())


def test_two_calls_at_once_are_a_mistake() -> None:
    async def run() -> None:
        bench = bench_of(Pen(late=[0]))
        await asyncio.gather(bench.expand([bench.root]), bench.expand([bench.root]))

    with pytest.raises(RuntimeError, match="one call at a time"):
        asyncio.run(run())


def test_a_workbench_with_a_budget_needs_the_ledger_that_its_requests_charge() -> None:
    with pytest.raises(InputError, match="needs the ledger"):
        bench_of(Pen(), budget=Budget(calls=1))


# Agents


def test_observations_are_in_the_prefix_of_the_next_step() -> None:
    seen: list[str | None] = []

    class Looking(Pen):
        async def sample(self, prefix: Trajectory, n: int = 1, **options: Any) -> list[Trajectory]:
            seen.append(prefix.steps[-1].observation if prefix.steps else None)
            return await super().sample(prefix, n, **options)

    result, _ = search(Majority(policy=Looking(), environment=World(interactive=True), n=1))
    assert seen == [None, "1 so far", "2 so far"]
    assert result.chosen is not None
    assert [step.observation for step in result.chosen.steps] == ["1 so far", "2 so far", "3 so far"]
    assert result.source["calls"] == 3


def test_a_world_that_falls_silent_cuts_the_episode_off() -> None:
    result, _ = search(Majority(policy=Pen(), environment=World(interactive=True, silent_at=2), n=1))
    assert [(len(end.trajectory), end.trajectory.truncated) for end in result.tree.ends] == [(1, True)]
    assert result.source["failure"] == "observing failed: the world is silent"


def test_episodes_under_a_budget_are_those_without_one_as_far_as_it_reaches() -> None:
    free, _ = search(Majority(policy=Pen(), environment=World(interactive=True), n=10))
    bound, _ = search(Majority(policy=Pen(), environment=World(interactive=True), n=10, budget=Budget(policy_tokens=14)))
    ends = [end.trajectory for end in bound.tree.ends]
    assert [len(end) for end in ends] == [3, 3, 3, 3, 2]
    assert ends[:4] == [end.trajectory for end in free.tree.ends[:4]]
    assert ends[4].steps == free.tree.ends[4].trajectory.steps[:2]


def test_notes_go_to_the_source() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Noting(Majority):
        name = "noting"

        async def grow(self, bench: Workbench) -> None:
            bench.notes["effective"] = 3.5
            await super().grow(bench)

    result, _ = search(Noting(policy=Pen(), environment=World(), n=1))
    assert result.source["notes"] == {"effective": 3.5}
    assert "notes" not in search(Majority(policy=Pen(), environment=World(), n=1))[0].source
