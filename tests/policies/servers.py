"""A small OpenAI-like server in a thread, on loopback, whose manners a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], str]
Behaviour = Callable[["Server", str, dict[str, Any]], Reply]


class Server:
    """Remembers what it was asked; answers as `behaviour` says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str | None] = []
        self.gets: list[str] = []
        self.released = threading.Event()
        self.url = ""


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    state = Server(behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.path, body))
            state.keys.append(self.headers.get("Authorization"))
            self.answer(*state.behaviour(state, self.path, body))

        def do_GET(self) -> None:
            state.gets.append(self.path)
            self.answer(*state.behaviour(state, self.path, {}))

        def answer(self, status: int, headers: dict[str, str], text: str) -> None:
            data = text.encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client has given up

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def write(prompt_end: str, solution: str, body: dict[str, Any], *, written: str) -> tuple[str, str, str | None]:
    """What a model that always writes `solution` adds to `written`: text, finish reason and the stop string that ended it. One character is a token."""
    rest = solution[len(written) :]
    stops = [(rest.find(stop), stop) for stop in body.get("stop", []) if stop in rest]
    cut = min(stops) if stops else (len(rest), None)
    limit = body["max_tokens"]
    if limit < cut[0]:
        return rest[:limit], "length", None
    return rest[: cut[0]], "stop", cut[1]


def completion(solution: str, *, tells_stop: bool, most: int | None = None) -> Behaviour:
    """A completions server; `tells_stop` as vLLM does, `most` choices a call at most."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if path != "/v1/completions":
            return 404, {}, "{}"
        written = body["prompt"].split("\n", 1)[1]
        text, reason, stop = write("\n", solution, body, written=written)
        row: dict[str, Any] = {"text": text, "finish_reason": reason}
        if tells_stop:
            row["stop_reason"] = stop
        if body.get("logprobs"):
            shown = text + (stop or "")
            row["logprobs"] = {"tokens": list(shown), "token_logprobs": [-0.5] * len(shown)}
        n = min(body["n"], most or body["n"])
        choices = [row | {"index": index} for index in reversed(range(n))]
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": n * len(text), "prompt_tokens_details": {"cached_tokens": 2}}
        return 200, {}, json.dumps({"choices": choices, "usage": usage})

    return behave


def chat(solution: str, *, continues: bool = True) -> Behaviour:
    """A chat server without completions that reports stop_reason; it may refuse to continue an assistant's message."""

    def behave(server: Server, path: str, body: dict[str, Any]) -> Reply:
        if path != "/v1/chat/completions":
            return 404, {}, '{"error": "no such route"}'
        last = body["messages"][-1]
        if last["role"] == "assistant" and not continues:
            return 400, {}, '{"error": "unknown parameter continue_final_message"}'
        written = last["content"] if last["role"] == "assistant" else ""
        text, reason, stop = write("", solution, body, written=written)
        logprobs = {"content": [{"token": character, "logprob": -0.25} for character in text]}
        row = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason, "stop_reason": stop, "logprobs": logprobs}
        return 200, {}, json.dumps({"choices": [row | {"index": index} for index in range(body["n"])]})

    return behave
