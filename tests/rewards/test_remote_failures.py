"""Remote reward models and servers that misbehave: a reason or a typed error, one value a step, never a zero."""

from __future__ import annotations

import asyncio
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.policies.servers import Behaviour, Reply, Server, serving
from tests.rewards.remote_peers import Peer, after, listed, pooling

from stepward.core import FAILURES, ContextOverflow, CountMismatch, InputError, RequestFailed, RewardModel, StepScores, Trajectory
from stepward.engine.retry import Retry
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import family_named
from stepward.rewards.load import load_reward_model
from stepward.rewards.remote import FORMS, RemoteModel, is_remote, load_remote
from stepward.testing.checkpoints import tiny_checkpoint, tokenizer_of

tokenizer_named = cache(tokenizer_of)

TRAJECTORY = Trajectory.from_texts("How many?", ["3 + 4 = 7.", "7 * 2 = 14.", "The answer is 14."])
FAST = Retry(attempts=4, first_s=0.0, jitter=0.0)
FAMILY = "qwen2.5-math-prm"
CONVENTION = family_named(FAMILY).convention


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(FAMILY, tmp_path_factory.mktemp("prm"))


@pytest.fixture(scope="module")
def local(folder: Path) -> DiscriminativeModel:
    return DiscriminativeModel.from_pretrained(folder)


def remote(url: str, endpoint: str = "", *, convention: Convention = CONVENTION, tokenizer: Any = None, **options: Any) -> RemoteModel:
    kind = "sglang" if endpoint == "score" else "vllm"
    return load_remote(f"{kind}:{url}/{endpoint}", tokenizer=tokenizer or tokenizer_named(FAMILY), convention=convention, retry=FAST, **options)


def score(behaviour: Behaviour, endpoint: str = "", trajectory: Trajectory = TRAJECTORY, **options: Any) -> tuple[StepScores, Server]:
    with serving(behaviour) as server:
        return asyncio.run(remote(server.url, endpoint, **options).score(trajectory)), server


