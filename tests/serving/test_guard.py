"""Who is let in: every route but health and documentation asks for the token, and nobody listens beyond this machine without one by mistake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from tests.serving.parts import HashModel, application, item

from stepward.core import InputError
from stepward.serving.app import OPEN_ROUTES, create_app
from stepward.serving.settings import ServeSettings, check_exposure

TOKEN = "correct-horse-battery-staple"
WRONG = [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"bearer{TOKEN}", "Bearer \xff\xfe"]


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of everything that is served, however deep the routers are nested."""
    found: list[tuple[str, str]] = []

    def walk(routes: list[BaseRoute]) -> None:
        for route in routes:
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            if inner is not None:
                walk(inner.routes)
            else:
                path, methods = getattr(route, "path", None), getattr(route, "methods", None)
                assert isinstance(path, str), f"{route!r} is of a kind that this test does not know"
                found.extend((method, path) for method in methods or ())

    walk(list(app.routes))
    return found


def test_every_route_but_the_open_ones_asks_for_the_token() -> None:
    async def ask() -> dict[str, list[int]]:
        statuses: dict[str, list[int]] = {}
        async with application(HashModel(), token=TOKEN) as (client, app):
            served = {(method, path) for method, path in routes_of(app) if method != "HEAD"}
            assert {path for _, path in served} >= {"/v1/score", "/pooling", "/get_reward", "/v1/models", "/metrics"}, "the walk over the routes is blind"
            for method, path in served:
                for wrong in WRONG:
                    headers = {} if wrong is None else {"Authorization": wrong.encode("latin-1")}
                    answer = await client.request(method, path, headers=headers, json=item() if method == "POST" else None)
                    statuses.setdefault(path, []).append(answer.status_code)
                    if answer.status_code == 401:
                        assert answer.headers["www-authenticate"] == "Bearer"
                        assert answer.json()["error"]["type"] == "unauthorized"
        return statuses

    for path, statuses in asyncio.run(ask()).items():
        expected = {200} if path in OPEN_ROUTES else {401}
        assert set(statuses) == expected, f"{path} answered {statuses} to {WRONG}"


def test_the_token_opens_every_route() -> None:
    async def ask() -> None:
        async with application(HashModel(), token=TOKEN) as (client, _):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            for path, body in (("/v1/score", item()), ("/pooling", {"input": "x"}), ("/get_reward", {"query": ["ab"], "prompts": ["a"]})):
                assert (await client.post(path, json=body, headers=headers)).status_code == 200
            for path in ("/v1/models", "/metrics"):
                assert (await client.get(path, headers=headers)).status_code == 200

    asyncio.run(ask())


def test_a_wrong_token_is_told_before_the_body_is_read() -> None:
    async def ask() -> None:
        async with application(HashModel(), token=TOKEN, max_body_bytes=10) as (client, _):
            read = False

            async def body() -> Any:
                nonlocal read
                read = True
                yield b"{}"

            answer = await client.post("/v1/score", content=body())
            assert answer.status_code == 401
            assert not read

    asyncio.run(ask())


def test_metrics_may_be_left_open() -> None:
    async def ask(**settings: Any) -> int:
        async with application(HashModel(), token=TOKEN, **settings) as (client, _):
            return (await client.get("/metrics")).status_code

    assert asyncio.run(ask(open_metrics=True)) == 200
    assert asyncio.run(ask()) == 401


def test_the_token_is_in_no_text_that_describes_the_settings() -> None:
    assert TOKEN not in repr(ServeSettings(token=TOKEN))
    assert TOKEN not in str(create_app(HashModel, ServeSettings(token=TOKEN)).openapi())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(InputError, match="--token-env"):
        check_exposure(host, token=None, insecure=False)
    check_exposure(host, token=TOKEN, insecure=False)
    check_exposure(host, token=None, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.10"])
def test_this_machine_needs_none(host: str) -> None:
    check_exposure(host, token=None, insecure=False)


def test_a_host_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(InputError, match="resolve"):
        check_exposure("no such host", token=None, insecure=True)


@pytest.mark.parametrize("token", ["", "  ", "two words", "tab\there", "ünïcode", "line\n"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="token"):
        ServeSettings(token=token)


def test_routes_of_this_application_are_seen() -> None:
    """The walk finds a route that somebody adds without the guard."""
    app = create_app(HashModel, ServeSettings(token=TOKEN))

    async def forgotten() -> None:
        pass

    app.add_api_route("/v2/forgotten", forgotten, methods=["POST"])
    assert ("POST", "/v2/forgotten") in routes_of(app)
    assert any(isinstance(route, APIRoute) for route in app.routes)
