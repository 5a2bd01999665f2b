"""Code by execution on public problems: reference programs against their tests, before and after one line is corrupted.

python benchmarks/code_verifier.py [--data DIR] [--mutants N] [--limit N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.engine.sandbox import Sandbox, best_sandbox
from stepward.environments.code import program_of, read_code_problems
from stepward.labeling.program_edits import Edit, choose, mutations, refactorings
from stepward.rewards.code import CodeVerifier
from stepward.rewards.verifiers.verdict import combine
from stepward.rewards.verifiers.verifier import StepContext

SETS = {"humaneval": "humaneval", "mbpp": "mbpp_sanitized"}


async def state(verifier: CodeVerifier, problem: Problem, text: str) -> str:
    """What tools:code says of a solution in one step, with its reason where it is not supported or refuted."""
    trajectory = Trajectory.from_texts(problem, [text])
    verdict = combine(await verifier.verify(StepContext(trajectory, 0)))
    return verdict.state.value if verdict.state != "abstain" else f"abstain: {verdict.reason.rpartition('because: ')[2]}"


def edits(problem: Problem, found: list[Edit], program: str, n: int) -> list[Edit]:
    """`n` edits of the solution (not of the prompt), the same ones each time."""
    start = len(program) - len(problem.reference_steps[0])
    return choose([edit for edit in found if edit.start >= start], n, problem.id)


async def measure(box: Sandbox, problems: list[Problem], n_mutants: int) -> dict[str, Any]:
    verifier = CodeVerifier(sandbox=box)
    gold: Counter[str] = Counter()
    outcomes: dict[str, Counter[str]] = {}
    kept: Counter[str] = Counter()
    survivors: list[str] = []
    lock = asyncio.Semaphore(8)

    async def one(problem: Problem) -> None:
        async with lock:
            solution = problem.reference_steps[0]
            program = program_of(problem.prompt, solution)
            prefix = len(program) - len(solution)
            found = await state(verifier, problem, solution)
            gold[found] += 1
            if found != "supported":
                return
            for edit in edits(problem, mutations(program), program, n_mutants):
                answer = await state(verifier, problem, edit.apply(program)[prefix:])
                outcomes.setdefault(edit.operator, Counter())[answer.split(":")[0]] += 1
                if answer == "supported":
                    survivors.append(f"{problem.id}: {edit.operator}: {program[edit.start : edit.end]!r} -> {edit.text!r}")
            for edit in edits(problem, refactorings(program), program, 1):
                kept[(await state(verifier, problem, edit.apply(program)[prefix:])).split(":")[0]] += 1

    begin = time.perf_counter()
    await asyncio.gather(*map(one, problems))
    total = sum(outcomes.values(), Counter())
    caught = total["refuted"] + total["abstain"]
    return {
        "problems": len(problems),
        "reference": dict(gold),
        "corrupted": total.total(),
        "corrupted_refuted": total["refuted"],
        "corrupted_refuted_or_fail": round(100 * caught / max(1, total.total()), 1),
        "by_operator": {name: dict(count) for name, count in sorted(outcomes.items())},
        "survivors": sorted(survivors),
        "refactored": dict(kept),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "code")
    parser.add_argument("--mutants", type=int, default=1, help="corrupted programs a problem")
    parser.add_argument("--limit", type=int, default=None, help="problems a set")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "mutants_per_problem": args.mutants}
    with best_sandbox() as box:
        report["mechanism"] = box.mechanism
        for name, file in SETS.items():
            problems = list(read_code_problems(args.data / f"{file}.jsonl.gz"))[: args.limit]
            report[name] = asyncio.run(measure(box, problems, args.mutants))
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for name in SETS:
        found = report[name]
        print(f"{name}: {found['problems']} problems in {found['seconds']} s; reference programs {found['reference']}; refactored {found['refactored']}")
        print(
            f"  one line corrupted: {found['corrupted']} programs, {found['corrupted_refuted']} refuted, {found['corrupted_refuted_or_fail']} % refuted or fail"
        )
        for operator, counts in found["by_operator"].items():
            print(f"    {operator:12s} {counts}")
        for line in found["survivors"]:
            print(f"    survived: {line}")


if __name__ == "__main__":
    main()
