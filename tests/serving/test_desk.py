"""Scoring together: requests of many clients in one batch, those that leave dropped from it, and an end that finishes what was accepted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.serving.parts import PATIENCE_S, HashModel, application, hash_scores, item, until

from stepward.core import InputError, RewardModel, Step, Trajectory
from stepward.serving.app import create_app
from stepward.serving.batches import BatchWatch, find_batchers
from stepward.serving.settings import ServeSettings


def scores_of(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    scores: list[float] = answer.json()["results"][0]["scores"]
    return scores


def test_requests_of_many_clients_join_one_batch() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model) as (client, app):
            first = asyncio.create_task(client.post("/v1/score", json=item("first")))
            await until(model.entered.is_set)
            names = [f"problem {index}" for index in range(50)]
            others = [asyncio.create_task(client.post("/v1/score", json=item(name, f"step of {name}"))) for name in names]
            others.append(asyncio.create_task(client.post("/get_reward", json={"query": ["q: a", "q: b"], "prompts": ["q: ", "q: "]})))
            others.append(asyncio.create_task(client.post("/pooling", json={"input": "Step 1: x<extra_0>"})))
            await until(lambda: model.n_asked == 1 + 50 + 2 + 1)
            assert app.state.desk.n_items == 1 + 50 + 2 + 1
            model.gate.set()
            await first
            answers = await asyncio.gather(*others)
            assert [len(batch) for batch in model.batches] == [1, 53], "53 requests of three routes waited together and belong in one batch"
            for name, answer in zip(names, answers, strict=False):
                assert scores_of(answer) == hash_scores(Trajectory.from_texts(name, [f"step of {name}"])).values.tolist(), f"{name} got another one's answer"
            page = (await client.get("/metrics")).text
            assert "stepward_batch_items_sum 54.0" in page
            assert "stepward_batch_items_count 2.0" in page

    asyncio.run(ask())


def test_a_cancelled_request_is_dropped_from_the_batch() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model) as (client, app):
            desk = app.state.desk
            first = asyncio.create_task(client.post("/v1/score", json=item("first", "running")))
            await until(model.entered.is_set)
            leaving = asyncio.create_task(client.post("/v1/score", json={"items": [item("b", "left behind")] * 3}))
            staying = asyncio.create_task(client.post("/v1/score", json=item("c", "kept")))
            await until(lambda: model.n_asked == 5)
            leaving.cancel()
            await until(lambda: desk.n_items == 2)
            model.gate.set()
            assert [(await task).status_code for task in (first, staying)] == [200, 200]
            assert model.batches == [["running"], ["kept"]]

    asyncio.run(ask())


def test_draining_refuses_new_requests_and_finishes_the_accepted_ones() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model) as (client, app):
            desk = app.state.desk
            running = asyncio.create_task(client.post("/v1/score", json=item("a", "running")))
            await until(model.entered.is_set)
            waiting = asyncio.create_task(client.post("/v1/score", json=item("b", "waiting")))
            await until(lambda: desk.n_items == 2)
            draining = asyncio.create_task(desk.drain(20.0))
            await until(lambda: desk.state == "draining")
            refused = await client.post("/v1/score", json=item("c"))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert (await client.get("/readyz")).json() == {"status": "draining"}
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            assert not draining.done()
            model.gate.set()
            assert scores_of(await running) == hash_scores(Trajectory.from_texts("a", ["running"])).values.tolist()
            assert scores_of(await waiting) == hash_scores(Trajectory.from_texts("b", ["waiting"])).values.tolist()
            assert await draining == 0

    asyncio.run(ask())


def test_draining_gives_up_after_its_time_and_says_how_many() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model) as (client, app):
            stuck = asyncio.create_task(client.post("/v1/score", json={"items": [item("a"), item("b")]}))
            await until(model.entered.is_set)
            assert await app.state.desk.drain(0.01) == 2
            assert (await stuck).status_code == 503
            model.gate.set()

    asyncio.run(ask())


def test_not_ready_until_the_model_is_loaded() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)

        def load() -> RewardModel:
            model.gate.wait()
            return model

        app = create_app(load, ServeSettings())
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            assert (await client.get("/healthz")).status_code == 200
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
            for answer in (await client.post("/v1/score", json=item()), await client.get("/v1/models")):
                assert answer.status_code == 503
                assert "retry-after" in answer.headers
            assert (await client.get("/openapi.json")).status_code == 200
            model.gate.set()
            assert await app.state.desk.settled() == "ready"
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            assert (await client.post("/v1/score", json=item())).status_code == 200

    asyncio.run(ask())


def test_a_model_that_cannot_be_loaded_fails_the_server() -> None:
    async def ask(load: Any, **settings: Any) -> Exception | None:
        app = create_app(load, ServeSettings(**settings))
        async with app.router.lifespan_context(app):
            assert await app.state.desk.settled() == "failed"
            error: Exception | None = app.state.desk.error
            return error

    def broken() -> RewardModel:
        raise InputError("no such model")

    class Logits(HashModel):
        scale = "logit"

    assert str(asyncio.run(ask(broken))) == "no such model"
    assert "needs probabilities" in str(asyncio.run(ask(Logits, aggregation="product")))


def test_an_aggregation_that_needs_probabilities_is_422_for_another_scale() -> None:
    class Logits(HashModel):
        scale = "logit"

    async def ask() -> None:
        async with application(Logits()) as (client, _):
            answer = await client.post("/v1/score", json=item() | {"aggregation": "product"})
            assert answer.status_code == 422
            assert answer.json()["error"]["param"] == "aggregation"

    asyncio.run(ask())


def test_batchers_are_found_wherever_a_model_keeps_them() -> None:
    class Ensemble:
        def __init__(self) -> None:
            self.members = (HashModel(), {"inner": [HashModel()]})
            self.itself = self

    ensemble = Ensemble()
    assert len(find_batchers(ensemble)) == 2
    assert find_batchers(object()) == []
    watch = BatchWatch(ensemble)
    model = ensemble.members[0]
    assert isinstance(model, HashModel)

    async def score() -> None:
        await asyncio.gather(*(model.score(Trajectory.from_texts(str(index), ["a"])) for index in range(5)))

    asyncio.run(score())
    assert watch.sizes() == [5.0]
    assert watch.sizes() == []


@pytest.mark.parametrize("n", [0, 1])
def test_no_solutions_and_no_steps_are_answered(n: int) -> None:
    async def ask() -> None:
        async with application(HashModel()) as (client, _):
            answer = await client.post("/v1/score", json={"items": [{"problem": "p", "steps": []}] * n})
            assert [result["scores"] for result in answer.json()["results"]] == [[]] * n

    asyncio.run(ask())


def test_a_request_whose_body_is_still_coming_when_the_server_stops_is_refused() -> None:
    async def ask() -> None:
        model, rest = HashModel(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b'{"problem": "p", '
            await rest.wait()
            yield b'"steps": ["a"]}'

        async with application(model) as (client, app):
            desk = app.state.desk
            coming = asyncio.create_task(client.post("/v1/score", content=body(), headers={"content-type": "application/json"}))
            await until(lambda: desk.n_items == 1)
            assert await desk.drain(20.0) == 0, "a client that never ends its body does not hold the server"
            rest.set()
            refused = await coming
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            assert model.batches == [], "nobody waits for this batch any more"

    asyncio.run(ask())


def test_a_request_whose_text_is_being_split_when_the_server_stops_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()

    def slowly(text: str) -> tuple[Step, ...]:
        entered.set()
        assert go.wait(PATIENCE_S)
        return (Step(text),)

    monkeypatch.setattr("stepward.serving.openrlhf.segment", slowly)

    async def ask() -> None:
        async with application(HashModel()) as (client, app):
            coming = asyncio.create_task(client.post("/get_reward", json={"query": ["qa"], "prompts": ["q"]}))
            await until(entered.is_set)
            draining = asyncio.create_task(app.state.desk.drain(20.0))
            await until(lambda: app.state.desk.state == "draining")
            await asyncio.sleep(0)
            assert not draining.done()
            go.set()
            assert (await coming).status_code == 200
            assert await draining == 0

    asyncio.run(ask())
