"""Scoring: a reward model's speed on candidates that share a prompt and on a recorded beam, against transformers, a public loop and a vLLM server, in one run.

A random Qwen2.5-Math-PRM-shaped model, saved to a folder that every side loads. Two workloads, with `--scale` times as many problems:

- candidates: 8 problems with a prompt of 200 tokens, 16 solutions each of 10 steps of 20 tokens;
- beam: 4 problems, width 4, expansion 2, depth 6, steps of 50 tokens on average: everything that the search scored, as a tree.

Sides: ours, through `DiscriminativeModel.score`, one request a solution; transformers in padded batches sorted by length, in the batch size that is
fastest here, as it is and (on a processor) with the matrix products that ours uses, because torch's own may be slower; the loop of public search scripts,
which scores every candidate of every step from its start, one by one (measured on one problem, times their number); and, with `--vllm` or `--url`, a vLLM
server with step-wise pooling, for which vLLM has no prefix caching (off by default), each side in the number format that is faster for it. The beam is
scored as a finished tree and, as a search does, growing call by call. A side is measured while no other side's threads or server are alive.

    python benchmarks/scoring.py --json
    python benchmarks/scoring.py --vllm "vllm serve {model} --port {port}"
    python benchmarks/scoring.py --device cuda --dtype bfloat16 --size 1.5b --scale 8
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scoring_sides import (
    alone,
    fastest_batch,
    fresh,
    load,
    matmul_rates,
    one_by_one,
    ours_once,
    padded_batches,
    padded_batches_with_onednn,
)  # fmt: skip
from scoring_workloads import MARKER, SHAPES, Counts, Workload, beam, candidates, count, save_model

from stepward.policies.sampler.weights import active_parameters, attention_flops
from stepward.rewards.discriminative import DiscriminativeModel

TARGETS = {  # figure: at least (or, where it is a cost, at most)
    "candidates_speed_up_over_duplication": 0.75,
    "beam_speed_up_over_duplication": 0.75,
    "candidates_tokens_processed_over_distinct": 1.02,
    "beam_tokens_processed_over_distinct": 1.02,
    "growing_beam_over_finished_tree": 1.25,
    "growing_beam_speed_up_over_public_loop": 8.0,
    "candidates_fraction_of_matmul_rate": 0.65,
    "beam_fraction_of_matmul_rate": 0.65,
    "candidates_solutions_per_s_over_vllm": 2.5,
    "beam_solutions_per_s_over_vllm": 5.0,
    "growing_beam_solutions_per_s_over_vllm": 5.0,
}
_COSTS = ("tokens_processed_over_distinct", "growing_beam_over_finished_tree")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SHAPES), default="medium", help="small: 29, medium: 61, 1.5b: 1310 million parameters")
    parser.add_argument("--scale", type=int, default=1, help="this many times as many problems")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-batch-tokens", type=int, default=0, help="of ours; default: 8192, on an accelerator 32768")
    parser.add_argument("--repeats", type=int, default=2, help="measure this often, alternating, and report medians")
    parser.add_argument("--vllm", help="command that starts a vLLM server: a prefix for model and port, or with {model} and {port} in it")
    parser.add_argument("--vllm-dtypes", default="bfloat16,float32", help="formats to try on the server; the fastest counts")
    parser.add_argument("--url", help="a running, idle server of the model that `--keep` saved, in place of --vllm")
    parser.add_argument("--keep", help="save the model in this folder, or use the one that is there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.max_batch_tokens = options.max_batch_tokens or (8192 if options.device == "cpu" else 32768)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").exists():
            alone(save_model, folder, options.size)
        report = run(folder, options)
    if options.json:
        print(json.dumps(report))
        return
    print(report["machine"])
    for name, value in {**report["figures"], **report["ratios"]}.items():
        goal = TARGETS.get(name)
        target = "" if goal is None else f"   target: {'at most' if name.endswith(_COSTS) else 'at least'} {goal:g}"
        print(f"{name:60s} {value:12.4g}{target}" if isinstance(value, float | int) else f"{name:60s} {value}")


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    model = alone(load, folder, options.dtype, options)
    workloads = [
        candidates(problems=8 * options.scale, per_problem=16, prompt=200, steps=10, step_tokens=20),
        beam(problems=4 * options.scale, prompt=200, width=4, expansion=2, depth=6, step_tokens=50),
    ]
    encoded = {workload.name: model.encoder.many(workload.solutions) for workload in workloads}
    counts = {name: count(one.ids for one in rows) for name, rows in encoded.items()}
    rates = alone(matmul_rates, model, options.device)
    batch_tokens = {name: alone(fastest_batch, model, rows, options.device) for name, rows in encoded.items()}
    alone(ours_once, model, [workloads[0].solutions[: 16 if options.device == "cpu" else None]])  # warm up
    model = fresh(model, options)
    walls: dict[str, list[float]] = {}
    differences: list[float] = []
    processed: dict[str, int] = {}
    for _ in range(options.repeats):
        for workload in workloads:
            name = workload.name
            ours, scores, processed[name] = alone(ours_once, model, [workload.solutions])
            model = fresh(model, options)
            theirs, peers = alone(padded_batches, model, encoded[name], batch_tokens[name], options.device)
            walls.setdefault(f"ours_{name}", []).append(ours)
            walls.setdefault(f"transformers_{name}", []).append(theirs)
            differences += [float(np.abs(mine.values - theirs).max()) for mine, theirs in zip(scores, peers, strict=True)]
        grown, _, processed["growing"] = alone(ours_once, model, workloads[1].levels)
        walls.setdefault("ours_growing_beam", []).append(grown)
        model = fresh(model, options)
        one_problem = workloads[1].levels[0][0].problem
        loop = [model.encoder.many([one for one in level if one.problem == one_problem]) for level in workloads[1].levels]
        walls.setdefault("public_loop_beam", []).append(alone(one_by_one, model, loop, options.device) * 4 * options.scale)
    if options.device == "cpu" and options.dtype == "float32":
        for name, rows in encoded.items():
            walls[f"transformers_with_onednn_{name}"] = [alone(padded_batches_with_onednn, model, rows, batch_tokens[name])]
    for name, times in walls.items():
        say(f"{name}: {', '.join(f'{seconds:.1f} s' for seconds in times)}")
    figures = {
        "parameters_without_embedding": active_parameters(model.body),
        "dtype": options.dtype,
        **{f"{name}_{field}": getattr(counts[name], field) for name in counts for field in ("total", "distinct", "duplication")},
        **{f"{name}_s": median(times) for name, times in walls.items()},
        **{f"{name}_solutions_per_s": len(rows) / median(walls[f"ours_{name}"]) for name, rows in encoded.items()},
        **{f"transformers_{name}_batch_tokens": tokens for name, tokens in batch_tokens.items()},
        **{f"{name}_gflops": rate / 1e9 for name, rate in rates.items()},
        "largest_difference_in_probability": max(differences),
    }
    report = {"benchmark": "scoring", "machine": machine(options.device), "figures": figures}
    report["ratios"] = ratios(model, figures, counts, processed, max(rates.values()))
    if options.vllm or options.url:
        against_server(folder, workloads, figures, report["ratios"], options)
    return report


def ratios(model: DiscriminativeModel, figures: dict[str, Any], counts: dict[str, Counts], processed: dict[str, int], rate: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, tokens in counts.items():
        speed_up = figures[f"transformers_{name}_s"] / figures[f"ours_{name}_s"]
        flops = 2 * active_parameters(model.body) * tokens.distinct + attention_flops(model.body, 0, 1) * tokens.context
        if f"transformers_with_onednn_{name}_s" in figures:
            found[f"{name}_speed_up_over_duplication_with_equal_matmul"] = (
                figures[f"transformers_with_onednn_{name}_s"] / figures[f"ours_{name}_s"] / tokens.duplication
            )
        found |= {
            f"{name}_speed_up": speed_up,
            f"{name}_speed_up_over_duplication": speed_up / tokens.duplication,
            f"{name}_tokens_processed_over_distinct": processed[name] / tokens.distinct,
            f"{name}_fraction_of_matmul_rate": flops / figures[f"ours_{name}_s"] / rate,
        }
    return found | {
        "growing_beam_tokens_processed_over_distinct": processed["growing"] / counts["beam"].distinct,
        "growing_beam_over_finished_tree": figures["ours_growing_beam_s"] / figures["ours_beam_s"],
        "growing_beam_speed_up_over_public_loop": figures["public_loop_beam_s"] / figures["ours_growing_beam_s"],
    }


def against_server(folder: Path, workloads: Sequence[Workload], figures: dict[str, Any], found: dict[str, float], options: argparse.Namespace) -> None:
    """Solutions per second of ours and of the server, each in the number format that is fastest for it. Everything of ours is measured first."""
    import scoring_server

    whole, searched = workloads
    levels = {"candidates": [whole.solutions], "beam": [searched.solutions], "growing_beam": searched.levels}
    ours = {name: (figures[f"ours_{name}_s"], options.dtype) for name in levels}
    for dtype in sorted({"float32", "bfloat16"} - {options.dtype}):
        model = alone(load, folder, dtype, options)
        for name in levels:
            seconds = []
            for _ in range(options.repeats):
                seconds.append(alone(ours_once, model, levels[name])[0])
                model = fresh(model, options)
            ours[name] = min(ours[name], (median(seconds), dtype))
            say(f"ours {dtype}, {name}: {', '.join(f'{one:.1f} s' for one in seconds)}")
    ids = {name: [[one.ids.tolist() for one in model.encoder.many(level)] for level in parts] for name, parts in levels.items()}
    exact = alone(ours_once, alone(load, folder, "float32", options), levels["candidates"])[1]
    step_tag = int(model.tokenizer.convert_tokens_to_ids(MARKER))
    theirs = dict.fromkeys(levels, (float("inf"), ""))

    def measure(url: str, setting: str) -> None:
        scoring_server.score_all(url, [ids["candidates"][0][:8]], per_request=1)  # warm up
        say(f"the {setting} server is up")
        trials = {n: scoring_server.score_all(url, [ids["candidates"][0][:64]], per_request=n)[0] for n in (1, 4, 16)}
        per_request = min(trials, key=lambda n: trials[n])
        for name, parts in ids.items():
            runs = [scoring_server.score_all(url, parts, per_request=per_request) for _ in range(options.repeats)]
            say(f"vllm {setting}, {per_request} solutions a request, {name}: {', '.join(f'{seconds:.1f} s' for seconds, _ in runs)}")
            theirs[name] = min(theirs[name], (median(seconds for seconds, _ in runs), f"{setting}, {per_request} solutions a request"))
            if name == "candidates":
                difference = max(float(np.abs(np.array(rows)[:, 1] - one.values).max()) for rows, one in zip(runs[0][1], exact, strict=True))
                figures[f"vllm_{setting}_largest_difference_in_probability"] = difference

    if options.url:
        measure(options.url, "as served")
    for dtype in options.vllm_dtypes.split(",") if options.vllm else ():
        with scoring_server.serving(options.vllm, str(folder), dtype=dtype, step_tag=step_tag) as url:
            measure(url, dtype)
    for name, parts in levels.items():
        for side, (wall_s, setting) in (("ours", ours[name]), ("vllm", theirs[name])):
            figures[f"against_vllm_{name}_{side}_solutions_per_s"] = sum(map(len, parts)) / wall_s
            figures[f"against_vllm_{name}_{side}_setting"] = setting
        found[f"{name}_solutions_per_s_over_vllm"] = theirs[name][0] / ours[name][0]


def say(line: str) -> None:
    """Progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{os.cpu_count()} x {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{platform.system()} {name}, python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
