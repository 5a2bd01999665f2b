"""The HTTP policy against servers with good and bad manners."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.policies.servers import Behaviour, Server, chat, completion, serving

from stepward.core import ContextOverflow, InputError, Policy, Problem, RequestFailed, Sampling, Step, Trajectory, Until, metered
from stepward.engine.retry import Retry
from stepward.policies.http import HttpPolicy
from stepward.policies.load import load_policy

SOLUTION = "3 + 4 = 7.\n\n7 * 2 = 14.\n\nThe answer is 14."
STEPS = ["3 + 4 = 7.", "7 * 2 = 14.", "The answer is 14."]
START = Trajectory(Problem("How many?"))
FAST = Retry(attempts=4, first_s=0.0, jitter=0.0)


def sample(behaviour: Behaviour, *, prefix: Trajectory = START, n: int = 1, until: Until = Until.STEP, draw: int = 0, **options: Any) -> tuple[Any, Server]:
    """What the policy makes of the server's answers."""
    sampling = options.pop("sampling", Sampling())

    async def ask(url: str) -> list[Trajectory]:
        async with HttpPolicy(url, "some-model", retry=options.pop("retry", FAST), **options) as policy:
            return await policy.sample(prefix, n, until=until, sampling=sampling, draw=draw)

    with serving(behaviour) as server:
        return asyncio.run(ask(server.url)), server


def write_stepwise(behaviour: Behaviour, **options: Any) -> tuple[Trajectory, Server]:
    async def go(url: str) -> Trajectory:
        async with HttpPolicy(url, "some-model", retry=FAST, **options) as policy:
            trajectory = START
            while not trajectory.ended:
                [trajectory] = await policy.sample(trajectory)
            return trajectory

    with serving(behaviour) as server:
        return asyncio.run(go(server.url)), server


@pytest.mark.parametrize("tells_stop", [True, False], ids=["vLLM-like", "OpenAI-like"])
def test_step_by_step_gives_the_whole_solution(tells_stop: bool) -> None:
    trajectory, server = write_stepwise(completion(SOLUTION, tells_stop=tells_stop))
    assert [step.text for step in trajectory.steps] == STEPS
    assert trajectory.text == SOLUTION
    assert trajectory.finished
    assert not trajectory.truncated
    prompts = [body["prompt"] for _, body in server.requests if "stop" in body or not tells_stop]
    assert prompts[-1] == "How many?\n" + "\n\n".join(STEPS[:2]) + "\n\n", "the prefix text was not continued"


def test_a_silent_server_is_asked_without_stop_strings_from_then_on() -> None:
    _, server = write_stepwise(completion(SOLUTION, tells_stop=False))
    assert ["stop" in body for _, body in server.requests] == [True, False, False, False]


def test_a_server_that_tells_is_asked_once_a_step() -> None:
    _, server = write_stepwise(completion(SOLUTION, tells_stop=True))
    assert len(server.requests) == 3
    assert all(body["stop"] == ["\n\n"] for _, body in server.requests)


def test_until_end_splits_into_steps_with_their_tokens() -> None:
    [trajectory], _ = sample(completion(SOLUTION, tells_stop=True), until=Until.END)
    assert [step.text for step in trajectory.steps] == STEPS
    assert [step.n_tokens for step in trajectory.steps] == [12, 13, 17], "one token a character, separators in their step"
    assert [step.logprob for step in trajectory.steps] == [-6.0, -6.5, -8.5]


def test_length_is_truncation_not_an_end() -> None:
    [step], _ = sample(completion(SOLUTION, tells_stop=True), sampling=Sampling(max_step_tokens=5))
    assert (step.text, step.finished, step.truncated) == ("3 + 4", False, True)
    [whole], _ = sample(completion(SOLUTION, tells_stop=True), until=Until.END, sampling=Sampling(max_tokens=20))
    assert (whole.text, whole.finished, whole.truncated) == (SOLUTION[:20], False, True)
    [few], _ = sample(completion(SOLUTION, tells_stop=True), until=Until.END, sampling=Sampling(max_steps=2))
    assert (len(few), few.truncated) == (2, True)
    [long_step], _ = sample(completion(SOLUTION, tells_stop=True), until=Until.END, sampling=Sampling(max_step_tokens=12))
    assert ([step.text for step in long_step.steps], long_step.truncated) == ([STEPS[0], "7 * 2 = 14.\n"], True)


