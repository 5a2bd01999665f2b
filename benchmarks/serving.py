"""`stepward serve` under load: 200 clients with bad manners, and what joining their requests in batches is worth.

    python benchmarks/serving.py [--json] [--seconds 60] [--clients 200] [--schemathesis N]

Soak: a real server in a process of its own, over a small random step classifier. Clients ask for the scores of one to four solutions on all three routes;
among them some hang up half-way or before the answer, send bodies beyond the limit (with and without a length), or send what is no request. Every answer is
compared with direct scoring in this process. `lost`: well-formed requests that got no answer; `swapped`: answers with other scores than direct scoring.
Memory is the server's resident set once a second; its growth is the median of the last fifth of the run over the median of its second fifth. A warm-up
of the same kind comes first and is checked too, but not counted in the memory: the model's caches fill, and oneDNN keeps a kernel for every new shape.
The server computes with one thread, which leaves the other core of a small machine to the clients; a second one would wait for it in every kernel.

Joining: a deeper model, one new step of a known problem in every request, as a beam sends them; solutions a second, and the server's processor time a
solution, with one client that waits for each answer and with many at once. What is gained is what a forward pass costs however little is in it, so it is
less for long solutions on a processor, and more on a GPU.

`--schemathesis N` also runs schemathesis against the server's OpenAPI page, N examples an operation. The exit code is 1 when a promise does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from stepward.core import StepScores, Trajectory
from stepward.rewards.convention import Convention
from stepward.rewards.load import load_reward_model
from stepward.testing.fixtures import tiny_prm

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "benchmark"
MAX_BODY = 1 << 18
TOLERANCE = 1e-4
TAG = "<extra_0>"


@dataclass
class Tally:
    """What came back."""

    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    n_solutions: int = 0
    lost: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    health_seconds: list[float] = field(default_factory=list)


class Client:
    """HTTP/1.1 over one connection at a time: little enough to leave the processor to the server, and able to hang up anywhere."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, *, chunked: bool = False) -> tuple[int, bytes]:
        """Status and body. Raises: OSError or EOFError when the server went away instead."""
        reader, writer = await self._open()
        writer.write(self._head("POST", path, None if chunked else len(body)))
        if chunked:
            for start in range(0, len(body), 16384):
                part = body[start : start + 16384]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(body)
        await writer.drain()
        return await self._read(reader)

    async def get(self, path: str) -> tuple[int, bytes]:
        reader, writer = await self._open()
        writer.write(self._head("GET", path, 0))
        await writer.drain()
        return await self._read(reader)

    async def hang_up(self, path: str, body: bytes, *, sent: float, wait_s: float) -> None:
        """Send this share of the body, wait, and close the connection."""
        _, writer = await self._open()
        writer.write(self._head("POST", path, len(body)) + body[: int(len(body) * sent)])
        await writer.drain()
        await asyncio.sleep(wait_s)
        self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    def _head(self, method: str, path: str, length: int | None) -> bytes:
        size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = (f"{method} {path} HTTP/1.1", f"host: {self._host}", f"authorization: Bearer {TOKEN}", "content-type: application/json", size)
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body


