"""stepward label"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from stepward.cli.inputs import check_out, problems_from, trajectories_from
from stepward.cli.label_job import LabelJob
from stepward.cli.label_run import LabelRun
from stepward.cli.model_options import loads_models
from stepward.cli.options import (
    ConcurrencyOption,
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
from stepward.cli.session import journal_for, spent, tokens, why_missing
from stepward.core import Example, InputError, Problem, Sampling, Trajectory, metered
from stepward.data.load import check_format, write_examples
from stepward.data.shards import write_shards
from stepward.environments.load import load_environment
from stepward.labeling.load import METHODS, method_named
from stepward.rewards.load import LoadOptions

Item = TypeVar("Item", Problem, Trajectory)
_ENGINES = ("local", "ray")


@loads_models
def label(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the labelled examples go: .jsonl, .jsonl.gz, .parquet, or a folder for Parquet shards.")
    ],
    load: LoadOptions,
    policy: PolicyOption = "tiny",
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Trajectories to label; without it the policy writes them first.")] = None,
    problem_files: Annotated[
        list[Path] | None,
        typer.Option("--problems", metavar="FILE", help="Problems for the policy to solve first, in place of the environment's own. Repeatable."),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help=f"One of {', '.join(METHODS)}. With --help: what it does, its source and its parameters.")
    ] = "monte-carlo",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; repeatable.")] = None,
    rollouts: Annotated[int | None, typer.Option("--rollouts", min=1, metavar="N", help="Completions from every step: the parameter n.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="A step is good when more than this share of its completions end right.")] = None,
    pilot: Annotated[
        int,
        typer.Option(
            "--pilot", min=0, metavar="N", help="Fit the prior of adaptive labeling on the first N solutions, 4 rollouts a step; 100 are a good size."
        ),
    ] = 0,
    prover: Annotated[
        str | None, typer.Option("--prover", metavar="SPEC", help="The policy that completes prefixes, in place of --policy, which then only writes.")
    ] = None,
    prover_name: Annotated[str | None, typer.Option("--prover-name", metavar="NAME", help="Model of a prover behind HTTP.")] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", metavar="SPEC", help="The generative judge of methods that ask one, e.g. critic:http://HOST/v1.")
    ] = None,
    tools: Annotated[str, typer.Option("--tools", metavar="NAME+NAME", help="Verifiers of methods that use tools; all: every one that is installed.")] = "all",
    per_problem: Annotated[int, typer.Option("--per-problem", min=1, metavar="N", help="Solutions to write for each problem, without --data.")] = 1,
    format: Annotated[
        str, typer.Option("--format", help="Format of --out: records, normalised, processbench, prm800k, prmbench, math_shepherd, stepwise, solutions.")
    ] = "records",
    split: SplitOption = "train",
    seed: SeedOption = 0,
    limit: LimitOption = None,
    temperature: TemperatureOption = 1.0,
    model_name: ModelName = None,
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 64,
    engine: Annotated[str, typer.Option("--engine", help="local: this process; ray: several workers, here or on a cluster.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Workers of --engine ray; each has up to --concurrency items at once.")] = 4,
    address: Annotated[str | None, typer.Option("--address", metavar="HOST:PORT", help="A Ray cluster; without it one is started on this machine.")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, metavar="N", help="Examples a Parquet shard, when --out is a folder.")] = 10_000,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Label every step of solutions without humans.

    monte-carlo completes each prefix N times with the policy and counts how many completions end right (Math-Shepherd, 2023); soft
    values, hard labels and counts are all kept. Other methods: `stepward label --method NAME --help` tells what each does and takes.
    The run can be killed at any moment: the same command goes on from there.

    Example: stepward label --policy scripted:grade-school --environment grade-school --limit 50 --out labels.jsonl
    """
    in_shards = not out.suffix
    if in_shards and format != "records":
        raise InputError(f"--out {out} is a folder of Parquet shards, which hold records; give a file for --format {format}")
    check_format(format)
    if format == "records" and not in_shards:
        check_out(out)
    if engine not in _ENGINES:
        raise InputError(f"--engine must be {' or '.join(_ENGINES)}, got {engine!r}")
    if pilot and "prior" not in {parameter.name for parameter in method_named(method).parameters}:
        raise InputError(f"--pilot fits the prior of adaptive labeling; method {method!r} has none")
    if data and problem_files:
        raise InputError("--data gives solutions to label and --problems problems to solve first; give one of them")
    needs = method_named(method).needs
    if prover is not None and "policy" not in needs:
        raise InputError(f"--prover completes prefixes; method {method!r} completes none")
    if judge_model is not None and "judge" not in needs:
        raise InputError(f"--judge-model judges steps; method {method!r} asks no judge")
    if tools != "all" and "tools" not in needs:
        raise InputError(f"--tools names verifiers; method {method!r} uses none")
    if address is not None and engine != "ray":
        raise InputError("--address is of a Ray cluster; give --engine ray")
    if prover_name is not None and prover is None:
        raise InputError("--prover-name names the model of --prover, which was not given")
    job = LabelJob(
        method=method,
        settings=_settings(method, settings, rollouts, threshold),
        environment=environment,
        policy=policy if not data or ("policy" in needs and prover is None) else None,
        model_name=model_name,
        prover=prover,
        prover_name=prover_name,
        judge=judge_model,
        tools=tools,
        sampling=Sampling(temperature=temperature, seed=seed),
        per_problem=per_problem,
        load=load,
    )
    given = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if data else None
    world = load_environment(environment)
    problems = [] if data else problems_from(problem_files or [], world, seed=seed, split=split, limit=limit, skip_bad_rows=skip_bad_rows)
    kept = journal_for(out, journal)
    run = LabelRun(job=job, journal=kept, quiet=json, concurrency=concurrency, pilot=pilot)
    with metered() as ledger:
        done = run.here(problems, given) if engine == "local" else run.on_ray(problems, given, workers=workers, address=address)
    trajectories, labels, report = done.trajectories, done.labels, dict(done.report)
    source = f"stepward label --method {method}"
    examples = [Example(trajectory, labelled, source=source) for trajectory, labelled in zip(trajectories, labels, strict=True)]
    if in_shards:
        report["n_shards"] = len(write_shards(examples, out, size=shard_size))
    else:
        write_examples(examples, out, format)
    summary = {
        "method": method,
        "n_trajectories": len(examples),
        "n_steps": sum(map(len, labels)),
        "n_unlabelled_steps": sum(labelled.n_unlabelled for labelled in labels),
        "unlabelled_reasons": why_missing(reason for labelled in labels for reason in labelled.reasons),
        "n_failed_trajectories": done.n_failed,
        "n_failed_problems": done.n_unsolved,
        "out": str(out),
    } | report | spent(ledger)  # fmt: skip
    if json:
        print_json(summary)
        return
    rows = [[name, value] for name, value in summary.items() if name not in ("usage", "paid", "unlabelled_reasons")]
    print_table("labelled", ["", "value"], [*rows, ["cost", tokens(ledger.usage)], ["paid now", tokens(ledger.paid)]])


def _settings(method: str, pairs: Sequence[str] | None, rollouts: int | None, threshold: float | None) -> dict[str, Any]:
    """The method's parameters from --set and the two shorthands."""
    known = [parameter.name for parameter in method_named(method).parameters]
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set must be NAME=VALUE, got {pair!r}; {method} has the parameters {', '.join(known) or '(none)'}")
        found[name.strip().replace("-", "_")] = value.strip()
    for flag, name, short in (("--rollouts", "n", rollouts), ("--threshold", "threshold", threshold)):
        if short is not None:
            if name not in known:
                raise InputError(f"{flag} sets the parameter {name!r}, which method {method!r} does not have; it has: {', '.join(known) or 'none'}")
            found[name] = short
    return found
