"""The HTTP policy on texts whose tokens are hard to tell: characters of several tokens, malformed UTF-8, stop strings inside tokens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.policies.servers import Reply, Server, serving

from stepward.core import ContextOverflow, InputError, Problem, Sampling, Trajectory, Until
from stepward.engine.retry import Retry
from stepward.policies.http import HttpPolicy
from stepward.policies.openai.choice import token_starts

BAD = "\ufffd"


def sample(row: dict[str, Any], *, prompt: str = "How many?", until: Until = Until.END, **limits: int) -> tuple[Trajectory, Server]:
    """What the policy makes of one choice of a server that reports stop reasons as vLLM does."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return 200, {}, json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "stop_reason": None, **row}]})

    async def ask(url: str) -> list[Trajectory]:
        async with HttpPolicy(url, "m", retry=Retry(attempts=1)) as policy:
            return await policy.sample(Trajectory(Problem(prompt)), until=until, sampling=Sampling(**limits))

    with serving(behave) as server:
        return asyncio.run(ask(server.url))[0], server


def logprobs(*pieces: str) -> dict[str, Any]:
    return {"tokens": list(pieces), "token_logprobs": [-1.0] * len(pieces)}


@pytest.mark.parametrize(
    ("text", "pieces", "starts"),
    [
        ("3 + 4", ["3", " +", " 4"], (0, 1, 3)),
        ("🧮 2", ["", "", "🧮", " 2"], (0, 0, 0, 1)),  # the character shows with its last token
        (f"{BAD}P`{BAD}les", ["", "", "P", "`", "", "les"], (0, 0, 0, 2, 3, 3)),  # bytes that no token completes
        (" Tom has", ["Tom", "has"], (0, 4)),  # SentencePiece, decoded token by token
        ("3 + 4", ["3", " +", " 4", "\n\nSo"], (0, 1, 3, 5)),  # the rest of a stop string's last token
        ("3 + 4", ["3", " +", " 4", "</s>"], (0, 1, 3, 5)),
        ("pla", ["plan"], (0,)),  # a stop string inside the token
        ("", ["</s>"], (0,)),
        ("abc", ["a", "x"], None),
        ("abc", ["b"], None),
    ],
)
def test_where_tokens_start_in_a_text(text: str, pieces: list[str], starts: tuple[int, ...] | None) -> None:
    assert token_starts(text, pieces) == starts


def test_bytes_that_make_no_character_do_not_shift_the_tokens_of_later_steps() -> None:
    text = f"{BAD}3 + 4{BAD}\n\n= 7"
    trajectory, _ = sample({"text": text, "logprobs": logprobs("", "", "3", " +", " 4", "", "\n\n", "=", " 7", "</s>")})
    assert trajectory.text == text
    assert [step.n_tokens for step in trajectory.steps] == [7, 3]
    assert [step.logprob for step in trajectory.steps] == [-7.0, -3.0]


def test_an_overlong_step_is_cut_from_what_was_written_not_from_the_tokens_own_texts() -> None:
    trajectory, _ = sample({"text": f"a{BAD}b{BAD}cd", "logprobs": logprobs("a", "", "b", "", "c", "d")}, max_step_tokens=4)
    assert (trajectory.text, trajectory.truncated, trajectory.steps[0].n_tokens) == (f"a{BAD}b", True, 4)


def test_tokens_that_do_not_make_up_the_text_are_counted_where_there_is_one_step_only() -> None:
    one, _ = sample({"text": "a b", "stop_reason": "\n\n", "logprobs": logprobs("a", "?", "b", "\n\n")}, until=Until.STEP)
    assert [(step.n_tokens, step.logprob) for step in one.steps] == [(4, -4.0)]
    two, _ = sample({"text": "a b\n\nc", "logprobs": logprobs("a", "?", "b", "\n\n", "c")})
    assert [(step.n_tokens, step.logprob) for step in two.steps] == [(None, None)] * 2


def test_a_lone_surrogate_is_sent_as_a_question_mark() -> None:
    _, server = sample({"text": "ok"}, prompt="lone \ud800 surrogate")
    assert server.requests[0][1]["prompt"] == "lone ? surrogate\n"


def test_a_prompt_that_fills_the_context_to_the_last_token_is_an_overflow() -> None:
    """What vLLM says then is that max_tokens, which nobody set to 0, must be at least 1."""
    message = "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"

    async def ask(url: str) -> None:
        async with HttpPolicy(url, "m") as policy:
            await policy.sample(Trajectory(Problem("long")))

    with serving(lambda *_: (400, {}, json.dumps({"error": {"message": message}}))) as server, pytest.raises(ContextOverflow, match="got 0"):
        asyncio.run(ask(server.url))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="is not an address"):
        HttpPolicy("http://[::1/v1", "m")
