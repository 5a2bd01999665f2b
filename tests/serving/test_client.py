"""The Python client and the served model: the same scores as the model itself, with retries where the server asks for patience."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.serving.parts import HashModel, hash_scores, listening

from stepward.core import CountMismatch, InputError, Problem, RequestFailed, RewardModel, Step, StepScores, Trajectory, metered
from stepward.data.segment import segment
from stepward.engine.loop import run_sync
from stepward.engine.retry import RetriesExhausted, Retry
from stepward.rewards.load import load_reward_model
from stepward.rewards.remote_stepward import ServedModel
from stepward.serving.client import ScoreClient
from stepward.testing import check_reward_model

FAST = Retry(attempts=4, first_s=0.0, jitter=0.0)
RICH = Trajectory(
    Problem("p", answer="4", reference_steps=("a", "b"), metadata={"level": 5, "tags": ["x", None]}, environment="maths", id="mine"),
    (Step("look up 2 + 2", "\n", action={"call": "add"}, observation="4", agent="solver"), Step("unknown", "\n\n"), Step("broken")),
    truncated=True,
)


def scored(served: RewardModel, trajectory: Trajectory) -> StepScores:
    """On an event loop of its own, which closes the connections at its end."""
    return asyncio.run(served.score(trajectory))


def asked(address: str, **options: Any) -> StepScores:
    with ScoreClient(address, retry=FAST, **options) as client:
        return client.score("p", ["a"])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(HashModel(), max_items=5) as (address, _):
        yield address


def test_a_served_model_is_the_model(url: str) -> None:
    served = load_reward_model(f"stepward:{url}")
    assert isinstance(served, RewardModel)
    assert (served.fingerprint, served.scale, served.granularity) == ("test:hash", "probability", "step")
    with metered() as ledger:
        scores = scored(served, RICH)
    assert scores == hash_scores(RICH), "values, reasons, aspects, usage and source travel without loss"
    assert ledger.usage == hash_scores(RICH).usage


def test_a_served_model_keeps_the_protocol(url: str) -> None:
    served = ServedModel.connect(url)
    assert len(check_reward_model(served, [RICH], tolerance=0.0)) >= 6
    run_sync(served.aclose())


def test_the_client_scores_one_and_many(url: str) -> None:
    raw = "2 + 2 = 4.\n\nbroken\n\nThe answer is 4."
    many = [Trajectory.from_texts(f"problem {index}", ["a", f"step {index}"]) for index in range(23)]
    with ScoreClient(url) as client:
        assert client.score("p", ["a", "b"]) == hash_scores(Trajectory.from_texts("p", ["a", "b"]))
        assert client.score("p", raw) == hash_scores(Trajectory(Problem("p"), segment(raw), finished=True))
        found = client.score_many([*many, (Problem("q", answer="1"), ["x"]), ("r", raw)])
        assert client.score_many([]) == []
        assert client.model().fingerprint == "test:hash"
    expected = [*many, Trajectory.from_texts(Problem("q", answer="1"), ["x"]), Trajectory(Problem("r"), segment(raw), finished=True)]
    assert found == [hash_scores(trajectory) for trajectory in expected], "25 solutions in requests of at most 5 come back in order"


def test_the_client_has_an_async_face(url: str) -> None:
    async def ask() -> tuple[StepScores, list[StepScores]]:
        async with ScoreClient(url) as client:
            return await client.ascore("p", ["a"]), await client.ascore_many([("p", ["a"]), ("q", ["b"])])

    one, many = asyncio.run(ask())
    assert [one, *many] == [hash_scores(Trajectory.from_texts(problem, [step])) for problem, step in (("p", "a"), ("p", "a"), ("q", "b"))]


def test_requests_are_split_by_their_bytes_too() -> None:
    with listening(HashModel(), max_body_bytes=3000) as (address, _), ScoreClient(address) as client:
        solutions = [(f"problem {index}", ["é" * 500]) for index in range(8)]
        expected = [hash_scores(Trajectory.from_texts(problem, steps)) for problem, steps in solutions]
        assert client.score_many(solutions) == expected
        with pytest.raises(RequestFailed, match="413"):
            client.score("p", ["x" * 4000])


def test_a_solution_that_fails_on_the_server_is_unscored_with_its_reason(url: str) -> None:
    with ScoreClient(url) as client:
        scores = client.score("p", ["a", "refuse"])
    assert scores.reasons == ("RequestFailed: no such luck",) * 2


def test_the_token_is_sent_and_a_wrong_one_is_told() -> None:
    with listening(HashModel(), token="secret") as (address, _):
        assert asked(address, token="secret") == hash_scores(Trajectory.from_texts("p", ["a"]))
        assert load_reward_model(f"stepward:{address}", token="secret").fingerprint == "test:hash"
        for wrong in (None, "public"):
            with pytest.raises(RequestFailed, match="401"):
                asked(address, token=wrong)


def test_what_cannot_be_sent_is_told_before_it_is_sent(url: str) -> None:
    with ScoreClient(url) as client:
        for solution in (
            (Problem("p", images=("x.png",)), ["a"]),
            ("\ud800", ["a"]),
            ("p", ["\udfff"]),
            (Problem("p", metadata={"x": float("nan")}), ["a"]),
            (Problem("p", metadata={"x": {1}}), ["a"]),
        ):
            with pytest.raises(InputError):
                client.score(*solution)
        with pytest.raises(InputError, match="Trajectory"):
            client.score("p", [Step("a")])  # type: ignore[list-item]
    with pytest.raises(InputError, match="http"):
        ServedModel.connect("localhost:8000")


@contextmanager
def answering(behave: Callable[[str, int], tuple[int, dict[str, str], str]]) -> Iterator[str]:
    """A server that answers (status, headers, body) to the n-th request of a path."""
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            seen[self.path] = seen.get(self.path, 0) + 1
            status, headers, body = behave(self.path, seen[self.path])
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = reply  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


MODELS = json.dumps({"data": [{"fingerprint": "f", "scale": "probability", "granularity": "step", "limits": {"max_items": 8, "max_body_bytes": 4096}}]})
USAGE = {"reward_tokens": 1, "calls": 1}
RESULT = {"scores": [0.25], "reasons": [None], "rationales": [None], "aspects": {}, "threshold": 0.5, "scale": "probability", "source": {}}
RESULT |= {"usage": USAGE, "paid": USAGE}


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_patience_is_asked_again(status: int) -> None:
    def behave(path: str, count: int) -> tuple[int, dict[str, str], str]:
        if path == "/v1/models":
            return 200, {}, MODELS
        return (status, {"retry-after": "0"}, "busy") if count < 4 else (200, {}, json.dumps({"results": [RESULT]}))

    with answering(behave) as address:
        assert asked(address).values.tolist() == [0.25]


def test_patience_ends() -> None:
    with answering(lambda path, _: (200, {}, MODELS) if path == "/v1/models" else (429, {"retry-after": "0"}, "")) as address, pytest.raises(RetriesExhausted):
        asked(address)


def test_bad_requests_are_not_repeated() -> None:
    posts: list[int] = []

    def behave(path: str, count: int) -> tuple[int, dict[str, str], str]:
        if path == "/v1/models":
            return 200, {}, MODELS
        posts.append(count)
        return 422, {}, "{}"

    with answering(behave) as address, pytest.raises(RequestFailed, match="422"):
        asked(address)
    assert posts == [1]


@pytest.mark.parametrize(
    "body",
    ["{}", '{"results": 3}', '{"results": [{}]}', json.dumps({"results": [RESULT | {"scores": [2.0]}]}), json.dumps({"results": [RESULT | {"scores": [None]}]}),
     json.dumps({"results": [RESULT | {"reasons": []}]}), json.dumps({"results": [RESULT | {"usage": {"x": 1}}]}),
     json.dumps({"results": [RESULT | {"aspects": [1.0]}]}), json.dumps({"results": [RESULT | {"scores": [10**400]}]})],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_failure(body: str) -> None:
    with answering(lambda path, _: (200, {}, MODELS if path == "/v1/models" else body)) as address, pytest.raises(RequestFailed):
        asked(address)


def test_another_number_of_scores_or_results_is_a_mismatch() -> None:
    def behave(path: str, _: int) -> tuple[int, dict[str, str], str]:
        return 200, {}, MODELS if path == "/v1/models" else json.dumps({"results": [RESULT] * n_results})

    with answering(behave) as address:
        n_results = 2
        with pytest.raises(CountMismatch, match="2 results for 1"):
            asked(address)
        n_results = 1
        with pytest.raises(CountMismatch, match="1 scores for 2"):
            scored(ServedModel.connect(address, retry=FAST), Trajectory.from_texts("p", ["a", "b"]))
        with pytest.raises(CountMismatch, match="1 scores for 2"), ScoreClient(address, retry=FAST) as client:
            client.score("p", ["a", "b"])


@pytest.mark.parametrize("body", ["{}", '{"data": []}', '{"data": [{"id": "a vLLM model"}]}', MODELS.replace("probability", "stars")])
def test_a_server_that_is_not_ours_is_told_apart(body: str) -> None:
    with answering(lambda _, __: (200, {}, body)) as address, pytest.raises(RequestFailed, match=r"stepward"):
        ServedModel.connect(address, retry=FAST)


def test_requests_that_begin_together_share_one_model(url: str) -> None:
    async def ask() -> None:
        async with ScoreClient(url) as client:
            first, second = await asyncio.gather(client.amodel(), client.amodel())
            assert first is second

    asyncio.run(ask())
