"""Tool-grounded verifiers on public data, by verifier: python benchmarks/verifiers.py [--data DIR] [--sets A,B] [--verifiers A,B] [--json] [--show].

A row: steps with a checked claim (decided, in percent), error accuracy (first refuted step = labelled first error, among wrong solutions), correct
accuracy (right solutions in which nothing is refuted), their harmonic mean F1, false alarms (refuted before the labelled first error) and milliseconds
a step. Verifiers were tuned on the solutions of ProcessBench whose id hashes to 0; "held out" are the others.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.data.segment import segment
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier, Verifier, installed, load_verifier

Row = dict[str, Any]
LABELLED = ["processbench_gsm8k_dev", "processbench_math_dev", "prmbench_dev", "prm800k_phase1_test", "mr_ben_dev", "perl_premises"]
GOLD = ["gsm8k_train", "gsm8k_test", "math500", "gsm8k_sampled", "math_sampled"]  # sampled: models' solutions with a right final answer
TEXT = ("arithmetic", "algebra", "quantities")  # the verifiers of prose and formulas; logic, code, SQL and tables have their own data
PUBLISHED = {  # error accuracy, correct accuracy, F1 on the whole splits, ProcessBench (2024)
    "Math-Shepherd-PRM-7B": {"gsm8k": (32.4, 91.7, 47.9), "math": (18.0, 82.0, 29.5)},
    "RLHFlow-PRM-Mistral-8B": {"gsm8k": (33.8, 99.0, 50.4), "math": (21.7, 72.2, 33.4)},
}


def rows(data: Path, name: str) -> list[Row]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def held_out(row: Row) -> bool:
    """The half of the solutions that nothing was tuned on."""
    return int(hashlib.md5(str(row["id"]).encode()).hexdigest(), 16) % 2 == 1


async def judged(tools: ToolVerifier, cases: list[Row], at_once: int = 64) -> list[tuple[StepVerdict, ...]]:
    gate = asyncio.Semaphore(at_once)

    async def one(row: Row) -> tuple[StepVerdict, ...]:
        async with gate:
            return await tools.judge(Trajectory.from_texts(Problem(row["problem"]), row["steps"]))

    return list(await asyncio.gather(*(one(row) for row in cases)))


def labelled(tools: ToolVerifier, cases: list[Row], show: str) -> dict[str, float]:
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    verdicts = asyncio.run(judged(tools, cases))
    wall_s = time.perf_counter() - started
    for row, steps in zip(cases, verdicts, strict=True):
        truth = row["first_error"]
        first = next((index for index, step in enumerate(steps) if step.state is State.REFUTED), -1)
        kind = "right" if truth == -1 else "wrong"
        counts[kind] += 1
        counts[f"{kind} hit"] += first == truth
        early = first != -1 and (truth == -1 or first < truth)
        counts["early"] += early
        counts["steps"] += len(steps)
        counts["decided"] += sum(step.state is not State.ABSTAIN for step in steps)
        if first != -1 and (show == "all" or (show == "false" and early)):
            print(f"  {'FALSE' if early else 'hit' if first == truth else 'late'} {row['id']} label {truth}, step {first}: {steps[first].rationale}")
        if show in ("doubts", "all"):
            for index, step in enumerate(steps):
                for doubt in step.doubts:
                    at = "FALSE" if truth == -1 or index < truth else "hit" if index == truth else "late"
                    print(f"  doubt {at} {row['id']} label {truth}, step {index}: {doubt.sentence}")
    error, correct = (100 * counts[f"{kind} hit"] / max(1, counts[kind]) for kind in ("wrong", "right"))
    return {
        "solutions": len(cases),
        "decided": 100 * counts["decided"] / max(1, counts["steps"]),
        "error_accuracy": error,
        "correct_accuracy": correct,
        "f1": 2 * error * correct / (error + correct) if error + correct else 0.0,
        "early": counts["early"],
        "ms_a_step": 1e3 * wall_s / max(1, counts["steps"]),
    }


def gold(data: Path, name: str) -> Iterator[Row]:
    """Reference solutions, and sampled ones that end right, as solutions without an error."""
    if name.endswith("_sampled"):
        yield from _sampled(data, name)
        return
    for index, row in enumerate(rows(data, f"problems/{name}")):
        text = row.get("solution") or row["answer"]
        steps = [step for step in (text.split("\n") if name.startswith("gsm8k") else (step.text for step in segment(text))) if step.strip()]
        yield {"id": f"{name}-{row.get('id', index)}", "problem": row.get("question") or row["problem"], "steps": steps, "first_error": -1}


def _sampled(data: Path, name: str) -> Iterator[Row]:
    if name.startswith("gsm8k"):
        for index, row in enumerate(rows(data, "candidates/gsm8k_example_model_solutions")):
            for model, written in row.items():
                if isinstance(written, dict) and written["is_correct"]:
                    steps = [step for step in written["solution"].split("\n") if step.strip()]
                    yield {"id": f"{index}-{model}", "problem": row["question"], "steps": steps, "first_error": -1}
        return
    for row in rows(data, "candidates/math_100x8_qwen_rm"):
        for index, (text, right) in enumerate(zip(row["code"], row["score"], strict=True)):
            if right:
                steps = [step.text for step in segment(text)]
                yield {"id": f"{row['idx']}-{index}", "problem": row["question"], "steps": steps, "first_error": -1}


def sets(data: Path, chosen: list[str], every: int) -> Iterator[tuple[str, list[Row]]]:
    for name in LABELLED:
        if name in chosen:
            cases = [row for row in rows(data, f"steps/{name}") if row["first_error"] is not None]
            yield name, cases[::every]
            if name.startswith("processbench"):
                yield f"{name} (held out)", [row for row in cases[::every] if held_out(row)]
    for name in GOLD:
        if name in chosen:
            yield name, list(gold(data, name))[::every]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STEPWARD_DATA", "../shared/data")), help="folder of the public data sets")
    parser.add_argument("--sets", default=",".join(LABELLED[:2]), help=f"comma-separated, among {', '.join(LABELLED + GOLD)}")
    parser.add_argument("--verifiers", default=",".join((*TEXT, "together")), help="comma-separated; together: those of text in one; all: everything installed")
    parser.add_argument("--every", type=int, default=1, help="take every n-th solution")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--show", default="", choices=["", "false", "all", "doubts"], help="print refutations (false: those that contradict the labels)")
    options = parser.parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, cases in sets(options.data, options.sets.split(","), options.every):
        figures[name] = {}
        for verifier in options.verifiers.split(","):
            many: list[Verifier] = installed() if verifier == "all" else [load_verifier(part) for part in (TEXT if verifier == "together" else [verifier])]
            figure = figures[name][verifier] = labelled(ToolVerifier(many), cases, "" if options.json else options.show)
            if not options.json:
                print(
                    f"{name:40s} {verifier:12s} {figure['solutions']:5.0f} solutions  decided {figure['decided']:5.1f}  error {figure['error_accuracy']:5.1f}"
                    f"  correct {figure['correct_accuracy']:6.2f}  F1 {figure['f1']:5.1f}  early {figure['early']:3.0f}  {figure['ms_a_step']:6.2f} ms a step"
                )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if options.json:
        print(json.dumps({"benchmark": "verifiers", "machine": machine, "figures": figures, "published": PUBLISHED}))
        return
    for model, figure_of in PUBLISHED.items():
        print(f"published, {model}: " + "; ".join(f"{subset} error {e}, correct {c}, F1 {f}" for subset, (e, c, f) in figure_of.items()))


if __name__ == "__main__":
    main()
