"""Grading under attack: adversarial answers through the grader from threads and from asyncio, and what an ordinary grade costs.

    python benchmarks/grading.py --json            # 2,000 answers through each face

Not here: whether grades agree with human-checked data; the tests do that where the data is at hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepward.core.outcome import Outcome
from stepward.environments.grader.answer_grader import AnswerGrader
from stepward.testing.adversarial import AdversarialAnswer, adversarial_answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="adversarial answers through each face (default 2000)")
    parser.add_argument("--time-limit", type=float, default=1.0, help="seconds an answer may take (default 1)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    attacks = adversarial_answers(options.seed, options.n)
    figures: dict[str, Any] = {"n": options.n, "time_limit_s": options.time_limit, "workers": options.workers}
    for face, run in (("threads", from_threads), ("asyncio", from_asyncio)):
        grader = AnswerGrader(workers=options.workers, time_limit_s=options.time_limit)
        start = time.perf_counter()
        outcomes = run(grader, attacks)
        wall_s = time.perf_counter() - start
        grader.close()
        figures[face] = summarize(attacks, outcomes) | {"wall_s": round(wall_s, 1), "leaked": len(children())}
    figures |= easy_grades(options.workers)
    machine = {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    report = {"benchmark": "grading", "machine": machine, "figures": figures, "ratios": {}}
    if options.json:
        print(json.dumps(report))
    else:
        print(json.dumps(report, indent=2))
    if any(figures[face]["leaked"] or figures[face]["forbidden"] or figures[face]["n_back"] != options.n for face in ("threads", "asyncio")):
        sys.exit(1)


def from_threads(grader: AnswerGrader, attacks: list[AdversarialAnswer]) -> list[Outcome]:
    """All of them from 8 threads."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda attack: grader.grade_sync(attack.gold, attack.answer), attacks))


def from_asyncio(grader: AnswerGrader, attacks: list[AdversarialAnswer]) -> list[Outcome]:
    """All of them at once on one event loop."""

    async def everything() -> list[Outcome]:
        return await asyncio.gather(*(grader.grade(attack.gold, attack.answer) for attack in attacks))

    return asyncio.run(everything())


def summarize(attacks: list[AdversarialAnswer], outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts by grade; `forbidden` lists grades that the attack's known truth rules out."""
    reasons = Counter((outcome.reason or "").split("(")[0].split(" characters")[0].rstrip("0123456789 ") for outcome in outcomes if not outcome.scored)
    forbidden = [(a.family, a.gold, a.answer[:80], o.value) for a, o in zip(attacks, outcomes, strict=True) if not a.allows(o.value)]
    known = [(a, o) for a, o in zip(attacks, outcomes, strict=True) if a.expected != "any"]
    return {
        "n_back": len(outcomes),
        "right": sum(outcome.value == 1.0 for outcome in outcomes),
        "wrong": sum(outcome.value == 0.0 for outcome in outcomes),
        "unscored": dict(reasons.most_common()),
        "known_truth": len(known),
        "known_truth_unscored": sum(not o.scored for _, o in known),
        "forbidden": forbidden,
    }


def easy_grades(workers: int) -> dict[str, float]:
    """Milliseconds a grade for integers (decided at once) and for small expressions (decided by a warm worker)."""
    with AnswerGrader(workers=workers) as grader:
        grader.grade_sync("x+1", "1+x")
        start = time.perf_counter()
        for k in range(10_000):
            grader.grade_sync(str(k), f"{k}.0")
        integer_ms = (time.perf_counter() - start) / 10
        start = time.perf_counter()
        for k in range(2, 102):
            grader.grade_sync(rf"{k}\sqrt{{2}}", rf"\sqrt{{{2 * k * k}}}")
        return {"ms_per_integer_grade": integer_ms, "ms_per_expression_grade": (time.perf_counter() - start) * 10}


def children() -> list[int]:
    """Live or unreaped child processes of this one (Linux; elsewhere none are seen)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listing:
            own = [int(pid) for pid in listing.read().split()]
    except OSError:
        return []
    return own


if __name__ == "__main__":
    main()