class Soak:
    """Clients with good and bad manners, and the record of what they got."""

    def __init__(self, url: str, solutions: Sequence[Trajectory], expected: Sequence[StepScores]) -> None:
        self.url, self.solutions, self.expected = url, solutions, expected
        self.tally = Tally()

    async def run(self, n_clients: int, seconds: float, process: psutil.Process) -> list[int]:
        """Resident bytes of the server, once a second."""
        end = time.monotonic() + seconds
        memory: list[int] = []

        async def watch() -> None:
            while time.monotonic() < end:
                memory.append(process.memory_info().rss)
                await asyncio.sleep(1.0)

        async def check_health() -> None:
            client = Client(self.url)
            while time.monotonic() < end:
                start = time.perf_counter()
                status, _ = await client.get("/healthz")
                self.tally.health_seconds.append(time.perf_counter() - start)
                self.tally.statuses[status] += 1
                await asyncio.sleep(0.25)
            client.close()

        await asyncio.gather(watch(), check_health(), *(self._client(number, end) for number in range(n_clients)))
        return memory

    async def _client(self, number: int, end: float) -> None:
        rng = random.Random(f"{number} {end}")
        client = Client(self.url)
        while time.monotonic() < end:
            kind = rng.choices(("score", "pooling", "reward", "hang up", "oversized", "malformed"), (62, 8, 8, 10, 6, 6))[0]
            self.tally.kinds[kind] += 1
            if kind == "hang up":
                path, body, _ = self._request(rng, "score")
                await client.hang_up(path, body, sent=rng.choice((0.3, 1.0)), wait_s=rng.uniform(0.0, 0.2))
            elif kind == "oversized":
                body = b'{"problem": "' + b"x" * rng.randrange(MAX_BODY, 4 * MAX_BODY) + b'", "steps": []}'
                await self._expect(client, "/v1/score", body, {413}, kind, chunked=rng.random() < 0.5)
            elif kind == "malformed":
                body, statuses = rng.choice(MALFORMED)
                await self._expect(client, rng.choice(("/v1/score", "/pooling", "/get_reward")), body, statuses, kind)
            else:
                path, body, asked = self._request(rng, kind)
                start = time.perf_counter()
                answer = await self._expect(client, path, body, {200, 429}, kind)
                if answer is not None:
                    self.tally.seconds.append(time.perf_counter() - start)
                    self._compare(kind, answer, asked)
        client.close()

    def _request(self, rng: random.Random, kind: str) -> tuple[str, bytes, list[int]]:
        asked = [rng.randrange(len(self.solutions)) for _ in range(rng.randint(1, 4))]
        chosen = [self.solutions[index] for index in asked]
        if kind == "pooling":
            texts = [
                f"<|im_start|>user\n{t.problem.prompt}<|im_end|>\n<|im_start|>assistant\n{''.join(step.text + TAG for step in t.steps)}<|im_end|>\n"
                for t in chosen
            ]
            return "/pooling", json.dumps({"input": texts}).encode(), asked
        if kind == "reward":
            prompts = [f"{t.problem.prompt}\n" for t in chosen]
            queries = [prompt + t.text for prompt, t in zip(prompts, chosen, strict=True)]
            return "/get_reward", json.dumps({"query": queries, "prompts": prompts}).encode(), asked
        return "/v1/score", json.dumps({"items": [_item(t) for t in chosen]}).encode(), asked

    async def _expect(self, client: Client, path: str, body: bytes, statuses: set[int], kind: str, *, chunked: bool = False) -> dict[str, Any] | None:
        """The answer's JSON where it is a 200."""
        try:
            status, answer = await asyncio.wait_for(client.post(path, body, chunked=chunked), 120.0)
        except (OSError, EOFError, TimeoutError) as error:
            client.close()
            self.tally.lost.append(f"{kind} on {path}: {type(error).__name__}")
            return None
        self.tally.statuses[status] += 1
        if status not in statuses:
            self.tally.unexpected.append(f"{kind} on {path}: {status} {answer[:200]!r}")
        if status == 429:
            await asyncio.sleep(0.2)
        found: dict[str, Any] | None = json.loads(answer) if status == 200 else None
        return found

    def _compare(self, kind: str, answer: dict[str, Any], asked: Sequence[int]) -> None:
        expected = [self.expected[index] for index in asked]
        if kind == "reward":
            given: list[Any] = [[reward] for reward in answer["rewards"]]
            wanted = [np.array([scores.overall("min")]) for scores in expected]
        else:
            rows = [[step[-1] for step in row["data"]] for row in answer["data"]] if kind == "pooling" else [result["scores"] for result in answer["results"]]
            given, wanted = rows, [scores.values for scores in expected]
        self.tally.n_solutions += len(asked)
        for found, right, index in zip(given, wanted, asked, strict=True):
            values = np.array(found, dtype=np.float64)
            if values.shape != right.shape or not np.allclose(values, right, atol=TOLERANCE, rtol=0, equal_nan=True):
                self.tally.swapped.append(f"{kind} of solution {index}: {found} instead of {right.tolist()}")


MALFORMED: list[tuple[bytes, set[int]]] = [
    (b"", {400}),
    (b'{"problem": "p", "steps": [', {400}),
    (b'{"problem": NaN, "input": NaN, "query": NaN}', {400}),
    (b"[" * 50_000, {400}),
    (b'{"problem": "\xff"}', {400}),
    (rb'{"problem": "\ud800", "input": "\ud800", "query": ["\ud800"]}', {422}),
    (b"[]", {422}),
    (b'{"problem": 3, "steps": {}}', {422}),
    (b'{"items": [{"problem": "p"}], "query": 3}', {422}),
    (json.dumps({"problem": "p", "steps": ["x"] * 5000, "input": ["x"] * 5000, "query": ["x"] * 5000, "prompts": []}).encode(), {422}),
]


def _item(trajectory: Trajectory) -> dict[str, Any]:
    return {"problem": trajectory.problem.prompt, "steps": [step.text for step in trajectory.steps]}


