"""The peer over HTTP: a vLLM pooling server, started from a command or already running, and how fast it scores."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

Ids = list[int]
_START_S = 300.0


@contextmanager
def serving(command: str, model: str, *, dtype: str, step_tag: int | None) -> Iterator[str]:
    """The address of a server of this model while the body runs; see `started`."""
    with started(command, model, dtype=dtype, step_tag=step_tag) as (url, _):
        yield url


@contextmanager
def started(command: str, model: str, *, dtype: str, step_tag: int | None, start_s: float = _START_S) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server of this model while the body runs: its address, and its process, which leads a group of its own.

    `command` is a prefix to which model and port are added, or a whole command with {model} and {port} in it. `step_tag`: the token whose rows a step-wise
    pooling server sends back; None serves completions. `start_s`: how long it may take to come up.
    """
    port = _free_port()
    filled = command.format(model=model, port=port) if "{model}" in command else f"{command} {shlex.quote(model)} {port}"
    words = [*shlex.split(filled), "--dtype", dtype]
    if step_tag is not None:
        words += ["--runner", "pooling", "--pooler-config", f'{{"step_tag_id": {step_tag}}}']
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(server, url, log, start_s)
            yield url, server
        finally:
            for signum in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(server.pid, signum)
                    server.wait(30)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def model_name(url: str) -> str:
    """What the server calls the model that it serves."""
    return str(httpx.get(f"{url}/v1/models", timeout=10).json()["data"][0]["id"])


def score_all(url: str, levels: Sequence[Sequence[Ids]], *, per_request: int, concurrency: int = 128) -> tuple[float, list[list[list[float]]]]:
    """Seconds, and [steps, classes] of every sequence: level after level, the requests of a level at the same time."""
    name = model_name(url)

    async def run() -> tuple[float, list[list[list[float]]]]:
        limit = asyncio.Semaphore(concurrency)
        async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=concurrency)) as client:

            async def ask(sequences: Sequence[Ids]) -> list[Any]:
                async with limit:
                    reply = await client.post(f"{url}/pooling", json={"model": name, "input": list(sequences), "task": "token_classify"})
                reply.raise_for_status()
                return [entry["data"] for entry in sorted(reply.json()["data"], key=lambda entry: entry["index"])]

            found: list[list[list[float]]] = []
            start = time.perf_counter()
            for level in levels:
                parts = [level[first : first + per_request] for first in range(0, len(level), per_request)]
                found += [rows for replies in await asyncio.gather(*map(ask, parts)) for rows in replies]
            return time.perf_counter() - start, found

    return asyncio.run(run())


def _wait(server: subprocess.Popen[bytes], url: str, log: Any, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/v1/models", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(1.0)
    log.seek(0)
    raise SystemExit(f"the server did not come up in {start_s:.0f} s; its last words:\n{log.read()[-3000:].decode(errors='replace')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
