"""stepward search"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from stepward.cli.inputs import check_out, problems_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import (
    ConcurrencyOption,
    EnvironmentOption,
    JournalOption,
    JsonOption,
    LimitOption,
    ModelName,
    OptionalModel,
    OutOption,
    PolicyOption,
    SeedOption,
    SkipBadRows,
    SplitOption,
    TemperatureOption,
)
from stepward.cli.output import print_json, print_table
from stepward.cli.session import journal_for, session, spent, tokens, why_missing
from stepward.core import Aggregation, Outcome, Sampling, SearchResult, Tree
from stepward.data.store import write_records
from stepward.evaluation.statistics import mean_estimate
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions
from stepward.search.load import load_search


@loads_models
def search(
    policy: PolicyOption = "tiny",
    model: OptionalModel = None,
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Problems to solve; without it the environment makes its own.")] = None,
    strategy: Annotated[str, typer.Option("--strategy", help="majority, best-of-n, weighted (weighted best-of-n) or beam (step beam search).")] = "best-of-n",
    n: Annotated[int, typer.Option("--n", min=1, help="Solutions for each problem; for a beam, width times expansions.")] = 16,
    width: Annotated[int, typer.Option("--width", min=1, help="Prefixes that a beam keeps.")] = 4,
    aggregation: Annotated[
        str, typer.Option("--aggregation", help="One number a solution: last, min, max, mean, product, geometric, softmin, mean_logit.")
    ] = "min",
    out: OutOption = None,
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
    """Solve problems with more compute at test time, and say what that cost.

    Writes one search result a problem, with the whole tree, to --out.

    Example: stepward search --policy tiny --strategy majority --n 16 --limit 50
    """
    sampling = Sampling(temperature=temperature, seed=seed)
    check_out(out)
    with session(journal_for(out, journal), quiet=json, load=load) as work:
        world = work.environment(environment)
        grading = work.grading(world)
        strategy_made = load_search(
            strategy,
            policy=work.policy(policy, model_name),
            environment=grading,
            model=None if model is None else work.model(model),
            n=n,
            width=width,
            aggregation=cast(Aggregation, aggregation),
            sampling=sampling,
        )
        problems = problems_from(data or [], world, seed=seed, split=split, limit=limit, skip_bad_rows=skip_bad_rows)
        results, ledger, n_failed = work.each(
            "search", problems, strategy_made.search, lambda problem, why: SearchResult(None, Tree(problem), reason=why), concurrency=concurrency
        )

        async def grade(result: SearchResult) -> Outcome:
            return Outcome.unscored(result.reason or "nothing was chosen") if result.chosen is None else await grading.grade(result.chosen)

        outcomes, _, _ = work.each("grade", results, grade, lambda _, why: Outcome.unscored(why), concurrency=concurrency)
    if out is not None:
        write_records(results, out)
    known = [float(outcome.value) for outcome in outcomes if outcome.value is not None]
    accuracy = mean_estimate(known) if known else None
    summary = {
        "strategy": strategy,
        "n": n,
        "n_problems": len(problems),
        "n_failed_problems": n_failed,
        "n_unscored": len(outcomes) - len(known),
        "unscored_reasons": why_missing(outcome.reason for outcome in outcomes if not outcome.scored),
        "accuracy": None if accuracy is None else accuracy.value,
        "low": None if accuracy is None else accuracy.low,
        "high": None if accuracy is None else accuracy.high,
        "out": None if out is None else str(out),
    } | spent(ledger)
    if json:
        print_json(summary)
        return
    rows = [[name, value] for name, value in summary.items() if name not in ("usage", "paid", "unscored_reasons")]
    print_table("searched", ["", "value"], [*rows, ["cost", tokens(ledger.usage)], ["paid now", tokens(ledger.paid)]])