def test_limits_reached_before_cost_nothing() -> None:
    full = Trajectory(START.problem, (Step("a", "\n\n", n_tokens=9),))
    [same], server = sample(completion(SOLUTION, tells_stop=True), prefix=full, sampling=Sampling(max_tokens=9))
    assert same == Trajectory(full.problem, full.steps, truncated=True)
    assert not server.requests


def test_a_leading_separator_is_no_step() -> None:
    [trajectory], _ = sample(completion("\n\n" + SOLUTION, tells_stop=True))
    assert [step.written for step in trajectory.steps] == ["\n\n" + STEPS[0] + "\n\n"]


def test_missing_choices_are_asked_for_with_their_own_seeds() -> None:
    trajectories, server = sample(completion(SOLUTION, tells_stop=True, most=2), n=5, draw=10, sampling=Sampling(seed=100))
    assert len(trajectories) == 5
    assert [(body["n"], body["seed"]) for _, body in server.requests] == [(5, 110), (3, 112), (1, 114)]


def test_usage_is_the_servers() -> None:
    with metered() as ledger:
        sample(completion(SOLUTION, tells_stop=True), n=3)
    usage = ledger.usage
    n_prompt = len("How many?\n")
    assert (usage.policy_tokens, usage.policy_prefill, usage.policy_cached, usage.calls) == (3 * len(STEPS[0]), n_prompt - 2, 2, 1)


def test_chat_continues_the_open_turn() -> None:
    trajectory, server = write_stepwise(chat(SOLUTION))
    assert [step.text for step in trajectory.steps] == STEPS
    assert [path for path, _ in server.requests][:2] == ["/v1/completions", "/v1/chat/completions"], "auto tries completions once"
    last = server.requests[-1][1]
    assert last["messages"][-1] == {"role": "assistant", "content": "\n\n".join(STEPS[:2]) + "\n\n"}
    assert (last["continue_final_message"], last["add_generation_prompt"]) == (True, False)
    assert trajectory.steps[2].logprob == -0.25 * len(STEPS[2])


def test_chat_that_cannot_continue_says_so() -> None:
    prefix = Trajectory(START.problem, (Step(STEPS[0], "\n\n"),))
    with pytest.raises(InputError, match="cannot continue a partial assistant turn"):
        sample(chat(SOLUTION), prefix=prefix, api="chat", turn="none")
    with pytest.raises(RequestFailed, match="continue_final_message"):
        sample(chat(SOLUTION, continues=False), prefix=prefix, api="chat")


def test_waits_as_told_after_429() -> None:
    good = completion(SOLUTION, tells_stop=True)

    def busy_twice(server: Server, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (429, {"Retry-After": "0"}, "slow down") if len(server.requests) <= 2 else good(server, path, body)

    [trajectory], server = sample(busy_twice)
    assert trajectory.text == STEPS[0] + "\n\n"
    assert len(server.requests) == 3


def test_a_long_retry_after_ends_the_retries() -> None:
    with pytest.raises(RequestFailed, match="asked to wait 99 s"):
        sample(lambda *_: (429, {"Retry-After": "99"}, "no"), retry=Retry(first_s=0.0, patience_s=1.0))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, {}, "broken"), "answered 500: broken"),
        ((200, {}, "{not json"), "malformed JSON"),
        ((200, {}, "[]"), "list instead of an object"),
        ((200, {}, "{}"), "no choices"),
        ((200, {}, json.dumps({"choices": [{"text": 3, "finish_reason": "stop"}]})), "malformed choice"),
        ((200, {}, json.dumps({"choices": [{"text": "a"}]})), "malformed choice"),
        ((401, {}, "who are you"), "answered 401: who are you"),
    ],
)
def test_failures_carry_their_reason(reply: tuple[int, dict[str, str], str], reason: str) -> None:
    with pytest.raises(RequestFailed, match=reason):
        sample(lambda *_: reply)


