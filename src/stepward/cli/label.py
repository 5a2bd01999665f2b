"""stepward label"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stepward.cli.inputs import check_out, problems_from, trajectories_from
from stepward.cli.options import (
    ConcurrencyOption,
    DeviceOption,
    EnvironmentOption,
    JournalOption,
    JsonOption,
    LimitOption,
    ModelName,
    PolicyOption,
    SeedOption,
    SkipBadRows,
    SplitOption,
    TemperatureOption,
)
from stepward.cli.output import print_json, print_table
from stepward.cli.session import Session, journal_for, session, spent, tokens, why_missing
from stepward.core import Environment, Example, Policy, Problem, Sampling, Trajectory, metered
from stepward.data.load import check_format, write_examples
from stepward.environments.episode import solve
from stepward.labeling.load import failed_labels, load_labeler
from stepward.rewards.load import LoadOptions


def label(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the labelled examples go; .jsonl, .jsonl.gz or .parquet.")],
    policy: PolicyOption = "tiny",
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Trajectories to label; without it the policy writes them first.")] = None,
    method: Annotated[str, typer.Option("--method", help="monte-carlo, oracle (prefix), oracle-local, or exact-value (scripted policies).")] = "monte-carlo",
    rollouts: Annotated[int, typer.Option("--rollouts", min=1, metavar="N", help="Completions from every step (monte-carlo).")] = 8,
    threshold: Annotated[float, typer.Option("--threshold", help="A step is good when more than this share of its completions end right (hard labels).")] = 0.0,
    per_problem: Annotated[int, typer.Option("--per-problem", min=1, metavar="N", help="Solutions to write for each problem, without --data.")] = 1,
    format: Annotated[
        str, typer.Option("--format", help="Format of --out: records, normalised, processbench, prm800k, prmbench, math_shepherd, stepwise, solutions.")
    ] = "records",
    split: SplitOption = "train",
    seed: SeedOption = 0,
    limit: LimitOption = None,
    temperature: TemperatureOption = 1.0,
    model_name: ModelName = None,
    device: DeviceOption = "cpu",
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 64,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Label every step of solutions without humans.

    monte-carlo completes each prefix N times with the policy and counts how many completions end right (Math-Shepherd, 2023); soft
    values, hard labels and counts are all kept. The run can be killed at any moment: the same command goes on from there.

    Example: stepward label --policy scripted:grade-school --environment grade-school --limit 50 --out labels.jsonl
    """
    sampling = Sampling(temperature=temperature, seed=seed)
    check_format(format)
    if format == "records":
        check_out(out)
    given = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if data else None
    n_unsolved = 0
    with metered() as ledger, session(journal_for(out, journal), quiet=json, load=LoadOptions(device=device)) as work:
        world = work.environment(environment)
        writer, grading = work.policy(policy, model_name), work.grading(world)
        if given is not None:
            trajectories = given
        else:
            problems = problems_from([], world, seed=seed, split=split, limit=limit)
            trajectories, n_unsolved = _written(work, writer, grading, problems, per_problem, sampling, concurrency)
        asked = getattr(writer, "inner", writer) if method == "exact-value" else writer
        truth = world if method.startswith("oracle") else grading
        made = load_labeler(method, policy=asked, environment=truth, n=rollouts, threshold=threshold, sampling=sampling)
        labels, _, n_failed = work.each("label", trajectories, work.labeler(made).label, partial(failed_labels, made), concurrency=concurrency)
    source = f"stepward label --method {method}"
    examples = [Example(trajectory, labelled, source=source) for trajectory, labelled in zip(trajectories, labels, strict=True)]
    write_examples(examples, out, format)
    summary = {
        "method": method,
        "n_trajectories": len(examples),
        "n_steps": sum(map(len, labels)),
        "n_unlabelled_steps": sum(labelled.n_unlabelled for labelled in labels),
        "unlabelled_reasons": why_missing(reason for labelled in labels for reason in labelled.reasons),
        "n_failed_trajectories": n_failed,
        "n_failed_problems": n_unsolved,
        "out": str(out),
    } | spent(ledger)
    if json:
        print_json(summary)
        return
    rows = [[name, value] for name, value in summary.items() if name not in ("usage", "paid", "unlabelled_reasons")]
    print_table("labelled", ["", "value"], [*rows, ["cost", tokens(ledger.usage)], ["paid now", tokens(ledger.paid)]])


def _written(
    work: Session, writer: Policy, grading: Environment, problems: list[Problem], n: int, sampling: Sampling, concurrency: int
) -> tuple[list[Trajectory], int]:
    """`n` graded solutions of every problem, and how many problems could not be sampled."""

    async def one(problem: Problem) -> list[Trajectory]:
        return await solve(writer, grading, problem, n, sampling=sampling)

    pools, _, n_failed = work.each("sample", problems, one, lambda _, __: [], concurrency=concurrency)
    return [trajectory for pool in pools for trajectory in pool], n_failed
