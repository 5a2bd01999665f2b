"""Remote reward models: every protocol gives the local model's scores, from a server that only knows ids."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.policies.servers import Behaviour, Reply, Server, serving
from tests.rewards.remote_peers import Peer, classify, completions, pooling, token_scores

from stepward.cli.parity_cases import awkward_solutions
from stepward.core import InputError, RewardModel, StepScores, Trajectory, metered
from stepward.engine.loop import run_sync
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import family_named
from stepward.rewards.head_weights import token_ids
from stepward.rewards.remote import RemoteModel, load_remote
from stepward.rewards.remote import Server as Remote
from stepward.rewards.remote.completions import CompletionsModel
from stepward.rewards.remote.pooling import PoolingModel
from stepward.testing.checkpoints import tiny_checkpoint
from stepward.testing.reward_model import check_reward_model

HEADS = {
    "qwen2.5-math-prm": ("score.0", "score.2"),
    "trl-token-classification": ("score",),
    "skywork-o1-open-prm": ("v_head.summary",),
    "reasoneval-7b": ("score_head",),
    "math-shepherd": (),
    "rlhflow-mistral": (),
    "fover": (),
}
SOLUTIONS = awkward_solutions(14)


class Served:
    """A family's tiny checkpoint, the local model, and what a server has of it."""

    def __init__(self, family: str, folder: Path) -> None:
        self.folder = tiny_checkpoint(family, folder)
        self.convention = family_named(family).convention
        self.local = DiscriminativeModel.from_pretrained(folder, convention=self.convention)
        self.peer = Peer(folder, *HEADS[family])

    def remote(self, spec: str, **options: Any) -> RemoteModel:
        return load_remote(spec, tokenizer=self.local.tokenizer, convention=self.convention, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root, made = tmp_path_factory.mktemp("served"), {}

    def get(family: str) -> Served:
        if family not in made:
            made[family] = Served(family, root / family)
        return made[family]

    return get


def score_all(model: RewardModel, trajectories: list[Trajectory]) -> list[StepScores]:
    async def run() -> list[StepScores]:
        return await asyncio.gather(*(model.score(trajectory) for trajectory in trajectories))

    return asyncio.run(run())


def check_equal(one: Served, behaviour: Behaviour, spec: str, **options: Any) -> Server:
    """The remote scores are the local ones, aspects included. `spec` has {url}."""
    with serving(behaviour) as server:
        found = score_all(one.remote(spec.format(url=server.url), **options), SOLUTIONS)
    for expected, scores in zip(score_all(one.local, SOLUTIONS), found, strict=True):
        np.testing.assert_allclose(scores.values, expected.values, atol=1e-5)
        assert scores.aspects.keys() == expected.aspects.keys()
        for name, values in expected.aspects.items():
            np.testing.assert_allclose(scores.aspects[name], values, atol=1e-5)
        assert (scores.scale, scores.threshold) == (expected.scale, expected.threshold)
        assert scores.reasons == expected.reasons
    spread = np.ptp(np.concatenate([scores.values[~np.isnan(scores.values)] for scores in found]))
    assert spread > 0.2, "the checkpoint's scores must differ for this to mean anything"
    return server


@pytest.mark.parametrize("family", ["qwen2.5-math-prm", "trl-token-classification", "skywork-o1-open-prm", "reasoneval-7b"])
def test_pooling_without_a_step_tag_reads_the_rows_of_the_positions(served: Any, family: str) -> None:
    server = check_equal(served(family), pooling(served(family).peer), "vllm:{url}")
    assert {path for path, _ in server.requests} == {"/pooling"}
    assert len(server.requests) == sum(len(solution) > 0 for solution in SOLUTIONS), "one request a solution"
    assert server.gets == ["/v1/models"], "asked once"


@pytest.mark.parametrize("family", ["qwen2.5-math-prm", "trl-token-classification", "skywork-o1-open-prm"])
def test_pooling_with_a_step_tag_reads_the_rows_of_the_tags_that_are_ours(served: Any, family: str) -> None:
    """The newline that marks steps of the last two also ends their prompts and stands in their steps: rows of these must not be taken for steps."""
    one = served(family)
    check_equal(one, pooling(one.peer, tag=int(one.local.encoder(SOLUTIONS[1]).ids[-1])), "vllm:{url}/pooling")


def test_numbers_as_base64_are_the_same_numbers(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    with serving(pooling(one.peer)) as server:
        model = PoolingModel(Remote(server.url), one.local.tokenizer, one.convention, numbers="base64")
        found = score_all(model, SOLUTIONS[:8])
    assert server.requests[0][1]["encoding_format"] == "base64"
    for scores, expected in zip(found, score_all(one.local, SOLUTIONS[:8]), strict=True):
        np.testing.assert_allclose(scores.values, expected.values, atol=1e-5)


def test_a_server_that_sends_probabilities_whatever_it_is_asked_is_found_out_once(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    with serving(pooling(one.peer, always_activates=True)) as server:
        model = one.remote(f"vllm:{server.url}")
        for solution in SOLUTIONS[1:]:
            [scores] = score_all(model, [solution])
            np.testing.assert_allclose(scores.values, asyncio.run(one.local.score(solution)).values, atol=1e-5)
    assert [body["use_activation"] for _, body in server.requests] == [False, True, *[False] * (len(SOLUTIONS) - 2)], "asked both ways once, to compare"


def test_a_server_whose_answers_move_in_their_last_digits_is_found_out_all_the_same(served: Any) -> None:
    """Batches that other requests share change the last bits of a server's numbers; probabilities must not pass for logits because of that."""
    one = served("qwen2.5-math-prm")
    exact, draw = pooling(one.peer, always_activates=True), np.random.default_rng(0)

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        status, headers, text = exact(server, path, body)
        answer = json.loads(text)
        if path == "/pooling":
            for item in answer["data"]:
                goods = [min(max(good + draw.uniform(-1e-3, 1e-3), 0.0), 1.0) for _, good in item["data"]]
                item["data"] = [[1.0 - good, good] for good in goods]
        return status, headers, json.dumps(answer)

    with serving(behave) as server:
        found = score_all(one.remote(f"vllm:{server.url}"), SOLUTIONS)
    for scores, expected in zip(found, score_all(one.local, SOLUTIONS), strict=True):
        np.testing.assert_allclose(scores.values, expected.values, atol=2e-3)


def test_a_value_that_is_no_number_does_not_hide_that_the_others_are_probabilities(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    exact = pooling(one.peer, always_activates=True)
    [trajectory] = [solution for solution in SOLUTIONS if len(solution) == 30]
    first = int(one.local.encoder(trajectory).read[0])

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        status, headers, text = exact(server, path, body)
        answer = json.loads(text)
        if path == "/pooling":
            answer["data"][0]["data"][first] = [None, None]
        return status, headers, json.dumps(answer)

    with serving(behave) as server:
        [scores] = score_all(one.remote(f"vllm:{server.url}"), [trajectory])
    assert np.flatnonzero(np.isnan(scores.values)).tolist() == [0]
    np.testing.assert_allclose(scores.values[1:], asyncio.run(one.local.score(trajectory)).values[1:], atol=1e-5)


def test_probabilities_of_a_single_value_have_to_be_announced(served: Any) -> None:
    one = served("skywork-o1-open-prm")
    check_equal(one, pooling(one.peer, always_activates=True), "vllm:{url}", sends="probabilities")


@pytest.mark.parametrize("family", ["qwen2.5-math-prm", "skywork-o1-open-prm"])
def test_classify_sends_growing_prefixes_in_one_request(served: Any, family: str) -> None:
    server = check_equal(served(family), classify(served(family).peer), "vllm:{url}/classify")
    for _, body in server.requests:
        lengths = [len(ids) for ids in body["input"]]
        assert lengths == sorted(lengths), "shortest first, so that the server's prefix cache can help"
        assert all(longer[: len(shorter)] == shorter for shorter, longer in zip(body["input"], body["input"][1:], strict=False))


def test_sglang_classify_takes_one_sequence_a_request_and_softmax_is_undone(served: Any) -> None:
    one = served("reasoneval-7b")
    server = check_equal(one, classify(one.peer, sglang=True), "sglang:{url}")
    assert {path for path, _ in server.requests} == {"/v1/classify"}
    with pytest.raises(InputError, match="which is 1 always"):
        served("skywork-o1-open-prm").remote("sglang:http://host")


def test_an_outcome_model_fills_the_last_step_and_abstains_at_the_others(served: Any) -> None:
    one = served("trl-token-classification")
    with serving(classify(one.peer)) as server:
        found = score_all(one.remote(f"vllm:{server.url}/classify", granularity="outcome"), SOLUTIONS)
    for scores, expected in zip(found, score_all(one.local, SOLUTIONS), strict=True):
        assert len(scores) == len(expected)
        if len(scores):
            np.testing.assert_allclose(scores.values[-1], expected.values[-1], atol=1e-5)
            assert np.isnan(scores.values[:-1]).all()
            assert scores.n_unscored - scores.n_failed == len(scores) - 1, "abstentions"
    assert all(len(body["input"]) == 1 for _, body in server.requests)


@pytest.mark.parametrize(
    ("family", "endpoint", "behaviour"),
    [
        ("math-shepherd", "vllm:{url}", completions),
        ("rlhflow-mistral", "vllm:{url}", completions),
        ("rlhflow-mistral", "vllm:{url}/generative_scoring", lambda peer: token_scores(peer, sglang=False)),
        ("fover", "sglang:{url}", lambda peer: token_scores(peer, sglang=True)),
        ("math-shepherd", "sglang:{url}", lambda peer: token_scores(peer, sglang=True)),
    ],
)
def test_verdict_tokens_are_a_softmax_over_the_verdicts_alone(served: Any, family: str, endpoint: str, behaviour: Any) -> None:
    server = check_equal(served(family), behaviour(served(family).peer), endpoint)
    assert len(server.requests) == sum(len(solution) > 0 for solution in SOLUTIONS), "all steps of a solution in one request"


def test_prompt_logprobs_give_what_they_tell_and_the_rest_is_asked_for(served: Any) -> None:
    one = served("math-shepherd")
    with serving(completions(one.peer)) as server:
        ids = token_ids(one.convention, one.local.tokenizer)
        model = CompletionsModel(Remote(server.url), one.local.tokenizer, one.convention, token_ids=ids, reading="prompt")
        found = score_all(model, SOLUTIONS)
    for scores, expected in zip(found, score_all(one.local, SOLUTIONS), strict=True):
        np.testing.assert_allclose(scores.values, expected.values, atol=1e-5)
    asked = [body for _, body in server.requests if "prompt_logprobs" in body]
    assert len(asked) == sum(len(solution) > 0 for solution in SOLUTIONS)
    assert len(server.requests) > len(asked), "some verdicts are not among the 20 likeliest tokens of a random model"


def test_a_server_without_chosen_tokens_is_asked_with_a_bias_that_cancels(served: Any) -> None:
    one = served("math-shepherd")
    server = check_equal(one, completions(one.peer, top=2, knows_ids=False), "vllm:{url}")
    assert any("logit_bias" in body for _, body in server.requests)


def test_what_a_server_does_not_tell_is_unscored_never_zero(served: Any) -> None:
    one = served("math-shepherd")
    for behaviour in (completions(one.peer, top=1, knows_ids=False, bias_shows=False), completions(one.peer, knows_ids=False, names_ids=False)):
        with serving(behaviour) as server:
            found = score_all(one.remote(f"vllm:{server.url}"), SOLUTIONS[1:7])
        for scores in found:
            assert all(np.isnan(value) == bool(reason) for value, reason in zip(scores.values, scores.reasons, strict=True))
        reasons = {reason for scores in found for reason in scores.reasons if reason}
        assert reasons == {"the server does not tell the log-probabilities of '▁+', '▁-' at this step by token id"}


def test_steps_beyond_the_servers_context_are_unscored_like_those_beyond_the_conventions(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    trajectory = Trajectory.from_texts("Tom has 3 apples", ["one is good"] * 12)
    with serving(pooling(one.peer, max_model_len=100)) as server:
        [scores] = score_all(one.remote(f"vllm:{server.url}"), [trajectory])
    kept = int((~np.isnan(scores.values)).sum())
    assert 0 < kept < 12
    assert scores.reasons[kept:] == ("does not fit the context of 100 tokens",) * (12 - kept)
    np.testing.assert_allclose(scores.values[:kept], asyncio.run(one.local.score(trajectory)).values[:kept], atol=1e-5)
    assert len(server.requests[0][1]["input"][0]) <= 100


def test_text_is_sent_where_asked_and_refused_where_it_would_be_read_otherwise(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    plain = Trajectory.from_texts("How many?", ["3 + 4 = 7.", "The answer is 7."])
    spelled = Trajectory.from_texts("How many?", ["a step that says <extra_0> itself"])
    with serving(pooling(one.peer)) as server:
        model = one.remote(f"vllm:{server.url}", send="text")
        [scores] = score_all(model, [plain])
        np.testing.assert_allclose(scores.values, asyncio.run(one.local.score(plain)).values, atol=1e-5)
        with pytest.raises(Exception, match="would be read as other tokens"):
            score_all(model, [spelled])
        with pytest.raises(InputError, match="takes token ids"):
            served("math-shepherd").remote(f"sglang:{server.url}", send="text")
        with pytest.raises(InputError, match="puts a BOS before texts"):
            one.remote(f"sglang:{server.url}", send="text")
    assert all(isinstance(given, str) for _, body in server.requests for given in body["input"])


def test_remote_models_conform_to_the_protocol(served: Any) -> None:
    one = served("qwen2.5-math-prm")
    with serving(pooling(one.peer)) as server:
        model = one.remote(f"vllm:{server.url}")
        assert check_reward_model(model, SOLUTIONS[7:9])
        run_sync(model.aclose())  # the suite runs on the process's own loop, which does not end


def test_usage_is_what_was_sent_and_paid_what_the_server_counts(served: Any) -> None:
    one = served("math-shepherd")
    trajectory = SOLUTIONS[3]
    encoded = one.local.encoder(trajectory)
    sent = sum(int(end) + 1 for end in encoded.read)
    with serving(completions(one.peer)) as server, metered() as ledger:
        [scores] = score_all(one.remote(f"vllm:{server.url}"), [trajectory])
    assert (scores.usage.reward_tokens, scores.usage.calls) == (sent, 1)
    assert ledger.usage == scores.usage
    paid = ledger.paid
    assert (paid.reward_tokens, paid.reward_cached, paid.reward_written, paid.calls) == (sent - 3, 3, len(trajectory), 1)
