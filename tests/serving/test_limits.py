"""Limits: what is too large, too many or too long is refused with the field and the reason, before it costs anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.serving.parts import HashModel, application, item, until

from stepward.core import InputError
from stepward.serving.settings import ServeSettings


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == status
    assert error["message"]
    return error


def refused(path: str, body: Any, status: int, **settings: Any) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        model = HashModel()
        async with application(model, **settings) as (client, app):
            error = error_of(await client.post(path, json=body), status)
            assert model.batches == [], "a refused request reached the model"
            assert app.state.desk.n_items == 0
            assert (await client.post("/v1/score", json=item("p", "ok"))).status_code == 200, "the server is unwell afterwards"
            return error

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/v1/score", "/pooling", "/get_reward"])
def test_a_body_that_announces_too_many_bytes_is_refused_unread(path: str) -> None:
    error = refused(path, {"problem": "p", "steps": ["x" * 1000]}, 413, max_body_bytes=500)
    assert error["param"] == "body"
    assert "500" in error["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1 << 20:
            taken += 100
            yield b"x" * 100

    async def ask() -> None:
        async with application(HashModel(), max_body_bytes=1000) as (client, _):
            answer = await client.post("/v1/score", content=endless(), headers={"content-type": "application/json"})
            error_of(answer, 413)
            assert taken <= 1200, f"{taken} bytes were read for a limit of 1000"

    asyncio.run(ask())


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async def ask() -> None:
        body = json.dumps(item("p", "x" * 100)).encode()
        async with application(HashModel(), max_body_bytes=len(body)) as (client, _):
            headers = {"content-type": "application/json"}
            assert (await client.post("/v1/score", content=body, headers=headers)).status_code == 200
            error_of(await client.post("/v1/score", content=body + b" ", headers=headers), 413)

    asyncio.run(ask())


MANY = [f"{index} + 0 = {index}." for index in range(5)]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/score", item("p", *MANY), "steps"),
        ("/v1/score", {"problem": "p", "text": "\n\n".join(MANY)}, "text"),
        ("/v1/score", {"items": [item("p", "ok"), item("p", *MANY)]}, "items.1.steps"),
        ("/v1/score", {"items": [item("p", "ok"), {"problem": "p", "text": "\n\n".join(MANY)}]}, "items.1.text"),
        ("/v1/score", {"items": [item("p", "ok")] * 3}, "items"),
        ("/v1/score", {"problem": {"prompt": "p", "reference_steps": MANY}, "steps": []}, "problem.reference_steps"),
        ("/pooling", {"input": ["Step 1: a<extra_0>b<extra_0>c<extra_0>d<extra_0>e<extra_0>"]}, "input.0"),
        ("/pooling", {"input": ["x"] * 3}, "input"),
        ("/pooling", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "\n\n".join(MANY)}]}, "messages"),
        ("/get_reward", {"query": ["q" + "\n\n".join(MANY)], "prompts": ["q"]}, "query.0"),
        ("/get_reward", {"query": ["q"] * 3, "prompts": ["q"] * 3}, "query"),
    ],
)
def test_too_many_steps_or_solutions_name_the_field(path: str, body: Any, field: str) -> None:
    error = refused(path, body, 422, max_steps=4, max_items=2)
    assert error["param"] == field
    assert any(detail["field"] == field and "more than this server's max_" in detail["reason"] for detail in error["details"])


def test_a_full_queue_answers_429_and_when_to_come_back() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model, max_queue=4, max_items=4) as (client, app):
            desk = app.state.desk
            waiting = asyncio.create_task(client.post("/v1/score", json={"items": [item("a"), item("b"), item("c")]}))
            await until(model.entered.is_set)
            assert desk.n_items == 3
            two = await client.post("/v1/score", json={"items": [item("d"), item("e")]})
            error = error_of(two, 429)
            assert error["type"] == "queue_full"
            assert int(two.headers["retry-after"]) >= 1
            one = asyncio.create_task(client.post("/v1/score", json=item("f")))
            await until(lambda: desk.n_items == 4)
            assert (await client.post("/v1/score", json=item("g"))).status_code == 429
            assert (await client.get("/healthz")).status_code == 200, "health answers while the queue is full"
            model.gate.set()
            assert [(await task).status_code for task in (waiting, one)] == [200, 200]
            assert desk.n_items == 0
            assert (await client.post("/v1/score", json=item("g"))).status_code == 200

    asyncio.run(ask())


def test_an_answer_that_takes_too_long_is_504_and_leaves_the_queue() -> None:
    async def ask() -> None:
        model = HashModel(open_gate=False)
        async with application(model, request_timeout_s=0.05) as (client, app):
            error = error_of(await client.post("/v1/score", json=item()), 504)
            assert "0.05 s" in error["message"]
            assert app.state.desk.n_items == 0
            model.gate.set()

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_body_bytes", 0), ("max_queue", -1), ("max_items", 2000), ("request_timeout_s", float("inf")), ("aggregation", "median"), ("step_tag", ""),
     ("prompt_frame", "alpaca"), ("unscored_reward", float("nan"))],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=setting.split("_")[0]):
        ServeSettings(**{setting: value})


def test_a_body_that_never_ends_is_408_and_the_clients_own_fault() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b'{"problem": '
        await asyncio.Event().wait()

    async def ask() -> None:
        async with application(HashModel(), request_timeout_s=0.05) as (client, app):
            error = error_of(await client.post("/v1/score", content=never(), headers={"content-type": "application/json"}), 408)
            assert error["param"] == "body"
            assert app.state.desk.n_items == 0

    asyncio.run(ask())
