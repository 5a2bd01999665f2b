from __future__ import annotations

import asyncio

import pytest

from stepward.core.errors import InputError, RequestFailed, RequestRetryable
from stepward.engine.retry import RetriesExhausted, Retry, retrying


class Flaky:
    """Fails with each of `errors` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.slept: list[float] = []

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_backoff_doubles_up_to_its_limit() -> None:
    flaky = Flaky(*[RequestRetryable("busy")] * 6)
    retry = Retry(attempts=7, first_s=1.0, factor=2.0, max_s=10.0, jitter=0.0)
    assert asyncio.run(retrying(flaky, retry, sleep=flaky.sleep)) == "answer"
    assert flaky.slept == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_is_reproducible_bounded_and_differs_between_requests() -> None:
    retry = Retry(first_s=4.0, max_s=4.0, jitter=0.5)
    waits = [retry.wait_s(1, key=f"request {index}") for index in range(200)]
    assert waits == [retry.wait_s(1, key=f"request {index}") for index in range(200)]
    assert all(2.0 <= wait <= 6.0 for wait in waits)
    assert len(set(waits)) == 200
    assert max(waits) > 5.5
    assert min(waits) < 2.5


def test_the_servers_word_is_honoured() -> None:
    flaky = Flaky(RequestRetryable("429", retry_after_s=17.0), RequestRetryable("503", retry_after_s=0.0))
    assert asyncio.run(retrying(flaky, Retry(first_s=1.0, jitter=0.0), sleep=flaky.sleep)) == "answer"
    assert flaky.slept == [17.0, 2.0]


def test_an_unreasonable_wait_ends_the_retries() -> None:
    flaky = Flaky(RequestRetryable("quota", retry_after_s=86_400.0))
    with pytest.raises(RetriesExhausted, match="86400 s"):
        asyncio.run(retrying(flaky, sleep=flaky.sleep))
    assert flaky.slept == []


def test_giving_up_tells_the_history() -> None:
    flaky = Flaky(*[RequestRetryable(f"error {index}") for index in range(9)])
    with pytest.raises(RequestFailed, match="attempt 1: error 0; attempt 2: error 1; attempt 3: error 2") as caught:
        asyncio.run(retrying(flaky, Retry(attempts=3), sleep=flaky.sleep))
    assert isinstance(caught.value, RetriesExhausted)
    assert caught.value.history == ("error 0", "error 1", "error 2")
    assert not isinstance(caught.value, RequestRetryable)
    assert len(flaky.slept) == 2


@pytest.mark.parametrize("error", [RequestFailed("400"), ValueError("ours")])
def test_what_trying_again_cannot_mend_is_not_tried_again(error: Exception) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        asyncio.run(retrying(flaky, sleep=flaky.sleep))
    assert flaky.slept == []


def test_impossible_settings_are_refused() -> None:
    for settings in ({"attempts": 0}, {"factor": 0.5}, {"jitter": 2.0}, {"first_s": -1.0}):
        with pytest.raises(InputError):
            Retry(**settings)  # type: ignore[arg-type]
