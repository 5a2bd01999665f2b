"""Judges on real policies: a tiny local model that writes nonsense, and a server that tells its likeliest tokens."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.servers import Behaviour, Server, serving
from tests.rewards.generative_parts import ALL, RUBRIC, solution

from stepward.core import ChoicePolicy, LogprobPolicy, Problem, Sampling, Step, StepScores, Trajectory, metered
from stepward.engine.retry import Retry
from stepward.policies.http import HttpPolicy
from stepward.policies.local import LocalPolicy
from stepward.policies.openai.top_logprobs import choices_among, read_top_logprobs
from stepward.rewards.generative import GenPRM, PairwiseJudge, load_judge
from stepward.rewards.generative.odds import read_odds
from stepward.rewards.generative.turns import turns_of
from stepward.testing import check_reward_model
from stepward.testing.fixtures import tiny_causal_lm

FAST = Retry(attempts=2, first_s=0.0, jitter=0.0)
SHORT = Sampling(temperature=1.0, max_tokens=12, seed=1)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalPolicy:
    return LocalPolicy.from_pretrained(tiny_causal_lm("llama", tmp_path_factory.mktemp("judge"), hidden=16, layers=1, max_tokens=6000))


@pytest.mark.parametrize("kind", ALL)
def test_nonsense_is_unscored_with_reasons(local: LocalPolicy, kind: str) -> None:
    options: dict[str, Any] = {"rubric": RUBRIC} if kind == "rubric" else {}
    with metered() as ledger:
        scores = asyncio.run(load_judge(kind, local, k=2, sampling=SHORT, **options).score(solution("1 + 1 = 2.", "So it is 2.")))
    assert len(scores) == 2
    unscored = np.isnan(scores.values)
    assert unscored.all(), f"a random model gave a verdict: {scores}"
    assert all(scores.reasons)
    assert ledger.usage == scores.usage
    assert (ledger.usage.policy_tokens, ledger.usage.policy_prefill) == (0, 0)
    assert min(ledger.usage.reward_tokens, ledger.usage.reward_written, ledger.usage.flops) > 0


def test_a_local_judge_keeps_the_protocol(local: LocalPolicy) -> None:
    assert check_reward_model(load_judge("one-pass", local, sampling=SHORT), causal=False)


def test_odds_of_a_local_policy_are_the_models(local: LocalPolicy) -> None:
    """Against a plain forward pass of transformers over prompt, text and word."""
    assert isinstance(local, LogprobPolicy)
    prefix = Trajectory(Problem("Is it so?"), (Step("Well,\n\n"), Step("is the step correct (Yes/No)?")))
    words = (" Yes, it is", " No")
    odds = asyncio.run(read_odds(local, prefix, words))
    expected = []
    for word in words:
        start = list(local.rendering.render(prefix).ids)
        ids = start + list(local.rendering.encode(word))
        with torch.no_grad():
            logprobs = local.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected.append(sum(float(logprobs[at - 1, ids[at]]) for at in range(len(start), len(ids))))
    assert (odds.good, odds.bad) == pytest.approx(expected, abs=1e-4)
    assert odds.share == pytest.approx(1 / (1 + math.exp(expected[1] - expected[0])), abs=1e-4)


def test_turns_come_from_the_chat_template(local: LocalPolicy) -> None:
    """The fixture's template writes "[role]", a line break, the content, </s> and a line break."""
    assert local.rendering.template == "chat"
    turns = turns_of(local)
    assert (turns.user, turns.assistant) == ("</s>\n[user]\n", "</s>\n[assistant]\n")
    tokenizer = local.tokenizer
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    dialogue = Trajectory(Problem("q"), (Step("a"), Step(turns.user + "r" + turns.assistant)))
    assert tokenizer.decode(list(local.rendering.render(dialogue).ids)) == whole
    assert GenPRM(local).turns == turns


# A server ------------------------------------------------------------------------------------------------------------------------------------------------