def pooled(data: Any, **more: Any) -> Behaviour:
    """A pooling server that answers every request with these rows."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return listed(path) or (200, {}, json.dumps({"data": [{"index": 0, "object": "pooling", "data": data}], **more}))

    return behave


@pytest.mark.parametrize(
    "bad",
    [
        lambda _: (429, {"Retry-After": "0"}, "slow down"),
        lambda _: (500, {}, "broken"),
        lambda _: (503, {}, "starting"),
        lambda _: (200, {}, "{not json"),
        lambda _: (200, {}, "[1, 2]"),
        lambda _: (200, {"Content-Length": "1000", "Connection": "close"}, "cut off"),
    ],
    ids=["429", "500", "503", "not JSON", "a list", "closed connection"],
)
def test_passing_faults_are_tried_again_and_leave_no_trace_in_the_scores(folder: Path, local: DiscriminativeModel, bad: Any) -> None:
    scores, server = score(after(2, bad, pooling(Peer(folder, "score.0", "score.2"))))
    np.testing.assert_allclose(scores.values, asyncio.run(local.score(TRAJECTORY)).values, atol=1e-5)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "error", "n_requests"),
    [
        ((400, {}, '{"error": {"message": "Token id 99999 is out of vocabulary"}}'), "out of vocabulary", 1),
        ((401, {}, "who are you"), "answered 401: who are you", 1),
        ((422, {}, "no such field"), "no such field", 1),
        ((404, {}, '{"error": "The model `x` does not exist."}'), "does not exist.*which endpoints the server was started with", 1),
        ((500, {}, "broken"), "gave up after 4 of 4 attempts.*answered 500: broken", 4),
    ],
)
def test_refusals_are_final_and_say_why(reply: Reply, error: str, n_requests: int) -> None:
    with serving(lambda server, path, body: listed(path) or reply) as server, pytest.raises(RequestFailed, match=error):
        asyncio.run(remote(server.url).score(TRAJECTORY))
    assert len(server.requests) == n_requests


def test_context_overflow_has_its_own_error() -> None:
    with pytest.raises(ContextOverflow, match="maximum context length is 10"):
        score(lambda server, path, body: listed(path) or (400, {}, '{"error": {"message": "This model\'s maximum context length is 10 tokens."}}'))


@pytest.mark.parametrize("n_rows", [0, 1, 2, 4, 50])
def test_another_number_of_rows_than_steps_is_a_count_mismatch(n_rows: int) -> None:
    with pytest.raises(CountMismatch, match=rf"{n_rows} rows for \d+ tokens with 3 steps; .*step_tag_id"):
        score(pooled([[0.0, 1.0]] * n_rows))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([[0.0, 1.0], [0.0], [1.0, 0.0]], "rows have different lengths"),
        ([[0.0, 1.0, 2.0]] * 3, "gives 3 numbers a step, the convention reads 2"),
        ([[0.0, "1"], [0.0, 1.0], [1.0, 0.0]], "contain '1' where a number should be"),
        ([[0.0, True], [0.0, 1.0], [1.0, 0.0]], "contain True where a number"),
        ("AAAA!", "not base64"),
        ("AAAAAAA=", "not base64 of fp32"),
        ("AAAAAA==", "1 numbers, which are not rows of 2"),
        ([[0.0, 10**400], [0.0, 1.0], [1.0, 0.0]], "an integer of 401 digits"),
        ({"a": 1}, "are dict, not a list"),
        (None, "are NoneType, not a list"),
    ],
)
def test_values_of_another_form_are_refused(data: Any, reason: str) -> None:
    with pytest.raises((RequestFailed, CountMismatch), match=reason):
        score(pooled(data))


@pytest.mark.parametrize("answer", [{}, {"data": 3}, {"data": [1]}, {"data": []}, {"data": [{"index": 1, "data": []}]}, {"data": [{"data": []}]}])
def test_answers_for_other_inputs_than_ours_are_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(RequestFailed, match=r"no list of objects|1 inputs were sent"):
        score(lambda server, path, body: listed(path) or (200, {}, json.dumps(answer)))


def test_a_value_that_is_no_number_is_unscored_with_its_reason() -> None:
    for bad in (None, float("nan"), float("inf")):
        scores, _ = score(pooled([[0.0, 2.0], [bad, 0.0], [0.0, 1.0]]))
        assert np.isnan(scores.values).tolist() == [False, True, False]
        assert scores.reasons == (None, "the server's value is not a finite number", None)
        np.testing.assert_allclose(scores.values[[0, 2]], [1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))])


def test_a_probability_of_exactly_zero_is_a_score_and_shifts_nothing() -> None:
    scores, _ = score(pooled([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]]), sends="probabilities")
    np.testing.assert_allclose(scores.values, [0.0, 0.75, 1.0])
    assert scores.n_unscored == 0


def test_a_single_probability_of_exactly_zero_is_a_score_and_one_below_is_none() -> None:
    family = "skywork-o1-open-prm"
    options = {"convention": family_named(family).convention, "tokenizer": tokenizer_named(family), "sends": "probabilities"}
    scores, _ = score(pooled([[0.0], [0.75], [1.0]]), **options)
    np.testing.assert_allclose(scores.values, [0.0, 0.75, 1.0], atol=1e-12)
    assert score(pooled([[-0.5], [0.75], [1.5]]), **options)[0].n_failed == 2


@pytest.mark.parametrize(("scores", "unscored"), [([[0.0, 0.0]] * 3, 3), ([[0.5, 0.5], [None, None], [0.1, 0.9]], 1), ([[1.5, -0.5]] * 3, 3)])
def test_sglang_probabilities_that_do_not_sum_to_one_are_unscored(scores: Any, unscored: int) -> None:
    family = family_named("math-shepherd")
    options = {"convention": family.convention, "tokenizer": tokenizer_named("math-shepherd")}
    found, _ = score(lambda server, path, body: listed(path) or (200, {}, json.dumps({"scores": scores})), "score", **options)
    assert found.n_failed == unscored
    assert len(found) == 3


def test_sglang_failures_that_look_like_certainty_are_refused() -> None:
    """Where it fails, SGLang answers probs [1.0] with the label "Default"."""
    data = {"data": [{"index": 0, "label": "Default", "probs": [1.0], "num_classes": 1}]}
    model = "sglang:{url}/classify"
    with serving(lambda server, path, body: listed(path) or (200, {}, json.dumps(data))) as server, pytest.raises(RequestFailed, match="has 1 classes"):
        asyncio.run(load_remote(model.format(url=server.url), tokenizer=tokenizer_named(FAMILY), convention=CONVENTION).score(TRAJECTORY))


def test_no_step_costs_no_request() -> None:
    scores, server = score(pooled([]), trajectory=Trajectory.from_texts("How many?", []))
    assert len(scores) == 0
    assert not server.requests


def test_a_server_without_a_list_of_models_is_asked_without_a_name_and_a_stated_name_is_sent() -> None:
    rows = pooled([[0.0, 3.0]] * 3)
    _, silent = score(lambda server, path, body: (404, {}, "") if path == "/v1/models" else rows(server, path, body))
    assert "model" not in silent.requests[0][1]
    _, telling = score(rows)
    assert telling.requests[0][1]["model"] == "served"
    _, named = score(rows, model_name="mine", api_key="secret")
    assert named.requests[0][1]["model"] == "mine"
    assert named.keys == ["Bearer secret"]


def test_one_model_serves_several_event_loops_and_asks_about_the_server_in_each() -> None:
    with serving(pooled([[0.0, 3.0]] * 3)) as server:
        model = remote(server.url)
        found = [asyncio.run(model.score(TRAJECTORY)) for _ in range(2)]
    assert found[0] == found[1]
    assert server.gets == ["/v1/models"] * 2


def test_a_question_about_the_server_that_failed_is_asked_again() -> None:
    rows = pooled([[0.0, 3.0]] * 3)

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return (500, {}, "starting") if len(server.gets) <= 4 else rows(server, path, body)

    async def run(model: RewardModel) -> StepScores:
        with pytest.raises(RequestFailed, match="starting"):
            await model.score(TRAJECTORY)
        return await model.score(TRAJECTORY)

    with serving(behave) as server:
        assert asyncio.run(run(remote(server.url))).n_unscored == 0


def test_the_number_of_scores_is_the_number_of_steps_whatever_the_server_answers() -> None:
    """400 answers with something wrong at a random place: a typed failure or one value a step, NaN exactly where there is a reason."""
    draw = random.Random(0)
    solutions = [Trajectory.from_texts("q", [f"step {index}" for index in range(n)]) for n in (1, 2, 5)]
    junk: list[Any] = [None, True, -1, 10**30, 10**400, 1e308, "x", "", [], {}, [[]], [None], float("nan"), float("-inf"), [[0.1, 0.9]], {"index": 0}]

    def good(path: str, body: dict[str, Any]) -> Any:
        if path == "/pooling":
            return {"data": [{"index": 0, "data": [[0.3, -0.2] for _ in body["input"][0]]}], "usage": {"prompt_tokens": 7}}
        if path == "/v1/completions":
            top = {f"token_id:{index}": -1.0 for index in body.get("logprob_token_ids", [1, 2])}
            return {"choices": [{"index": index, "logprobs": {"top_logprobs": [top]}} for index, _ in enumerate(body["prompt"])], "usage": {}}
        if path == "/v1/score":
            return {"scores": [[0.4, 0.6] for _ in body["items"]], "usage": None}
        return {"data": [{"index": index, "probs": [0.1, 2.0]} for index, _ in enumerate(body["input"])], "usage": {"prompt_tokens": True}}

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return listed(path) or (200, {}, json.dumps(_spoiled(good(path, body), draw, junk)))

    shepherd = {"convention": family_named("math-shepherd").convention, "tokenizer": tokenizer_named("math-shepherd")}

    async def run(url: str) -> tuple[int, int]:
        models = [remote(url, "pooling"), remote(url, "classify"), remote(url, "completions", **shepherd), remote(url, "score", **shepherd)]
        n_scored = n_failed = 0
        for turn in range(400):
            trajectory = solutions[turn % 3]
            try:
                scores = await models[turn % 4].score(trajectory)
            except FAILURES:
                n_failed += 1
                continue
            n_scored += 1
            assert len(scores) == len(trajectory)
            assert all(np.isnan(value) == bool(reason) for value, reason in zip(scores.values, scores.reasons, strict=True))
        return n_scored, n_failed

    with serving(behave) as server:
        n_scored, n_failed = asyncio.run(run(server.url))
    assert min(n_scored, n_failed) > 80, "both happen"


def _spoiled(value: Any, draw: random.Random, junk: list[Any]) -> Any:
    """The value with one part, found by a random walk, replaced, removed or repeated."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(list(value))
        if draw.random() < 0.1:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: _spoiled(value[name], draw, junk)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        if draw.random() < 0.2:
            return value[:place] + value[place + 1 :] if draw.random() < 0.5 else [*value, value[place]]
        return [*value[:place], _spoiled(value[place], draw, junk), *value[place + 1 :]]
    return draw.choice(junk)


