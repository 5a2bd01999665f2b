"""Distributed labeling: throughput of four workers over one, and final labels while workers are killed, against a policy server whose latency dominates.

The server is a stand-in in a process of its own: it speaks the OpenAI completions protocol, lets the scripted solver of grade-school write, and answers every
request after `--latency` seconds, however many are waiting. So what is measured is how well workers wait, not how fast a model is. Every worker has up to
`--concurrency` solutions in hand at once. Throughput counts from the first label to the last, so that starting Ray is not in it (it is reported apart).
The labels of every run are compared with those of one process without Ray.

    python benchmarks/distributed.py --json
    python benchmarks/distributed.py --kill-every 5 --kill-for 60
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
from fastapi import FastAPI, Request

from stepward.cli.label_job import LabelJob
from stepward.core import Problem, Sampling, Trajectory, Until
from stepward.engine.concurrency import run_all
from stepward.engine.distributed import run_distributed
from stepward.environments.grade_school import GradeSchool
from stepward.policies.scripted import ScriptedSolver

_GAP = "\n\n"  # between steps, as the http policy asks for it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=120)
    parser.add_argument("--latency", type=float, default=0.25, help="seconds")
    parser.add_argument("--concurrency", type=int, default=2, help="solutions that a worker has in hand at once")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=0.0, help="seconds between kills of a random worker; 0: none")
    parser.add_argument("--kill-for", type=float, default=60.0, help="seconds over which workers are killed; runs go on until they have passed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    problems = list(GradeSchool.easy().problems(0, options.problems))
    with stand_in(problems, options.latency) as url:
        job = LabelJob(method="monte-carlo", settings={"n": 2}, environment="grade-school:easy", policy=url, model_name="stand-in", sampling=Sampling())
        trajectories = [solution for pool in asyncio.run(_alone(job, problems)) for solution in pool]
        expected = [labels.to_record() for labels in asyncio.run(_alone(job, trajectories))]
        runs = [measure(job, trajectories, workers, options.concurrency) for workers in (1, options.workers)]
        report: dict[str, Any] = {
            "benchmark": "distributed",
            "n_trajectories": len(trajectories),
            "latency_s": options.latency,
            "concurrency_of_a_worker": options.concurrency,
            "per_s": {str(workers): run["per_s"] for workers, run in zip((1, options.workers), runs, strict=True)},
            "startup_s": {str(workers): run["startup_s"] for workers, run in zip((1, options.workers), runs, strict=True)},
            "ratio": runs[1]["per_s"] / runs[0]["per_s"],
            "target_ratio": 3.0,
            "n_labels_that_differ": sum(_differing(run["labels"], expected) for run in runs),
        }
        if options.kill_every:
            report["killing"] = killing(job, trajectories, expected, options)
    print(json.dumps(report) if options.json else "\n".join(f"{name:30s} {value}" for name, value in report.items()))


async def _alone(job: LabelJob, items: list[Any]) -> list[Any]:
    return await run_all(items, job.open(None), limit=64)


def measure(job: LabelJob, trajectories: list[Trajectory], workers: int, concurrency: int) -> dict[str, Any]:
    ends: list[float] = []
    start = time.perf_counter()
    results, report = run_distributed(
        trajectories, job, key=lambda one: one.problem.id, workers=workers, concurrency=concurrency, on_done=lambda _, __: ends.append(time.perf_counter())
    )
    per_s = (len(ends) - 1) / (ends[-1] - ends[0])
    return {"per_s": per_s, "startup_s": ends[0] - start, "labels": results, "n_deaths": report.n_deaths}


def killing(job: LabelJob, trajectories: list[Trajectory], expected: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Runs, one after the other, while a random worker is killed at every interval."""
    over = threading.Event()
    kills: list[int] = []

    def kill() -> None:
        draw = random.Random(0)
        while not over.wait(options.kill_every):
            workers = [process for process in psutil.process_iter(["cmdline"]) if any("ray::Worker" in word for word in process.info["cmdline"] or [])]
            if workers:
                victim = draw.choice(workers)
                kills.append(victim.pid)
                victim.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    start, n_runs, n_deaths, differing = time.perf_counter(), 0, 0, 0
    while time.perf_counter() - start < options.kill_for:
        run = measure(job, trajectories, options.workers, options.concurrency)
        n_runs, n_deaths, differing = n_runs + 1, n_deaths + run["n_deaths"], differing + _differing(run["labels"], expected)
    over.set()
    killer.join()
    return {"seconds": time.perf_counter() - start, "runs": n_runs, "kills": len(kills), "deaths_noticed": n_deaths, "labels_that_differ": differing}


def _differing(labels: list[Any], expected: list[dict[str, Any]]) -> int:
    return sum(not hasattr(one, "to_record") or one.to_record() != wanted for one, wanted in zip(labels, expected, strict=True))


@contextmanager
def stand_in(problems: list[Problem], latency: float) -> Iterator[str]:
    """The address of the server, which runs in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(problems, latency, port), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}/v1"
    while True:
        try:
            httpx.get(f"{url}/models", timeout=1)
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    try:
        yield url
    finally:
        process.kill()
        process.join()


def serve(problems: list[Problem], latency: float, port: int) -> None:
    import uvicorn

    app, solver = FastAPI(), ScriptedSolver()
    by_prompt = sorted(problems, key=lambda problem: -len(problem.prompt))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "stand-in"}]}

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict[str, Any]:
        asked = await request.json()
        problem = next(problem for problem in by_prompt if asked["prompt"].startswith(problem.prompt))
        lines = [line for line in asked["prompt"][len(problem.prompt) :].split("\n") if line]
        prefix = Trajectory.from_texts(problem, lines, finished=False)
        choices, written = [], 0
        for index in range(asked.get("n") or 1):
            (sample,) = await solver.sample(prefix, until=Until.END, sampling=Sampling(seed=(asked.get("seed") or 0) + index))
            text = _GAP.join(step.text for step in sample.steps[len(prefix) :])
            choices.append({"index": index, "text": text, "finish_reason": "stop", "stop_reason": None, "logprobs": None})
            written += sum(step.n_tokens or 0 for step in sample.steps[len(prefix) :])
        await asyncio.sleep(latency)
        usage = {"prompt_tokens": len(asked["prompt"].split()), "completion_tokens": written, "total_tokens": written}
        return {"id": "x", "object": "text_completion", "choices": choices, "usage": usage}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
