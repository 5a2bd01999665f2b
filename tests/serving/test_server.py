"""A real server on loopback: clients that hang up, bodies without end, signals, ports that are taken."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving.parts import PATIENCE_S, HashModel, hash_scores, item, listening, until

from stepward.core import InputError, Trajectory
from stepward.serving.server import bound, serve
from stepward.serving.settings import ServeSettings

GATED = Path(__file__).with_name("gated_server.py")


def request_bytes(path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def connected(url: str) -> socket.socket:
    parts = httpx.URL(url)
    return socket.create_connection((parts.host, parts.port or 0), timeout=PATIENCE_S)


def test_a_client_that_hangs_up_is_dropped_from_the_batch() -> None:
    model = HashModel(open_gate=False)

    async def ask(url: str, desk: Any) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
            first = asyncio.create_task(client.post("/v1/score", json=item("a", "running")))
            await until(model.entered.is_set)
            leaver = connected(url)
            leaver.sendall(request_bytes("/v1/score", {"items": [item("b", "left behind")] * 2}))
            await until(lambda: model.n_asked == 3)
            leaver.close()
            await until(lambda: desk.n_items == 1)
            kept = asyncio.create_task(client.post("/v1/score", json=item("c", "kept")))
            await until(lambda: model.n_asked == 4)
            assert (await client.get("/healthz")).status_code == 200, "health answers while a batch runs"
            model.gate.set()
            assert [(await task).status_code for task in (first, kept)] == [200, 200]
            assert model.batches == [["running"], ["kept"]]

    with listening(model) as (url, desk):
        asyncio.run(ask(url, desk))


def test_a_client_that_hangs_up_while_sending_leaves_nothing_behind() -> None:
    async def ask(url: str, desk: Any) -> None:
        leaver = connected(url)
        leaver.sendall(request_bytes("/v1/score", item("b", "half"))[:-5])
        await until(lambda: desk.n_items == 1)
        leaver.close()
        await until(lambda: desk.n_items == 0)

    with listening(model := HashModel()) as (url, desk):
        asyncio.run(ask(url, desk))
        assert model.batches == []


@pytest.mark.parametrize("announced", [True, False], ids=["with a length", "chunked"])
def test_an_oversized_body_is_answered_and_the_connection_goes_on(announced: bool) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 4096

    headers = {"content-type": "application/json"}
    with listening(HashModel(), max_body_bytes=1000) as (url, _), httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        body: Any = b"x" * (64 * 4096) if announced else chunks()
        assert client.post("/v1/score", content=body, headers=headers).status_code == 413
        answer = client.post("/v1/score", json=item("p", "after"))
        assert answer.json()["results"][0]["scores"] == hash_scores(Trajectory.from_texts("p", ["after"])).values.tolist()


def test_what_is_not_http_is_400_and_the_server_goes_on() -> None:
    with listening(HashModel()) as (url, _):
        with connected(url) as stranger:
            stranger.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert stranger.recv(4096).startswith(b"HTTP/1.1 400")
        assert httpx.post(f"{url}/v1/score", json=item()).status_code == 200


@contextmanager
def gated(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`serve` in a process, with a model whose batches wait for a line on standard input; with its address."""
    environment = {**os.environ, "PYTHONPATH": str(GATED.parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(GATED), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process, wait_for(process, "listening on ").split()[2].rstrip(",")
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], start: str) -> str:
    """The next line that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the server ended without saying {start!r}: {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_finishes_what_was_accepted_and_ends_with_0(number: signal.Signals) -> None:
    with gated() as (process, url):
        wait_for(process, "ready")
        with connected(url) as client:
            client.sendall(request_bytes("/v1/score", item("a", "accepted")))
            wait_for(process, "batch")
            process.send_signal(number)
            wait_for(process, "stopping: 1 ")
            assert httpx.post(f"{url}/v1/score", json=item()).status_code == 503
            assert httpx.get(f"{url}/readyz").status_code == 503
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = b""
            while part := client.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        assert json.loads(body)["results"][0]["scores"] == hash_scores(Trajectory.from_texts("a", ["accepted"])).values.tolist()
        wait_for(process, "returned 0")
        assert process.wait(PATIENCE_S) == 0


def test_what_is_not_done_in_time_is_given_up_with_503() -> None:
    with gated("0.05") as (process, url):
        wait_for(process, "ready")
        with connected(url) as client:
            client.sendall(request_bytes("/v1/score", item("a", "stuck")))
            wait_for(process, "batch")
            process.send_signal(signal.SIGTERM)
            wait_for(process, "gave up 1 ")
            assert client.recv(65536).startswith(b"HTTP/1.1 503")
        wait_for(process, "returned 1")


def test_an_idle_server_ends_at_once() -> None:
    with gated() as (process, _):
        wait_for(process, "ready")
        process.send_signal(signal.SIGTERM)
        wait_for(process, "returned 0")
        assert process.wait(PATIENCE_S) == 0


def test_a_port_that_is_taken_is_a_mistake_with_a_remedy() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(InputError, match="--port"):
            bound("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="cannot listen"):
        bound("no such host", 80)


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_error() -> None:
    def broken() -> Any:
        raise InputError("no such model")

    said: list[str] = []
    with pytest.raises(InputError, match="no such model"):
        serve(broken, ServeSettings(), port=0, announce=said.append)
    assert said[0].startswith("listening on http://127.0.0.1:")