def make_solutions(n: int, rng: random.Random, *, steps: tuple[int, int] = (1, 6), words: tuple[int, int] = (4, 16)) -> list[Trajectory]:
    """Solutions of a few problems, no two alike."""
    vocabulary = re.findall(r"\w+", "Tom has apples pears fruits boxes hold pencils half of the answer is one step right wrong so we get next from last")
    made = []
    for index in range(n):
        texts = [
            " ".join(rng.choices(vocabulary, k=rng.randint(*words))) + f" {index * 7 + k} + {k} = {rng.randint(0, 999)}." for k in range(rng.randint(*steps))
        ]
        made.append(Trajectory.from_texts(f"What is the answer to problem number {index % 17}?", texts))
    return made


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address and process of `stepward serve`; checks that SIGTERM ends it with 0."""
    command = [sys.executable, "-m", "stepward.cli", "serve", "--model", f"prm:{folder}", "--port", "0", "--token-env", "BENCHMARK_TOKEN", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=os.environ | {"BENCHMARK_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"})
        try:
            yield _address(process, log), psutil.Process(process.pid)
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise RuntimeError(f"the server ended with {process.returncode} after SIGTERM")
        finally:
            process.kill()
            process.wait()
            log.seek(0)
            sys.stderr.write("".join(line for line in log if "Invalid HTTP" not in line))


def _address(process: subprocess.Popen[bytes], log: Any) -> str:
    for _ in range(1200):
        log.seek(0)
        text = log.read()
        if "ready:" in text:
            return re.findall(r"http://[\d.:]+", text)[0]
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {text}")
        time.sleep(0.1)
    raise RuntimeError("the server was not ready after two minutes")


def direct(folder: Path, solutions: Sequence[Trajectory]) -> list[StepScores]:
    model = load_reward_model(f"prm:{folder}")

    async def score() -> list[StepScores]:
        return await asyncio.gather(*(model.score(solution) for solution in solutions))

    found = asyncio.run(score())
    n_distinct = len({tuple(np.round(scores.values, 3)) for scores in found})
    if n_distinct < 0.97 * len(found):
        raise RuntimeError(f"{len(found)} solutions have {n_distinct} different scores: a swapped answer could not be told")
    return found


def soak(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    solutions = make_solutions(400, random.Random(1))
    expected = direct(folder, solutions)
    with serving(folder, "--max-body-bytes", str(MAX_BODY)) as (url, process):
        run = Soak(url, solutions, expected)
        cold = process.memory_info().rss
        asyncio.run(run.run(arguments.clients, arguments.warm_up, process))
        memory = asyncio.run(run.run(arguments.clients, arguments.seconds, process))
        schemathesis = None if arguments.schemathesis is None else examine(url, arguments.schemathesis)
        metrics = asyncio.run(_metrics(url))
    tally, fifth = run.tally, max(1, len(memory) // 5)
    before, after = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
    report = {
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "warm_up_s": arguments.warm_up,
        "requests": dict(tally.kinds),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "solutions_answered": tally.n_solutions,
        "solutions_per_s": round(tally.n_solutions / (arguments.warm_up + arguments.seconds), 1),
        "lost": len(tally.lost),
        "swapped": len(tally.swapped),
        "unexpected_status": len(tally.unexpected),
        "server_errors": sum(count for status, count in tally.statuses.items() if status >= 500),
        "examples": (tally.lost + tally.swapped + tally.unexpected)[:5],
        "latency_s": {name: round(float(np.quantile(tally.seconds, q)), 4) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))},
        "health_latency_s": {name: round(float(np.quantile(tally.health_seconds, q)), 4) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))},
        "memory_mib": {"cold": cold >> 20, "start": memory[0] >> 20, "middle": memory[len(memory) // 2] >> 20, "end": memory[-1] >> 20},
        "memory_growth": round(after / before - 1.0, 4),
        "mean_batch": round(metrics["stepward_batch_items_sum"] / max(1.0, metrics["stepward_batch_items_count"]), 2),
        "queue_at_end": metrics["stepward_queue_items"],
    }
    return report if schemathesis is None else report | {"schemathesis": schemathesis}


async def _metrics(url: str) -> dict[str, float]:
    client = Client(url)
    _, page = await client.get("/metrics")
    client.close()
    return {name: float(value) for name, value in re.findall(r"^(stepward_\w+) ([\d.e+]+)$", page.decode(), flags=re.MULTILINE)}


def examine(url: str, n_examples: int) -> dict[str, Any]:
    """Schemathesis over the OpenAPI page."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--checks", "all", "--max-examples", str(n_examples), "--continue-on-failure"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    counts = re.search(r"(\d+) generated.*", done.stdout)
    return {"found_nothing": done.returncode == 0, "cases": counts[0] if counts else "", "output": "" if done.returncode == 0 else done.stdout[-4000:]}


