"""Searches for the first failing step, and drawing that stops early, by exhaustion."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Sequence

import pytest
from tests.labeling.chains import WORLD, Failing, Ladder, by_length, chain

from stepward.core import Count, InputError
from stepward.labeling.completer import Completer, RolloutBank
from stepward.labeling.probing import Drawn, Located, Probe, Then, backward, bisect, draw, forward, ranked, settled, successes


def told(verdicts: Sequence[bool | None]) -> Probe:
    async def probe(step: int) -> bool | None:
        return verdicts[step]

    return probe


def monotone(n: int, first: int) -> list[bool]:
    return [step < first for step in range(n)]


@pytest.mark.parametrize("end_fails", [True, False])
def test_searches_find_the_first_failing_step_of_monotone_verdicts(end_fails: bool) -> None:
    for n in range(18):
        for first in range(n + 1):
            truth = first if first < n or end_fails else -1
            probe = told(monotone(n, first))
            orders = [list(range(n)), list(range(n))[::-1], random.Random(n).sample(range(n), n)]
            found = {
                "forward": asyncio.run(forward(probe, n, end_fails=end_fails)),
                "backward": asyncio.run(backward(probe, n, end_fails=end_fails)),
                "bisect": asyncio.run(bisect(probe, n, end_fails=end_fails)),
                "shifted": asyncio.run(bisect(probe, n, end_fails=end_fails, first_probe=n // 4)),
                **{f"first_error {at}": asyncio.run(ranked(probe, order, n, end_fails=end_fails, then="first_error")) for at, order in enumerate(orders)},
                **{f"bracket {at}": asyncio.run(ranked(probe, order, n, end_fails=end_fails, then="bracket")) for at, order in enumerate(orders)},
            }
            assert {name: located.first for name, located in found.items()} == dict.fromkeys(found, truth)
            assert len(found["bisect"].verdicts) <= math.ceil(math.log2(n + 1))
            assert len(found["forward"].verdicts) == min(first + 1, n)


def test_backward_is_every_step_with_successes_propagated() -> None:
    """The same cut, whatever the verdicts, for no more probes."""
    for verdicts in itertools.product((True, False, None), repeat=5):
        last = max((step for step, good in enumerate(verdicts) if good), default=-1)
        after = [good for step, good in enumerate(verdicts) if step > last]
        expected = None if None in after[:1] else last + 1
        found = asyncio.run(backward(told(verdicts), 5, end_fails=True))
        assert found.first == expected, verdicts
        assert len(found.verdicts) == min(5, 5 - last) if last >= 0 else 5


def test_the_fixed_ranking_never_answers_later_than_its_smallest_failing_probe_and_the_published_one_does() -> None:
    rng, late, wrong = random.Random(0), 0, 0
    for _ in range(600):
        n = rng.randint(1, 8)
        verdicts = [rng.random() < 0.6 for _ in range(n)]
        order = rng.sample(range(n), n)
        truth = next((step for step, good in enumerate(verdicts) if not good), n)
        for then in ("first_hit", "first_error"):
            found = asyncio.run(ranked(told(verdicts), order, n, end_fails=True, then=then))
            failing = [step for step, good in found.verdicts.items() if not good]
            assert found.first is not None
            if then == "first_error":
                assert found.first == min(failing, default=n) == truth
            else:
                late += found.first > min(failing, default=n)
                wrong += found.first != truth
    assert late == 0, "it ends with its first hit, so no probe of its own is earlier"
    assert wrong > 150, "but it misses the first failing step often"


def test_an_empty_probe_makes_the_answer_unknown_where_it_matters() -> None:
    def run(then: Then, verdicts: Sequence[bool | None], order: Sequence[int]) -> int | None:
        return asyncio.run(ranked(told(verdicts), order, len(verdicts), end_fails=True, then=then)).first

    assert run("first_error", [True, None, False], [2, 1, 0]) is None, "step 1 may fail"
    assert run("first_error", [False, None, True], [1, 0, 2]) == 0, "step 0 fails anyway"
    assert run("bracket", [True, None, True, False], [1, 2, 3, 0]) == 3, "a success after it clears it"
    assert asyncio.run(bisect(told([True, None, False]), 3, end_fails=True)).first is None
    assert asyncio.run(forward(told([True, None, False]), 3, end_fails=True)) == Located(None, {0: True, 1: None})


def drawn(values: Sequence[float], n: int, *, lost: float = 0.0, at: int = 1, failing: int | None = None, **settings: object) -> Drawn:
    policy = Ladder(by_length(values), len(values), lost)
    bank = RolloutBank(Completer(policy=policy if failing is None else Failing(policy, frozenset({at}), failing), environment=WORLD))
    prefix = chain(len(values)).prefix(at)
    return asyncio.run(draw(bank, prefix, n, **settings))  # type: ignore[arg-type]


def test_stopping_leaves_out_the_rest_and_changes_nothing_else() -> None:
    full = drawn([0.5, 0.4], 12)
    outcomes = [rollout.success for rollout in full.rollouts]
    for batch in (1, 2, 5):
        short = drawn([0.5, 0.4], 12, stop=successes(2), batch=batch)
        assert [rollout.success for rollout in short.rollouts] == outcomes[: len(short.rollouts)]
        assert [rollout.draw for rollout in short.rollouts] == list(range(len(short.rollouts)))
        reached = next(k for k in range(1, 13) if sum(outcomes[:k]) >= 2)
        assert len(short.rollouts) == min(12, batch * math.ceil(reached / batch))


@pytest.mark.parametrize("bar", [0.0, 0.25, 0.5, 0.9])
def test_a_settled_label_is_the_label_of_all_rollouts(bar: float) -> None:
    """For every sequence of right, wrong and ungraded rollouts: when drawing may stop, the rest cannot change the label."""
    n, saved = 6, 0
    for outcomes in itertools.product((True, False, None), repeat=n):
        stop, count = settled(bar, n), Count(0, 0)
        final = [good for good in outcomes if good is not None]
        label = None if not final else sum(final) / len(final) > bar
        for k, good in enumerate(outcomes, start=1):
            count = Count(count.successes + (good is True), count.rollouts + (good is not None))
            if stop(count, n - k):
                assert (count.value > bar) == label, (outcomes, k)
                saved += n - k
                break
    assert saved > 0


def test_ungraded_rollouts_use_up_draws_and_count_as_neither() -> None:
    found = drawn([0.5, 0.5], 40, lost=0.5)
    assert found.count.rollouts + found.count.unscored == 40
    assert 5 < found.count.unscored < 35
    assert found.reason is None
    nothing = drawn([0.5, 0.5], 5, lost=1.0)
    assert nothing.any is None
    assert "cannot grade" in (nothing.reason or "")


def test_a_request_that_fails_midway_leaves_the_drawing_incomplete() -> None:
    found = drawn([0.0, 0.0], 8, failing=3, batch=1, stop=successes(1))
    assert found.count == Count(0, 3)
    assert found.any is None
    assert "the server is gone" in (found.reason or "")


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        drawn([0.5, 0.5], 0)
