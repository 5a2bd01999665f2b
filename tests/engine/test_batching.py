from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from tests.engine.parts import NoisyPolicy, prefix

from stepward.core.errors import InputError, MissingExtra, RequestFailed, RequestRetryable
from stepward.engine.batching import Batcher


def test_concurrent_requests_share_batches_in_the_order_in_which_they_were_awaited() -> None:
    seen: list[list[int]] = []

    def run(requests: Sequence[int]) -> list[int]:
        seen.append(list(requests))
        return [request * request for request in requests]

    async def main() -> list[int]:
        batcher = Batcher(run, max_batch=100)
        results = await asyncio.gather(*(batcher(number) for number in range(250)))
        batcher.close()
        return results

    assert asyncio.run(main()) == [number * number for number in range(250)]
    assert [number for batch in seen for number in batch] == list(range(250))
    assert [len(batch) for batch in seen] == [100, 100, 50]


def test_requests_that_arrive_a_few_turns_of_the_loop_later_still_join_the_batch() -> None:
    sizes: list[int] = []

    def run(requests: Sequence[int]) -> list[int]:
        sizes.append(len(requests))
        return list(requests)

    async def late(batcher: Batcher[int, int], turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await batcher(turns)

    async def main() -> None:
        batcher = Batcher(run, max_batch=100)
        await asyncio.gather(*(late(batcher, turns) for turns in range(6)))
        batcher.close()

    asyncio.run(main())
    assert sizes == [6]


@pytest.mark.parametrize("max_batch", [1, 64, 1000])
def test_results_do_not_depend_on_what_was_batched_together(max_batch: int) -> None:
    async def main() -> list[str]:
        policy = NoisyPolicy(max_batch)
        samples = await asyncio.gather(*(policy.sample(prefix(f"p{index}"), 2) for index in range(200)))
        policy.batcher.close()
        return [sample.text for pair in samples for sample in pair]

    async def alone() -> list[str]:
        policy = NoisyPolicy(1)
        texts = [sample.text for index in range(200) for sample in await policy.sample(prefix(f"p{index}"), 2)]
        policy.batcher.close()
        return texts

    assert asyncio.run(main()) == asyncio.run(alone())


def test_ten_thousand_concurrent_requests_are_each_served_once() -> None:
    policy = NoisyPolicy(512)

    async def main() -> int:
        start = prefix()
        samples = await asyncio.gather(*(policy.sample(start, draw=draw) for draw in range(10_000)))
        return len({sample.text for (sample,) in samples})

    assert asyncio.run(main()) == 10_000
    assert set(policy.paid.values()) == {1}
    assert policy.batcher.n_requests == 10_000
    assert policy.batcher.n_batches <= 40
    policy.batcher.close()


def test_a_failed_request_fails_alone() -> None:
    def run(requests: Sequence[int]) -> list[int | Exception]:
        return [RequestFailed(f"no {request}") if request % 7 == 3 else request for request in requests]

    async def main() -> list[int | BaseException]:
        batcher = Batcher(run, max_batch=64)
        results = await asyncio.gather(*(batcher(number) for number in range(100)), return_exceptions=True)
        batcher.close()
        return results

    for number, result in enumerate(asyncio.run(main())):
        if number % 7 == 3:
            assert isinstance(result, RequestFailed)
            assert str(result) == f"no {number}"
        else:
            assert result == number


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("bad tensor"), RequestFailed),
        (RequestRetryable("busy", retry_after_s=3.0), RequestRetryable),
        (StopIteration("x"), RequestFailed),
        (SystemExit(3), RequestFailed),
        (MissingExtra("torch", "local"), MissingExtra),
    ],
)
def test_a_backend_that_raises_fails_its_batch_and_not_the_next(raised: BaseException, expected: type[Exception]) -> None:
    def run(requests: Sequence[str]) -> list[str]:
        if "poison" in requests:
            raise raised
        return list(requests)

    async def main() -> None:
        batcher = Batcher(run, max_batch=2)
        results = await asyncio.gather(*(batcher(text) for text in ("a", "poison", "b", "c")), return_exceptions=True)
        assert [type(result) for result in results[:2]] == [expected, expected]
        assert results[2:] == ["b", "c"]
        if isinstance(raised, RequestRetryable):
            assert isinstance(results[0], RequestRetryable)
            assert results[0].retry_after_s == 3.0
        batcher.close()

    asyncio.run(main())


def test_a_backend_that_returns_another_number_of_results_fails_the_batch() -> None:
    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(lambda requests: list(requests)[1:], max_batch=8)
        with pytest.raises(RequestFailed, match="1 results for a batch of 2"):
            await asyncio.gather(batcher(1), batcher(2))
        batcher.close()

    asyncio.run(main())


def test_cancelled_requests_never_reach_the_backend() -> None:
    seen: list[int] = []

    def run(requests: Sequence[int]) -> list[int]:
        seen.extend(requests)
        return list(requests)

    async def main() -> None:
        batcher = Batcher(run, max_batch=100)
        tasks = [asyncio.create_task(batcher(number)) for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [1, 3, 5, 7, 9]
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        batcher.close()

    asyncio.run(main())
    assert seen == [1, 3, 5, 7, 9]


def test_weights_bound_a_batch_and_a_heavy_request_runs_alone() -> None:
    seen: list[list[int]] = []

    def run(requests: Sequence[int]) -> list[int]:
        seen.append(list(requests))
        return list(requests)

    async def main() -> None:
        batcher = Batcher(run, max_batch=100, weight=float, max_weight=10.0)
        await asyncio.gather(*(batcher(weight) for weight in (4, 4, 4, 50, 1, 9, 2)))
        batcher.close()

    asyncio.run(main())
    assert [number for batch in seen for number in batch] == [4, 4, 4, 50, 1, 9, 2]
    assert all(sum(batch) <= 10 or len(batch) == 1 for batch in seen), seen


def test_the_event_loop_goes_on_while_a_batch_runs() -> None:
    release = threading.Event()

    def run(requests: Sequence[int]) -> list[int]:
        assert release.wait(30)
        return list(requests)

    async def main() -> int:
        batcher = Batcher(run, max_batch=1)
        task = asyncio.create_task(batcher(1))
        while batcher.n_batches == 0:
            await asyncio.sleep(0)
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        release.set()
        await task
        batcher.close()
        return turns

    assert asyncio.run(main()) == 100


def test_one_batcher_serves_the_loops_of_several_threads() -> None:
    batcher: Batcher[int, int] = Batcher(lambda requests: [request + 1 for request in requests], max_batch=16)
    results: dict[int, list[int]] = {}

    async def main(offset: int) -> list[int]:
        return await asyncio.gather(*(batcher(offset + number) for number in range(300)))

    threads = [threading.Thread(target=lambda offset=offset: results.update({offset: asyncio.run(main(offset))})) for offset in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    batcher.close()
    assert results == {offset: list(range(offset + 1, offset + 301)) for offset in (0, 1000, 2000, 3000)}


def test_impossible_limits_and_a_closed_batcher_are_refused() -> None:
    with pytest.raises(InputError, match="max_batch"):
        Batcher(list, max_batch=0)
    with pytest.raises(InputError, match="both weight and max_weight"):
        Batcher(list, max_batch=1, max_weight=3.0)

    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(list, max_batch=1)
        batcher.close()
        with pytest.raises(RequestFailed, match="shutdown"):
            await batcher(1)

    asyncio.run(main())
