"""stepward compare"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, cast

import typer

from stepward.cli.budget_option import BudgetOption, budget_from
from stepward.cli.compare_output import aligned, file_name, read_results, show, write
from stepward.cli.inputs import problems_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import (
    ConcurrencyOption,
    EnvironmentOption,
    JournalOption,
    JsonOption,
    LimitOption,
    ModelName,
    OptionalModel,
    PolicyOption,
    SeedOption,
    SkipBadRows,
    SplitOption,
    TemperatureOption,
)
from stepward.cli.output import print_json, print_table, remarks
from stepward.cli.search_job import SearchJob, parts_from
from stepward.cli.search_options import WithNameOption, WithOption
from stepward.cli.search_run import SearchRun, cost_rows, graded, remark_unjudged, run_searches
from stepward.cli.session import session
from stepward.cli.strategy_list import strategies_from
from stepward.core import InputError, Sampling, SearchResult, Usage
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions
from stepward.search.spec import Spec


@loads_models
def compare(
    strategies: Annotated[
        list[str] | None,
        typer.Option(
            "--strategies",
            "--strategy",
            metavar="NAME:KEY=VALUE,...",
            help="Strategies with their settings, e.g. majority:n=1,4,16,beam:n=16:width=4; several values are a strategy each. Repeatable.",
        ),
    ] = None,
    policy: PolicyOption = "tiny",
    model: OptionalModel = None,
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Problems to solve; without it the environment makes its own.")] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--results",
            metavar="NAME=FILE",
            help="Results that `stepward search --out` wrote for the same problems, in place of a run; ungraded ones are graded. Repeatable.",
        ),
    ] = None,
    with_parts: WithOption = None,
    with_names: WithNameOption = None,
    budget: BudgetOption = None,
    x: Annotated[str, typer.Option("--x", help="Compute of table, plot and hull: policy_tokens, reward_tokens, tokens (both), flops.")] = "policy_tokens",
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="STRATEGY", help="Test each strategy against this one only, in place of all pairs.")
    ] = None,
    unanswered: Annotated[
        str,
        typer.Option("--unanswered", help="Problems for which a strategy chooses nothing, or what was cut off: skip (unknown, left out and counted) or wrong."),
    ] = "skip",
    policy_parameters: Annotated[
        float | None, typer.Option("--policy-parameters", min=1, metavar="P", help="Size of a policy that counts no FLOPs: 2 P for each token read or written.")
    ] = None,
    reward_parameters: Annotated[float | None, typer.Option("--reward-parameters", min=1, metavar="P", help="The same for the reward model.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where comparison.json, comparison.png, report.html and every strategy's results go.")
    ] = None,
    split: SplitOption = "test",
    seed: SeedOption = 0,
    limit: LimitOption = None,
    temperature: TemperatureOption = 1.0,
    model_name: ModelName = None,
    load: LoadOptions = DEFAULT_LOAD,
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 64,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Which strategy spends the compute best: many of them on the same problems, with intervals, paired tests and the compute-optimal hull.

    With --out (or --journal), a killed run goes on where it was. Strategies share what they have in common: the first 4 of 16 solutions are paid for once.

    Example: stepward compare --policy scripted:grade-school --model oracle:grade-school --strategies majority:n=1,4,16,beam:n=16 --limit 50 --out comparison
    """
    from stepward.evaluation.compare import COSTS, Comparison, Sizes, Trial, Unanswered

    if x not in COSTS:
        raise InputError(f"--x must be one of {', '.join(COSTS)}, got {x!r}")
    if unanswered not in ("skip", "wrong"):
        raise InputError(f"--unanswered must be skip or wrong, got {unanswered!r}")
    specs = strategies_from(strategies or [])
    files = _files(results or [])
    if not specs and not files:
        raise InputError("nothing to compare; give --strategies, e.g. --strategies majority:n=1,4,16,best-of-n:n=16, or --results NAME=FILE")
    job = SearchJob(
        policy=policy,
        model=model,
        environment=environment,
        model_name=model_name,
        parts=parts_from(with_parts),
        part_names=parts_from(with_names, option="--with-name"),
        sampling=Sampling(temperature=temperature, seed=seed),
        budget=budget_from(budget),
    )
    if specs:
        job.check(specs)
    sizes = Sizes(policy=policy_parameters, reward=reward_parameters)
    for spec in specs:
        if str(spec) in files:
            raise InputError(f"--results {spec}=... has the name of a strategy; give it another")
    named = None if baseline is None else _baseline(baseline, [*files, *map(str, specs)])
    made: dict[str, list[SearchResult]] = {name: read_results(file) for name, file in files.items()}
    families = {name: name for name in files}
    with TemporaryDirectory() as spare, session(journal or (Path(spare) if out is None else out) / "journal", quiet=json, load=load) as work:
        opened = job.open(work)
        searches = {str(spec): (spec, opened.strategy(spec)) for spec in specs}  # all of them first, so that what is refused costs nothing
        made = {name: graded(work, opened.grading, found, title=name, concurrency=concurrency) for name, found in made.items()}
        problems = problems_from(data or [], opened.world, seed=seed, split=split, limit=limit, skip_bad_rows=skip_bad_rows) if specs else []
        runs: list[SearchRun] = []
        remark_unjudged(opened.world, environment, [*problems[:1], *(found[0].tree.problem for found in made.values())])
        for name, (spec, search) in searches.items():
            if out is not None:
                files[name] = out / "results" / f"{file_name(name)}.jsonl"
            runs.append(run_searches(work, search, opened.grading, problems, title=name, concurrency=concurrency, out=files.get(name)))
            made[name], families[name] = runs[-1].results, spec.name
    trials = [Trial.of(name, found, family=families[name], sizes=sizes, unanswered=cast(Unanswered, unanswered)) for name, found in aligned(made).items()]
    comparison = Comparison(trials=trials, x=x, baseline=named, seed=seed)
    usage, paid = Usage.total(run.ledger.usage for run in runs), Usage.total(run.ledger.paid for run in runs)
    summary: dict[str, Any] = comparison.to_json() | {"usage": usage.to_record(), "paid": paid.to_record(), "out": None if out is None else str(out)}
    if out is not None:
        write(out, comparison, aligned(made), files, summary, settings={"policy": policy, "model": model, "environment": environment, "seed": seed})
    if json:
        print_json(summary)
        return
    show(comparison)
    if runs:
        print_table("cost of all", ["", "behind the results", "paid now", "saved"], cost_rows(usage, paid))
    if out is not None:
        remarks.print(f"wrote {out}: open {out / 'report.html'} in a browser", markup=False)


def _files(pairs: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not equals or not name or not file:
            raise InputError(f"--results must be NAME=FILE, got {pair!r}")
        if name in found:
            raise InputError(f"--results {name}: it is given twice")
        found[name] = Path(file)
    return found


def _baseline(text: str, names: Sequence[str]) -> str:
    """The name that the text stands for, however its settings are written. Raises: InputError for one that is not there."""
    found = text if text in names else str(Spec.parse(text))
    if found not in names:
        raise InputError(f"the baseline {text!r} is not among the strategies: {', '.join(names)}")
    return found
