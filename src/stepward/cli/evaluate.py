"""stepward eval"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stepward.cli.inputs import examples_from
from stepward.cli.options import EnvironmentOption, JournalOption, JsonOption, LimitOption, OptionalModel, OutOption, SeedOption, SkipBadRows
from stepward.cli.output import print_json, print_table
from stepward.cli.session import session
from stepward.core import Example, InputError
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.evaluation.processbench import Fixed, ProcessBenchResult, Threshold, TunedOn, evaluate_processbench, subset_name
from stepward.evaluation.scores_file import evaluate_scores_file

evaluate = typer.Typer(help="Measure reward models and labels against known truth.", no_args_is_help=True, rich_markup_mode="markdown")


@evaluate.command()
def processbench(
    model: OptionalModel = None,
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Labelled solutions; each file is a subset. Repeatable.")] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files of --data.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", metavar="FILE", help="Scores that exist already, instead of --model and --data.")] = None,
    scores_model: Annotated[str | None, typer.Option("--scores-model", metavar="NAME", help="Whose scores in that file.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="A step is wrong below this score (default 0.5).")] = None,
    tune_on: Annotated[
        str | None, typer.Option("--tune-on", metavar="SUBSET", help="Choose the threshold with the best F1 on this subset, keep it for all.")
    ] = None,
    out: OutOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    journal: JournalOption = None,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Does a reward model find the earliest wrong step? (ProcessBench, 2024)

    Error accuracy: the first step below the threshold is exactly the labelled one, over solutions with an error. Correct accuracy: no
    step is below it, over solutions without. F1: their harmonic mean, in percent. A solution that could not be scored counts as wrong
    and is counted in n_unscored; a verifier's abstention is not an error found.

    Example: stepward eval processbench --model tools:arithmetic --data gsm8k.jsonl math.jsonl --json
    """
    if threshold is not None and tune_on is not None:
        raise InputError("give either --threshold or --tune-on, not both")
    rule: Threshold = TunedOn(subset=tune_on) if tune_on is not None else Fixed(value=0.5 if threshold is None else threshold)
    files = [*(data or []), *(more or [])]
    if scores is not None:
        if model is not None:
            raise InputError("give either --scores or --model, not both")
        result = evaluate_scores_file([scores, *files], scores_model or "", rule, seed=seed)
    else:
        if model is None or not files:
            raise InputError("give --model SPEC with --data FILE, or --scores FILE with --scores-model NAME")
        subsets = {_name(path): examples_from([path], limit=limit, skip_bad_rows=skip_bad_rows) for path in files}
        result = _evaluated(model, subsets, rule, journal, seed, quiet=json)
    if out is not None:
        _write_items(result, out)
    if json:
        print_json(result.to_json())
        return
    columns = ["subset", "error acc. %", "correct acc. %", "F1 %", "95 % interval", "errors", "correct", "unscored"]
    rows: list[Sequence[Any]] = []
    for name, subset in result.subsets.items():
        m, f1 = subset.metrics, subset.intervals["f1"]
        rows.append([name, m.error_accuracy, m.correct_accuracy, m.f1, f"{f1.low:.1f} to {f1.high:.1f}", m.n_error, m.n_correct, m.n_unscored])
    how = "fixed" if result.tuned_on is None else f"tuned on {result.tuned_on}"
    print_table(f"{result.model}: threshold {result.threshold:.4g} ({how}), average F1 {result.average_f1:.1f} %", columns, rows)


def _name(path: Path) -> str:
    return subset_name(path)


def _evaluated(model: str, subsets: Mapping[str, list[Example]], rule: Threshold, journal: Path | None, seed: int, *, quiet: bool) -> ProcessBenchResult:
    with session(journal, quiet=quiet) as work:
        scorer = work.model(model)
        with progress("score", total=sum(map(len, subsets.values())), quiet=quiet) as bar:
            return run_sync(evaluate_processbench(scorer, subsets, threshold=rule, on_scored=bar.advance, seed=seed))


def _write_items(result: ProcessBenchResult, out: Path) -> None:
    from stepward.data.rows import write_rows

    write_rows(
        (
            {"subset": name, "id": id_, "first_error": truth, "predicted": predicted, "scores": scores.to_record()}
            for name, subset in result.subsets.items()
            for id_, truth, predicted, scores in zip(subset.ids, subset.truth, subset.predicted, subset.scores, strict=True)
        ),
        out,
    )


@evaluate.command()
def labels(
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Labelled examples, e.g. of `stepward label`. Repeatable.")],
    environment: EnvironmentOption = "grade-school:easy",
    limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """How often do labels name the true first error? Against an environment that knows it.

    Example: stepward eval labels --data labels.jsonl --environment grade-school:easy
    """
    from stepward.environments.load import load_environment
    from stepward.evaluation.statistics import mean_estimate
    from stepward.labeling.load import load_labeler

    oracle = load_labeler("oracle", environment=load_environment(environment))
    labelled = [example for example in examples_from(data, limit=limit) if example.labels is not None]
    if not labelled:
        raise InputError("the files hold no labels; make some with `stepward label`")

    async def truths() -> list[int | None]:
        return [(await oracle.label(example.trajectory)).first_error for example in labelled]

    pairs = [(example.labels.first_error, truth) for example, truth in zip(labelled, run_sync(truths()), strict=True) if example.labels is not None]
    clusters = [example.trajectory.problem.key for example in labelled]
    accuracy = mean_estimate([float(given is not None and given == truth) for given, truth in pairs], clusters)
    summary = {
        "n_examples": len(labelled),
        "n_unknown": sum(given is None for given, _ in pairs),
        "first_error_accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "n_too_early": sum(given is not None and truth is not None and given >= 0 and (truth < 0 or given < truth) for given, truth in pairs),
        "n_too_late_or_missed": sum(given is not None and truth is not None and truth >= 0 and (given < 0 or given > truth) for given, truth in pairs),
    }
    if json:
        print_json(summary)
        return
    print_table("labels against the oracle", ["", "value"], list(summary.items()))
