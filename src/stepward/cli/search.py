"""stepward search"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stepward.cli.budget_option import BudgetOption, budget_from
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
from stepward.cli.output import print_json, print_table, shown
from stepward.cli.search_job import SearchJob, parts_from, settings_from
from stepward.cli.search_options import WithNameOption, WithOption
from stepward.cli.search_run import SearchRun, cost_rows, outcome_of, remark_unjudged, run_searches, searched, summary_rows, why_unjudged
from stepward.cli.session import Session, journal_for, session, spent
from stepward.cli.tree_view import LiveTree, live, show_tree
from stepward.core import Environment, InputError, Problem, Sampling, Search, SearchResult, metered
from stepward.data.streamed import RecordStream
from stepward.engine.loop import run_sync
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions
from stepward.search.budget import Budget
from stepward.search.load import STRATEGIES
from stepward.search.spec import Spec
from stepward.search.watching import watching

_TOLD = ("solution", "answer", "correct", "no_verdict", "reason", "stopped")


@loads_models
def search(
    problem: Annotated[str | None, typer.Argument(metavar="[PROBLEM]", help="A problem's text, to be solved with the tree shown as it grows.")] = None,
    answer: Annotated[str | None, typer.Option("--answer", metavar="TEXT", help="The right answer of PROBLEM, if you know it.")] = None,
    policy: PolicyOption = "tiny",
    model: OptionalModel = None,
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Problems to solve; without it the environment makes its own.")] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", metavar="NAME", help=f"One of {', '.join(STRATEGIES)}. With --help: what it does, its cost, source and parameters.")
    ] = "best-of-n",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the strategy; repeatable.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Solutions for each problem; for a beam, width times expansions: the parameter n.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="Prefixes that a beam keeps: the parameter width.")] = None,
    aggregation: Annotated[
        str | None,
        typer.Option("--aggregation", help="One number a solution: last, min, max, mean, product, geometric, softmin, mean_logit: the parameter aggregation."),
    ] = None,
    with_parts: WithOption = None,
    with_names: WithNameOption = None,
    prover: Annotated[str | None, typer.Option("--prover", metavar="SPEC", help="Short for --with prover=SPEC.")] = None,
    judge_model: Annotated[str | None, typer.Option("--judge-model", metavar="SPEC", help="Short for --with judge=SPEC.")] = None,
    budget: BudgetOption = None,
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

    Each result, with its whole tree, is written to --out as soon as it is there (for .parquet: to OUT.part.jsonl until all are). A killed
    run keeps what it has written; the same command goes on from the journal and ends with the same results.

    Example: stepward search --policy tiny --strategy majority --n 16 --limit 50

    Example: stepward search "What is 3 + 4?" --policy http://localhost:8000/v1 --model-name NAME --environment maths --strategy majority
    """
    check_out(out)
    if problem is not None and _is_file(problem):
        raise InputError(f"{problem} is a file; PROBLEM is the text of one problem. For the problems of a file: --data {problem}")
    if problem is not None and (not problem.strip() or _is_file_name(problem)):
        said = f"there is no file {problem}" if problem.strip() else "PROBLEM is empty"
        raise InputError(f"{said}; PROBLEM is the text of one problem, --data FILE the problems of a file")
    spec = Spec(strategy, settings_from("--set", strategy, settings, n=n, width=width, aggregation=aggregation))
    job = SearchJob(
        policy=policy,
        model=model,
        environment=environment,
        model_name=model_name,
        parts=parts_from(with_parts, prover=prover, judge=judge_model),
        part_names=parts_from(with_names, option="--with-name"),
        sampling=Sampling(temperature=temperature, seed=seed),
        budget=budget_from(budget),
    )
    job.check([spec])
    if problem is not None and (data or limit is not None):
        raise InputError("PROBLEM is one problem; --data and --limit are for many, so leave them out")
    if problem is None and answer is not None:
        raise InputError("--answer is of PROBLEM, which was not given")
    unjudged: str | None = None
    with session(journal_for(out, journal), quiet=json, load=load) as work:
        opened = job.open(work)
        made = opened.strategy(spec)
        if problem is not None:
            asked = Problem(problem, answer=answer)
            unjudged = why_unjudged(opened.world, environment, asked)
            try:
                run = _watched(work, made, opened.grading, asked, budget=job.budget, out=out)
            except InputError as error:  # such as a vote over answers that only the environment's own problems have
                raise InputError(unjudged or str(error)) from error
        else:
            problems = problems_from(data or [], opened.world, seed=seed, split=split, limit=limit, skip_bad_rows=skip_bad_rows)
            remark_unjudged(opened.world, environment, problems[:1])
            run = run_searches(work, made, opened.grading, problems, concurrency=concurrency, out=out)
    told: dict[str, Any] = {"strategy": strategy, "settings": spec.settings, "budget": job.budget.to_record()}
    summary = told | run.summary() | {"out": None if out is None else str(out)} | spent(run.ledger)
    if problem is not None:
        summary |= _answered(run.results[0], unjudged)
    if json:
        print_json(summary)
        return
    if problem is not None:
        _show_one(run.results[0], unjudged)
    else:
        told |= {"settings": _words(spec.settings), "budget": _words(job.budget.to_record())}
        print_table("searched", ["", "value"], summary_rows(summary | told))
    print_table("cost", ["", "behind the results", "paid now", "saved"], cost_rows(run.ledger.usage, run.ledger.paid))


def _watched(work: Session, strategy: Search, grading: Environment, problem: Problem, *, budget: Budget, out: Path | None) -> SearchRun:
    """One problem, with its tree on the terminal while it grows."""

    async def run(view: LiveTree) -> SearchResult:
        with metered() as view.ledger, watching(view.show):
            return await searched(strategy, grading, problem)

    view = LiveTree(budget)
    with live(view, Console(quiet=work.quiet, highlight=False)):
        result = run_sync(run(view))
    if out is not None:
        with RecordStream(out) as stream:
            stream.add(0, result)
    return SearchRun([result], view.ledger, 0)


def _answered(result: SearchResult, unjudged: str | None) -> dict[str, Any]:
    outcome = outcome_of(result)
    no_verdict = None if outcome.scored else unjudged or (None if result.chosen is None else outcome.reason)
    if no_verdict is not None and "no reference answer" in no_verdict:
        no_verdict += " (--answer TEXT gives one)"
    return {
        "answer": outcome.answer,
        "correct": outcome.correct,
        "solution": None if result.chosen is None else result.chosen.text,
        "no_verdict": no_verdict,
        "reason": result.reason,
        "stopped": result.source.get("stopped"),
    }


def _show_one(result: SearchResult, unjudged: str | None) -> None:
    show_tree(result, Console(highlight=False))
    told = _answered(result, unjudged)
    words = {"no_verdict": "no verdict"}
    rows = [[words.get(name, name), shown(told[name])] for name in _TOLD if told[name] is not None]
    print_table("result", ["", "value"], rows)


def _is_file(text: str) -> bool:
    """Whether the text is the path of an existing file; a long problem is the name of none."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _is_file_name(text: str) -> bool:
    return len(text.split()) == 1 and Path(text.strip()).suffix in (".jsonl", ".json", ".parquet", ".csv")


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