def test_server_errors_are_retried_and_refusals_are_not() -> None:
    for status, expected in ((500, 4), (403, 1)):
        seen: list[int] = []

        def refuse(server: Server, path: str, body: dict[str, Any], status: int = status, seen: list[int] = seen) -> tuple[int, dict[str, str], str]:
            seen.append(status)
            return status, {}, ""

        with pytest.raises(RequestFailed):
            sample(refuse)
        assert len(seen) == expected


def test_a_slow_server_is_a_timeout() -> None:
    def hang(server: Server, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        server.released.wait(10)
        return 200, {}, "{}"

    with pytest.raises(RequestFailed, match=r"did not answer within 0\.05 s"):
        sample(hang, timeout_s=0.05, retry=Retry(attempts=1))


def test_nobody_at_home_is_a_failure() -> None:
    with serving(lambda *_: (500, {}, "")) as server:
        url = server.url

    async def ask() -> None:
        async with HttpPolicy(url, "m", retry=Retry(attempts=2, first_s=0.0)) as policy:
            await policy.sample(START)

    with pytest.raises(RequestFailed, match="is the server running"):
        asyncio.run(ask())


def test_context_overflow_has_its_own_error() -> None:
    with pytest.raises(ContextOverflow, match="maximum context length"):
        sample(lambda *_: (400, {}, "This model's maximum context length is 10 tokens"))


def test_one_policy_serves_several_event_loops_without_being_closed() -> None:
    with serving(completion(SOLUTION, tells_stop=True)) as server:
        policy = HttpPolicy(server.url, "m", api_key="secret")
        texts = [asyncio.run(policy.sample(START))[0].text for _ in range(2)]
        assert server.keys == ["Bearer secret"] * 2
    assert texts == [STEPS[0] + "\n\n"] * 2


def test_concurrency_is_limited() -> None:
    good = completion(SOLUTION, tells_stop=True)
    running: list[int] = []
    most: list[int] = []

    def count(server: Server, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        running.append(1)
        most.append(len(running))
        reply = good(server, path, body)
        running.pop()
        return reply

    async def ask(url: str) -> None:
        async with HttpPolicy(url, "m", concurrency=2) as policy:
            await asyncio.gather(*(policy.sample(START, draw=draw) for draw in range(12)))

    with serving(count) as server:
        asyncio.run(ask(server.url))
    assert len(most) == 12
    assert max(most) <= 2


def test_fingerprint_names_the_model_not_the_address() -> None:
    one, other = HttpPolicy("http://a/v1", "m"), HttpPolicy("http://b/v1", "m")
    assert isinstance(one, Policy)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != HttpPolicy("http://a/v1", "m", revision="2").fingerprint != HttpPolicy("http://a/v1", "n").fingerprint


def test_bad_arguments_are_refused() -> None:
    for arguments, options in (
        (("localhost:8000", "m"), {}),
        (("http://a", ""), {}),
        (("http://a", "m"), {"api": "grpc"}),
        (("http://a", "m"), {"separator": ""}),
    ):
        with pytest.raises(InputError):
            HttpPolicy(*arguments, **options)
    for options in ({"n": 0}, {"prefix": Trajectory(START.problem, finished=True)}, {"prefix": Trajectory(Problem("look", images=("a.png",)))}):
        with pytest.raises(InputError):
            sample(completion(SOLUTION, tells_stop=True), **options)


def test_load_policy_reads_addresses_and_lists_the_forms() -> None:
    assert isinstance(load_policy("https://host/v1", model_name="m"), HttpPolicy)
    with pytest.raises(InputError, match="--model-name"):
        load_policy("http://host/v1")
    for spec in ("tinny", "hf:", "scripted:chess", ""):
        with pytest.raises(InputError, match="scripted:grade-school"):
            load_policy(spec)
    with pytest.raises(InputError, match="belongs to http"):
        load_policy("tiny", model_name="m")