def judging(critique: str, top: dict[str, float], *, api: str = "completions") -> Behaviour:
    """Writes `critique` after the prompt; asked for one token, tells `top` as its likeliest ones."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        if path != f"/v1/{'completions' if api == 'completions' else 'chat/completions'}":
            return 404, {}, "{}"
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        text = critique if body["max_tokens"] > 1 else "?"
        row: dict[str, Any] = {"index": 0, "finish_reason": "stop", "stop_reason": None}
        if api == "completions":
            row |= {"text": text, "logprobs": {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": [top] if body["max_tokens"] == 1 else None}}
        else:
            listed = [{"token": token, "logprob": value} for token, value in top.items()]
            row |= {"message": {"content": text}, "logprobs": {"content": [{"token": text, "logprob": -1.0, "top_logprobs": listed}]}}
        return 200, {}, json.dumps({"choices": [row | {"index": index} for index in range(body["n"])], "usage": usage})

    return behave


def ask_server(behaviour: Behaviour, kind: str = "r-prm", *, api: str = "completions", **options: Any) -> tuple[StepScores, Server]:
    async def ask(url: str) -> StepScores:
        async with HttpPolicy(url, "judge", api=api, retry=FAST) as policy:
            assert isinstance(policy, ChoicePolicy)
            return await load_judge(kind, policy, **options).score(solution("a", "b"))

    with serving(behaviour) as server:
        return asyncio.run(ask(server.url)), server


CRITIQUE = "Analysis.\n\nVerification: Is the step correct (Yes/No)? Yes"


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_servers_likeliest_tokens_make_the_probability(api: str) -> None:
    top = {" Yes": math.log(0.6), " No": math.log(0.2), "Maybe": math.log(0.1)}
    scores, server = ask_server(judging(CRITIQUE, top, api=api), api=api)
    assert scores.values == pytest.approx([0.75, 0.75])
    assert scores.aspects["words"].tolist() == [0.0, 0.0]
    reading = [body for _, body in server.requests if body["max_tokens"] == 1]
    assert len(reading) == 2
    assert all(body["logprobs"] == 20 if api == "completions" else (body["logprobs"], body["top_logprobs"]) == (True, 20) for body in reading)
    written = reading[0]["prompt"] if api == "completions" else reading[0]["messages"][-1]["content"]
    assert written.endswith("Analysis.\n\nVerification: Is the step correct (Yes/No)?"), "read at the verdict's place"
    assert scores.usage.reward_written == 4 * 3


def test_a_missing_partner_takes_the_smallest_probability_told() -> None:
    scores, _ = ask_server(judging(CRITIQUE, {" Yes": math.log(0.8), "Hm": math.log(0.05), "So": math.log(0.02)}))
    assert scores.values == pytest.approx([0.8 / 0.82] * 2)


@pytest.mark.parametrize("top", [{}, {"Hm": -0.1}, {" Yes": -0.01}, {" Yes": -9999.0, " No": -9999.0}])
def test_a_server_that_tells_nothing_useful_is_read_by_words(top: dict[str, float]) -> None:
    scores, _ = ask_server(judging(CRITIQUE, top))
    assert scores.values.tolist() == [1.0, 1.0]
    assert scores.aspects["words"].tolist() == [1.0, 1.0]


def test_chat_servers_that_cannot_go_on_are_read_by_words() -> None:
    async def ask(url: str) -> list[StepScores]:
        async with HttpPolicy(url, "judge", api="chat", turn="none", retry=FAST) as policy:
            judges = [load_judge("stepwiser", policy), load_judge("thinkprm", policy, variant="card")]
            return [await judge.score(solution("a", "b")) for judge in judges]

    with serving(judging("So \\boxed{Negative}", {"x": -1.0}, api="chat")) as server:
        by_words, led = asyncio.run(ask(server.url))
    assert by_words.values.tolist() == [0.0, 0.0]
    assert "cannot continue a partial assistant turn" in str(led.reasons[0]), "a lead needs a server that goes on"


def test_a_server_that_is_gone_leaves_reasons() -> None:
    scores, _ = ask_server(lambda *_: (500, {}, "broken"), "critic")
    assert scores.n_failed == 2
    assert "answered 500" in str(scores.reasons[0])


def test_pairs_through_a_server() -> None:
    async def ask(url: str) -> float:
        async with HttpPolicy(url, "judge", retry=FAST) as policy:
            return (await PairwiseJudge(policy).compare(Problem("p"), solution("a"), solution("b"))).value

    with serving(judging("<answer>[[A]]</answer>", {"A": math.log(0.6), "B": math.log(0.4)})) as server:
        assert asyncio.run(ask(server.url)) == pytest.approx(0.5), "the same odds for the first place in both orders"


def test_choices_among_tokens() -> None:
    def among(top: dict[str, float], choices: Sequence[str]) -> list[float]:
        return [math.exp(value) for value in choices_among({token: math.log(p) for token, p in top.items()}, choices)]

    assert among({"Yes": 0.5, "Yes}": 0.25, "No": 0.125}, ["Yes", "No"]) == pytest.approx([0.75, 0.125])
    assert among({"correct": 0.4, "in": 0.2, "inc": 0.1, "i": 0.1}, ["correct", "incorrect"]) == pytest.approx([0.4, 0.4]), "its beginnings speak for a word"
    assert among({"Yes": 0.5, "Not": 0.3, "None": 0.1, "N": 0.05}, ["Yes", "No"]) == pytest.approx([0.5, 0.05]), "other words do not"
    assert among({" ": 0.9, " Yes": 0.05, "x": 0.01}, [" Yes", " No"]) == pytest.approx([0.05, 0.01]), "what begins both speaks for neither"
    for top in ({"Hm": 0.9}, {}, {"": 0.5}, {"Yes": 0.99}, {" ": 0.9, "Yes": 0.05}):  # of a list that ends with Yes, No may be as likely: not 0.5, unknown
        assert all(math.isnan(value) for value in choices_among({token: math.log(p) for token, p in top.items()}, ["Yes", "No"]))
    assert choices_among({"Yes": -math.inf, "No": 0.0}, ["Yes", "No"])[1] == 0.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["choices", "logprobs", "content", "top_logprobs", "token", "logprob", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["choices", "x"]), json_values, max_size=2))
def test_any_answer_can_be_read_for_top_tokens(answer: dict[str, Any]) -> None:
    top = read_top_logprobs(answer)
    assert all(isinstance(token, str) and not math.isnan(value) for token, value in top.items())
    assert len(choices_among(top, ["Yes", "No"])) == 2


def test_answers_of_servers_are_read() -> None:
    completion = {"choices": [{"text": "x", "logprobs": {"top_logprobs": [{" Yes": -0.5, " No": -1.0}]}}]}
    chat = {"choices": [{"logprobs": {"content": [{"token": "x", "top_logprobs": [{"token": " Yes", "logprob": -0.5}, {"token": " No", "logprob": -1}]}]}}]}
    assert read_top_logprobs(completion) == read_top_logprobs(chat) == {" Yes": -0.5, " No": -1.0}
    assert read_top_logprobs({"choices": [{"logprobs": None}]}) == {}


def test_a_folder_is_a_judge(tmp_path: Path) -> None:
    folder = tiny_causal_lm("qwen2", tmp_path / "m", hidden=16, layers=1, max_tokens=4000)
    model = load_judge("critic", f"hf:{folder}", sampling=SHORT)
    assert len(asyncio.run(model.score(solution("a")))) == 1
