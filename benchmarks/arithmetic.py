"""Soundness, coverage and speed of tools:arithmetic on public data: python benchmarks/arithmetic.py [--data DIR] [--json] [--show]."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import platform
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.rewards.arithmetic import ArithmeticVerifier, State, check, extract, verify
from stepward.rewards.arithmetic.token import Kind

Row = dict[str, Any]
STEPS = [
    ("processbench_gsm8k_dev", ""),
    ("processbench_math_dev", ""),
    ("mr_ben_dev", "math"),
    ("mr_ben_dev", "physics"),
    ("mr_ben_dev", "chemistry"),
    ("mr_ben_dev", "coding"),
    ("prmbench_dev", ""),
    ("prm800k_phase1_test", ""),
    ("perl_premises", ""),
]
PROBLEMS = ["gsm8k_train", "gsm8k_test", "math500", "olympiadbench"]


def rows(data: Path, name: str) -> list[Row]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def labelled(data: Path, name: str, keep: str = "", show: bool = False) -> dict[str, Any]:
    """First refuted step against the labelled first error."""
    counts: Counter[str] = Counter()
    verifier = ArithmeticVerifier()
    for row in rows(data, name):
        if row["first_error"] is None or (keep and keep not in row["source"]):
            continue
        scores = asyncio.run(verifier.score(Trajectory.from_texts(Problem(row["problem"]), row["steps"])))
        first = scores.first_error()
        assert first is not None, scores.reasons
        truth = row["first_error"]
        kind = "correct" if truth == -1 else "error"
        counts[f"n_{kind}"] += 1
        counts[f"hit_{kind}"] += first == truth
        counts["refuted_solutions"] += first != -1
        counts["refuted_before_first_error"] += first != -1 and (truth == -1 or first < truth)
        for step, reason in zip(row["steps"], scores.reasons, strict=True):
            if "=" in step:
                counts["steps_with_equals"] += 1
                counts["decided_with_equals"] += reason is None
        if show and first != -1 and (truth == -1 or first < truth):
            print(f"  {row['id']} first_error={truth} refuted step {first}: {scores.rationales[first]}")
    return dict(counts) | {
        "correct_accuracy": 100 * counts["hit_correct"] / max(1, counts["n_correct"]),
        "error_accuracy": 100 * counts["hit_error"] / max(1, counts["n_error"]),
        "decided_share": counts["decided_with_equals"] / max(1, counts["steps_with_equals"]),
    }


def solutions(data: Path, name: str) -> Iterator[tuple[str, str]]:
    """(problem id, step) of gold solutions."""
    for index, row in enumerate(rows(data, name)):
        text = row.get("answer") if name.endswith(("train", "test")) else row.get("solution")
        for part in text if isinstance(text, list) else [text]:
            for line in str(part).split("\n"):
                yield f"{name.split('/')[-1]}-{row.get('unique_id', row.get('id', index))}", line


def gold(data: Path, name: str, show: bool = False) -> dict[str, Any]:
    """What is refuted in solutions that are right, and whether a wrong right side is noticed."""
    counts: Counter[str] = Counter()
    rng = random.Random(0)
    for identity, step in solutions(data, name):
        verdict = verify(step)
        counts["steps"] += 1
        if "=" in step:
            counts["steps_with_equals"] += 1
            counts["decided_with_equals"] += verdict.state is not State.ABSTAIN
        for judged in verdict.verdicts:
            counts[judged.state.value] += 1
            if judged.state is State.REFUTED and show:
                print(f"  {identity}: {judged.sentence}")
            right = judged.claim.right
            whole = right[-1].kind is Kind.NUMBER and "." not in right[-1].text and len(right) == 1
            if judged.state is State.SUPPORTED and whole:
                for delta in (rng.choice([-1, 1]) * rng.randint(1, 9),):
                    number = right[-1]
                    altered = step[: number.start] + str(int(number.text) + delta) + step[number.end :]
                    outcome = [check(claim).state for claim in extract(altered) if claim.span[0] == judged.claim.span[0]]
                    noticed = State.REFUTED in outcome
                    only_integers = all("." not in token.text and token.kind is not Kind.PERCENT for token in judged.claim.left)
                    counts["perturbed"] += 1
                    counts["noticed"] += noticed
                    counts["perturbed_integers"] += only_integers
                    counts["noticed_integers"] += noticed and only_integers
                    if show and not noticed:
                        reasons = [check(claim).reason for claim in extract(altered) if claim.span[0] == judged.claim.span[0]]
                        print("  MISSED", altered[max(0, number.start - 30) : number.end + 10], reasons)
    return dict(counts) | {
        "decided_share": counts["decided_with_equals"] / max(1, counts["steps_with_equals"]),
        "perturbation_noticed": counts["noticed"] / max(1, counts["perturbed"]),
        "perturbation_noticed_integers": counts["noticed_integers"] / max(1, counts["perturbed_integers"]),
    }


def speed(data: Path) -> dict[str, float]:
    """Milliseconds a step of ProcessBench, processor time, best of five passes."""
    steps = [step for subset in ("gsm8k", "math") for row in rows(data, f"steps/processbench_{subset}_dev") for step in row["steps"]]
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for step in steps:
            verify(step)
        best = min(best, time.process_time() - start)
    return {"ms_per_step": 1e3 * best / len(steps), "n_steps": len(steps), "mean_characters": sum(map(len, steps)) / len(steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the public data sets")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--only", default="", help="only the sets whose name contains this")
    parser.add_argument("--show", action="store_true", help="print refuted claims that contradict the labels")
    options = parser.parse_args()
    show = options.show and not options.json
    figures: dict[str, Any] = {}
    for name, keep in STEPS:
        key = name.removesuffix("_dev") + (f"_{keep}" if keep else "")
        if options.only in key:
            figures[key] = labelled(options.data, f"steps/{name}", keep, show)
    for name in PROBLEMS:
        if options.only in name:
            figures[name] = gold(options.data, f"problems/{name}", show)
    if options.only in "speed":
        figures["speed"] = speed(options.data)
    result = {"benchmark": "arithmetic", "machine": f"{platform.machine()}, Python {platform.python_version()}", "figures": figures, "ratios": {}}
    if options.json:
        print(json.dumps(result))
        return
    for name, figure in figures.items():
        print(name, {key: round(value, 4) for key, value in figure.items()})


if __name__ == "__main__":
    main()
