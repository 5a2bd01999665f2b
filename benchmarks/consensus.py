"""Consensus filtering in miniature: what agreement of Monte-Carlo and a judge is worth, as the completing policy repairs more of its errors.

Solutions of grade-school by a scripted solver that errs seldom (0.7 times the default rates) or often (2 times). Hard Monte-Carlo labels (n = 8) by solvers
that notice an error with a given chance a step; a judge that is the truth with 10 % false alarms and 20 % misses, independent of everything; the filter keeps
the solutions on whose first error both agree (The Lessons of Developing Process Reward Models in Mathematical Reasoning, 2025). Shares of first errors named
rightly among what is kept, with 95 % intervals.

    python benchmarks/consensus.py --n 250 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from stepward.core import Count, Sampling
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.judges import JudgeLabels
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.labeling.precision import consensus_precision
from stepward.policies.scripted import ScriptedSolver
from stepward.policies.scripted.rates import ErrorRates
from stepward.testing.noisy_judge import NoisyJudge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=250, help="solutions")
    parser.add_argument("--seed", type=int, default=21, help="of the problems")
    parser.add_argument("--notice", type=float, nargs="+", default=[0.0, 0.05, 0.2])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [row for errs in (0.7, 2.0) for row in asyncio.run(measure(options.n, options.seed, errs, options.notice))]
    if options.json:
        print(json.dumps({"benchmark": "consensus", "n": options.n, "rows": rows}))
        return
    for row in rows:
        cells = "  ".join(f"{name} {_shown(row[name])}" for name in ("Monte-Carlo", "judge", "consensus"))
        print(f"wrong solutions {100 * row['wrong']:3.0f} %, notices {row['notice']:<5g} {cells}  kept {100 * row['kept']['value']:.0f} %")


async def measure(n: int, seed: int, errs: float, notices: list[float]) -> list[dict[str, Any]]:
    world = GradeSchool()
    writer = ScriptedSolver(rates=ErrorRates.scaled(errs))
    pools = await asyncio.gather(*(solve(writer, world, problem, 1, sampling=Sampling(seed=1)) for problem in world.problems(seed, n)))
    solutions = [pool[0] for pool in pools]
    truths = [world.labels(solution, "prefix") for solution in solutions]
    judge = JudgeLabels(judge=NoisyJudge(world, false_alarm=0.1, miss=0.2, semantics="local", seed=3))
    rows = []
    for notice in notices:
        rollouts = MonteCarlo(policy=ScriptedSolver(rates=ErrorRates.scaled(0.7), notice=notice), environment=world, n=8, estimate="hard", batch=8)
        found = await consensus_precision(solutions, truths, rollouts, judge)
        shares = {"Monte-Carlo": found["a"].first_errors, "judge": found["b"].first_errors, "consensus": found["consensus"].first_errors}
        rows.append(
            {
                "wrong": sum(truth.first_error != -1 for truth in truths) / n,
                "notice": notice,
                **{name: _estimate(count) for name, count in shares.items()},
                "kept": _estimate(found["consensus"].solutions),
            }
        )
    return rows


def _estimate(count: Count) -> dict[str, float]:
    low, high = count.interval()
    return {"value": count.value, "low": low, "high": high}


def _shown(one: dict[str, float]) -> str:
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


if __name__ == "__main__":
    main()
