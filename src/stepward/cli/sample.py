"""stepward sample"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepward.cli.inputs import check_out, problems_from
from stepward.cli.options import (
    ConcurrencyOption,
    DeviceOption,
    EnvironmentOption,
    JournalOption,
    JsonOption,
    LimitOption,
    ModelName,
    OutOption,
    PolicyOption,
    SeedOption,
    SkipBadRows,
    SplitOption,
    TemperatureOption,
)
from stepward.cli.output import print_json, print_table
from stepward.cli.session import journal_for, session, spent, tokens, why_missing
from stepward.core import Problem, Sampling, Trajectory
from stepward.data.store import write_records
from stepward.environments.episode import solve
from stepward.rewards.load import LoadOptions


def sample(
    policy: PolicyOption = "tiny",
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Problems to solve; without it the environment makes its own.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Solutions for each problem.")] = 1,
    out: OutOption = None,
    split: SplitOption = "test",
    seed: SeedOption = 0,
    limit: LimitOption = None,
    temperature: TemperatureOption = 1.0,
    model_name: ModelName = None,
    device: DeviceOption = "cpu",
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 256,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Write solutions for problems, and grade them.

    Writes one trajectory record a solution, with its outcome, to --out.

    Example: stepward sample --policy tiny --environment grade-school:easy --limit 20 --n 4 --out samples.jsonl
    """
    check_out(out)
    with session(journal_for(out, journal), quiet=json, load=LoadOptions(device=device)) as work:
        world = work.environment(environment)
        writer, grading = work.policy(policy, model_name), work.grading(world)
        problems = problems_from(data or [], world, seed=seed, split=split, limit=limit, skip_bad_rows=skip_bad_rows)
        sampling = Sampling(temperature=temperature, seed=seed)

        async def one(problem: Problem) -> list[Trajectory]:
            return await solve(writer, grading, problem, n, sampling=sampling)

        pools, ledger, n_failed = work.each("sample", problems, one, lambda _, __: [], concurrency=concurrency)
    trajectories = [trajectory for pool in pools for trajectory in pool]
    if out is not None:
        write_records(trajectories, out)
    graded = [trajectory.outcome.correct for trajectory in trajectories if trajectory.outcome is not None and trajectory.outcome.scored]
    summary = {
        "n_problems": len(problems),
        "n_failed_problems": n_failed,
        "n_trajectories": len(trajectories),
        "n_unscored": len(trajectories) - len(graded),
        "unscored_reasons": why_missing(t.outcome.reason for t in trajectories if t.outcome is not None and not t.outcome.scored),
        "accuracy": sum(map(bool, graded)) / len(graded) if graded else None,
        "out": None if out is None else str(out),
    } | spent(ledger)
    if json:
        print_json(summary)
        return
    if out is None:
        for trajectory in trajectories[:10]:
            outcome = trajectory.outcome
            mark = "?" if outcome is None or outcome.correct is None else "right" if outcome.correct else "wrong"
            print_table(f"{trajectory.problem.prompt} ({mark})", ["step", "text"], [[index, step.text] for index, step in enumerate(trajectory.steps)])
    rows = [[name, summary[name]] for name in ("n_problems", "n_failed_problems", "n_trajectories", "n_unscored", "accuracy", "out")]
    print_table("sampled", ["", "value"], [*rows, ["cost", tokens(ledger.usage)], ["paid now", tokens(ledger.paid)]])