def test_fingerprints_name_what_decides_the_scores_and_not_the_address_of_a_named_model() -> None:
    one = remote("http://a", model_name="m")
    assert one.fingerprint == remote("http://b/v1/", model_name="m").fingerprint
    others = [
        remote("http://a"),
        remote("http://b"),
        remote("http://a", model_name="n"),
        remote("http://a", model_name="m", revision="2"),
        remote("http://a", "classify", model_name="m"),
        remote("http://a", "classify", model_name="m", granularity="outcome"),
        remote("http://a", model_name="m", convention=family_named("trl-token-classification").convention),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert isinstance(one, RewardModel)


def test_the_loader_takes_tokenizer_and_convention_from_a_folder(folder: Path) -> None:
    model = load_reward_model("vllm:http://a", tokenizer=folder)
    assert isinstance(model, RemoteModel)
    assert model.convention == CONVENTION
    with pytest.raises(InputError, match="--tokenizer"):
        load_reward_model("vllm:http://a")


def test_specifications_and_conventions_that_no_server_can_serve_are_refused() -> None:
    assert is_remote("vllm:http://a")
    assert not is_remote("prm:folder")
    for spec in ("vllm:localhost:8000", "vllm:", "tgi:http://a", "vllm:http://"):
        with pytest.raises(InputError, match=r"known forms: .*sglang:URL/v1/score") as refused:
            load_remote(spec, tokenizer=tokenizer_named(FAMILY), convention=CONVENTION)
        assert all(form in str(refused.value) for form in FORMS)
    for endpoint, family, options, reason in (
        ("completions", FAMILY, {}, "use another protocol"),
        ("classify", "math-shepherd", {}, "ask for completions"),
        ("pooling", "eurus-prm", {}, "load it locally"),
        ("completions", "pathfinder-prm", {}, "load it locally"),
        ("pooling", FAMILY, {"granularity": "outcome"}, "sequence classifiers"),
        ("score", FAMILY, {}, "use another protocol"),
        ("pooling", FAMILY, {"send": "bytes"}, "send must be one of"),
        ("pooling", FAMILY, {"sends": "odds"}, "sends must be one of"),
    ):
        with pytest.raises(InputError, match=reason):
            remote("http://a", endpoint, convention=family_named(family).convention, tokenizer=tokenizer_named(family), **options)
    with pytest.raises(InputError, match="sglang is asked at classify, score, not at pooling"):
        load_remote("sglang:http://a/pooling", tokenizer=tokenizer_named(FAMILY), convention=CONVENTION)


def test_a_convention_that_stops_at_the_first_error_abstains_behind_it() -> None:
    stops = Convention(marker="\n", after_error="stop")
    scores, _ = score(pooled([[0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]), convention=stops)
    assert [reason and reason.split(":")[0] for reason in scores.reasons] == [None, None, "abstained"]
    assert scores.first_error() == 1