async def _throughput(url: str, solutions: Sequence[Trajectory], n_clients: int, seconds: float) -> float:
    """Solutions a second, one a request."""
    remaining, done = iter(solutions), 0
    start = time.monotonic()
    end = start + seconds

    async def work() -> None:
        nonlocal done
        client = Client(url)
        for solution in remaining:
            status, answer = await client.post("/v1/score", json.dumps(_item(solution)).encode())
            if status != 200:
                raise RuntimeError(f"{status}: {answer[:200]!r}")
            done += 1
            if time.monotonic() > end:
                break
        client.close()

    await asyncio.gather(*(work() for _ in range(n_clients)))
    return done / (time.monotonic() - start)


def joining(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Short turns of one client and of many, one after the other, so that both see the same machine; the median of the turns' ratios counts."""
    rng, n_turns = random.Random(2), 5
    with serving(folder) as (url, process):
        pool = make_solutions(int(400 * arguments.join_seconds) * (2 * n_turns + 1), rng, steps=(1, 1), words=(8, 8))
        parts = [pool[index :: 2 * n_turns + 1] for index in range(2 * n_turns + 1)]  # nobody finds another's steps in the cache
        asyncio.run(_throughput(url, parts.pop()[:200], arguments.join_clients, 60.0))  # warm
        rates: dict[int, list[float]] = {1: [], arguments.join_clients: []}
        costs: dict[int, list[float]] = {1: [], arguments.join_clients: []}
        batches: dict[int, list[float]] = {1: [], arguments.join_clients: []}
        for n_clients in (1, arguments.join_clients) * n_turns:
            before, processor = asyncio.run(_metrics(url)), process.cpu_times()
            rates[n_clients].append(asyncio.run(_throughput(url, parts.pop(), n_clients, arguments.join_seconds)))
            after, spent = asyncio.run(_metrics(url)), process.cpu_times()
            done = after["stepward_items_total"] - before["stepward_items_total"]
            costs[n_clients].append((spent.user + spent.system - processor.user - processor.system) / done * 1e3)
            sums, counts = (after[f"stepward_batch_items_{name}"] - before[f"stepward_batch_items_{name}"] for name in ("sum", "count"))
            batches[n_clients].append(sums / counts)
    alone, together = 1, arguments.join_clients
    return {
        "clients": together,
        "solutions_per_s": {"one_at_a_time": [round(rate, 1) for rate in rates[alone]], "together": [round(rate, 1) for rate in rates[together]]},
        "times_the_throughput": round(statistics.median(many / one for one, many in zip(rates[alone], rates[together], strict=True)), 2),
        "server_cpu_ms": {"one_at_a_time": [round(cost, 2) for cost in costs[alone]], "together": [round(cost, 2) for cost in costs[together]]},
        "times_less_processor_time": round(statistics.median(costs[alone]) / statistics.median(costs[together]), 2),
        "mean_batch": {"one_at_a_time": round(statistics.mean(batches[alone]), 1), "together": round(statistics.mean(batches[together]), 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--join-seconds", type=float, default=5.0)
    parser.add_argument("--join-clients", type=int, default=200)
    parser.add_argument("--join-hidden", type=int, default=128)
    parser.add_argument("--join-layers", type=int, default=16)
    parser.add_argument("--schemathesis", type=int, metavar="N", help="examples an operation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        spread = Convention(max_tokens=512, temperature=8.0)  # scores far from 0 and 1, so that no two solutions have the same
        small = tiny_prm("qwen2", Path(name) / "small", hidden=64, convention=spread)
        larger = tiny_prm("qwen2", Path(name) / "larger", hidden=arguments.join_hidden, layers=arguments.join_layers)
        report = {
            "benchmark": "serving",
            "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]},
            "soak": soak(arguments, small),
            "joining": joining(arguments, larger),
        }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(json.dumps(report, indent=2))
    found = report["soak"]
    kept = not found["lost"] and not found["swapped"] and not found["unexpected_status"] and not found["server_errors"] and found["memory_growth"] < 0.05
    sys.exit(0 if kept and found.get("schemathesis", {"found_nothing": True})["found_nothing"] else 1)


if __name__ == "__main__":
    main()
