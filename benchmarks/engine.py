"""What the engine costs: microseconds a request with 10,000 concurrent scripted requests, with and without the journal.

    python benchmarks/engine.py [--json] [--requests 10000] [--repeats 5]

A request is `sample(prefix)` of a policy that answers at once: it is gathered into batches, run in the worker thread, and charged to a ledger. Every
figure is the best of the repeats: wall time, and under `..._cpu` processor time of all threads, which other programs on the machine disturb less.
`ratios` compare with as many bare asyncio tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from stepward.core.problem import Problem
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.core.sampling import Sampling, Until
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge, metered
from stepward.engine.batching import Batcher
from stepward.engine.concurrency import run_all
from stepward.engine.entry import Entry, entry_key
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.engine.noise import row_keys, uniform_at, uniforms

COST = Usage(policy_tokens=7, policy_prefill=40, calls=1)


class EchoPolicy:
    """Answers at once, through a batcher."""

    fingerprint = "benchmark:echo"

    def __init__(self, max_batch: int) -> None:
        self._batcher: Batcher[tuple[Trajectory, int], Trajectory] = Batcher(self._run, max_batch=max_batch)

    async def sample(
        self,
        prefix: Trajectory,
        n: int = 1,
        *,
        until: Until = Until.STEP,  # noqa: ARG002
        sampling: Sampling = DEFAULT_SAMPLING,  # noqa: ARG002
        draw: int = 0,
    ) -> list[Trajectory]:
        samples = [await self._batcher((prefix, draw + index)) for index in range(n)]
        charge(COST)
        return samples

    def _run(self, requests: Sequence[tuple[Trajectory, int]]) -> list[Trajectory]:
        return [prefix.extend(Step(f"Then 3 + {draw} = {3 + draw}.", "\n\n", n_tokens=7)) for prefix, draw in requests]

    def close(self) -> None:
        self._batcher.close()


class Stopwatch:
    """Best wall and processor time (all threads) of `once(repeat)` over the repeats, in microseconds a request."""

    def __init__(self, n: int, repeats: int) -> None:
        self.n, self.repeats = n, repeats
        self.wall_us: dict[str, float] = {}
        self.cpu_us: dict[str, float] = {}

    def time(self, name: str, once: Callable[[int], Awaitable[object]]) -> None:
        walls, cpus = [], []
        for repeat in range(self.repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            asyncio.run(_await(once(repeat)))
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        self.wall_us[name] = min(walls) / self.n * 1e6
        self.cpu_us[name] = min(cpus) / self.n * 1e6


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


def measure(n: int, repeats: int) -> dict[str, float]:
    """All figures."""
    prefixes = [Trajectory(Problem(f"What is 3 + {index}?")) for index in range(n)]
    for prefix in prefixes:
        _ = prefix.key
    watch = Stopwatch(n, repeats)

    async def nothing() -> None:
        return None

    async def tasks(_: int) -> None:
        await asyncio.gather(*(nothing() for _ in range(n)))

    watch.time("bare_task_us", tasks)

    for max_batch in (64, 1024):
        policy = EchoPolicy(max_batch)

        async def batched(_: int, policy: EchoPolicy = policy) -> None:
            with metered():
                await asyncio.gather(*(policy.sample(prefix) for prefix in prefixes))

        async def limited(_: int, policy: EchoPolicy = policy) -> None:
            with metered():
                await run_all(prefixes, policy.sample, limit=n)

        watch.time(f"request_us_batch_{max_batch}", batched)
        watch.time(f"request_us_run_all_batch_{max_batch}", limited)
        policy.close()

    with tempfile.TemporaryDirectory() as folder:
        policy = EchoPolicy(1024)
        with Journal(Path(folder) / "journal.sqlite") as journal:
            journaled = JournaledPolicy(policy, journal)

            async def cold(repeat: int) -> None:
                with metered():
                    await asyncio.gather(*(journaled.sample(prefix, draw=1 + repeat) for prefix in prefixes))

            async def replayed(_: int) -> None:
                with metered():
                    await asyncio.gather(*(journaled.sample(prefix, draw=1) for prefix in prefixes))

            watch.time("request_us_journal_cold", cold)
            watch.time("request_us_journal_replayed", replayed)

            entries = [
                [Entry(key=entry_key("bench", "x", [repeat, index]), kind="bench", payload={"text": f"3 + {index}"}) for index in range(n)]
                for repeat in range(repeats)
            ]

            async def puts(repeat: int) -> None:
                await asyncio.gather(*(journal.put(entry) for entry in entries[repeat]))

            async def gets(_: int) -> None:
                await asyncio.gather(*(journal.get(entry.key) for entry in entries[0]))

            watch.time("journal_put_us", puts)
            watch.time("journal_get_us", gets)
        policy.close()

    figures = dict(watch.wall_us) | {f"{name}_cpu": value for name, value in watch.cpu_us.items()}
    figures["journal_puts_per_s"] = 1e6 / watch.wall_us["journal_put_us"]
    figures["journal_gets_per_s"] = 1e6 / watch.wall_us["journal_get_us"]
    start = time.process_time()
    for index in range(n):
        uniforms(0, "key", 0, index)
    figures["uniforms_us_cpu"] = (time.process_time() - start) / n * 1e6
    keys = row_keys(0, [("key", draw) for draw in range(1024)])
    start = time.process_time()
    for position in range(200):
        uniform_at(keys, np.full(1024, position))
    figures["uniform_at_us_cpu_per_1024_rows"] = (time.process_time() - start) / 200 * 1e6
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    figures = measure(arguments.requests, arguments.repeats)
    report = {
        "benchmark": "engine",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version(), "requests": arguments.requests},
        "figures": {name: round(value, 2) for name, value in figures.items()},
        "ratios": {
            "request_over_bare_task": round(figures["request_us_batch_64"] / figures["bare_task_us"], 2),
            "replayed_over_cold": round(figures["request_us_journal_replayed"] / figures["request_us_journal_cold"], 3),
        },
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in figures.items():
            print(f"{name:36} {value:12.2f}")


if __name__ == "__main__":
    main()
