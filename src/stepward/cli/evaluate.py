"""stepward eval: benchmarks of step scores and step labels. Curves of answers are in `curves`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stepward.cli.curves import curves
from stepward.cli.inputs import examples_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import (
    EnvironmentOption,
    JournalOption,
    JsonOption,
    LimitOption,
    OptionalModel,
    OptionalPolicy,
    OutOption,
    SeedOption,
    SkipBadRows,
)
from stepward.cli.output import print_json, print_table, shown
from stepward.cli.session import journal_for, session
from stepward.core import InputError, Labeler, StepLabels
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.evaluation.processbench import OWN, Fixed, ProcessBenchResult, Threshold, TunedOn, evaluate_processbench, subset_name
from stepward.evaluation.scores_file import evaluate_scores_file
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions

evaluate = typer.Typer(help="Measure reward models and labels against known truth.", no_args_is_help=True, rich_markup_mode="markdown")


@evaluate.command()
@loads_models
def processbench(
    model: OptionalModel = None,
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Labelled solutions; each file is a subset. Repeatable.")] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files of --data.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", metavar="FILE", help="Scores that exist already, instead of --model and --data.")] = None,
    scores_model: Annotated[str | None, typer.Option("--scores-model", metavar="NAME", help="Whose scores in that file.")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="A step is wrong below this score. Default: the model's own threshold; 0.5 for --scores.")
    ] = None,
    tune_on: Annotated[
        str | None, typer.Option("--tune-on", metavar="SUBSET", help="Choose the threshold with the best F1 on this subset, keep it for all.")
    ] = None,
    out: OutOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    load: LoadOptions = DEFAULT_LOAD,
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
    rule: Threshold = TunedOn(subset=tune_on) if tune_on is not None else OWN if threshold is None else Fixed(value=threshold)
    files = [*(data or []), *(more or [])]
    if scores is not None:
        if model is not None or data or journal is not None or limit is not None or skip_bad_rows:
            raise InputError("--scores reads whole files of scores: it takes no --model, --data, --journal, --limit or --skip-bad-rows")
        result = evaluate_scores_file([scores, *files], scores_model or "", rule, seed=seed)
    else:
        if model is None or not files:
            raise InputError("give --model SPEC with --data FILE, or --scores FILE with --scores-model NAME")
        names = [subset_name(path) for path in files]
        if len(set(names)) < len(names):
            raise InputError(f"each file is a subset named after it, but the names {', '.join(names)} are not distinct; rename a file")
        subsets = {name: examples_from([path], limit=limit, skip_bad_rows=skip_bad_rows) for name, path in zip(names, files, strict=True)}
        with session(journal_for(out, journal), quiet=json, load=load) as work:
            scorer = work.model(model)
            with progress("score", total=sum(map(len, subsets.values())), quiet=json) as bar:
                result = run_sync(evaluate_processbench(scorer, subsets, threshold=rule, on_scored=bar.advance, seed=seed))
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
    how = "the model's own" if rule is OWN else f"tuned on {tune_on}" if tune_on is not None else "fixed"
    print_table(f"{result.model}: threshold {shown(result.threshold)} ({how}), average F1 {result.average_f1:.1f} %", columns, rows)


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
    policy: OptionalPolicy = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """How good are labels? Against an environment that knows every first error, and a policy that knows every value.

    Always: how often the labels name the true first error; a label that names none counts as wrong, a truth that is not known is left
    out. With --policy scripted:grade-school, the policy that made the (value) labels, also their bias and mean absolute error against
    its exact values.

    Example: stepward eval labels --data labels.jsonl --environment grade-school:easy
    """
    from stepward.environments.load import load_environment
    from stepward.evaluation.labels import label_quality
    from stepward.evaluation.statistics import mean_estimate
    from stepward.labeling.load import load_labeler
    from stepward.policies.load import load_policy

    world = load_environment(environment)
    oracle = load_labeler("oracle", environment=world)
    exact = None if policy is None else load_labeler("exact-value", environment=world, policy=load_policy(policy))
    rows = [(example.trajectory, example.labels) for example in examples_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if example.labels is not None]
    if not rows:
        raise InputError("the files hold no labels; make some with `stepward label`")

    async def by(labeler: Labeler) -> list[StepLabels]:
        return [await labeler.label(trajectory) for trajectory, _ in rows]

    pairs = [(given.first_error, truth.first_error) for (_, given), truth in zip(rows, run_sync(by(oracle)), strict=True)]
    clusters = [trajectory.problem.key for trajectory, _ in rows]
    right = [math.nan if truth is None else float(given is not None and given == truth) for given, truth in pairs]
    accuracy = mean_estimate(right, clusters, seed=seed)
    summary: dict[str, Any] = {
        "n_examples": len(rows),
        "n_unknown": sum(given is None for given, _ in pairs),
        "n_unknown_truth": sum(truth is None for _, truth in pairs),
        "first_error_accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "n_too_early": sum(given is not None and truth is not None and given >= 0 and (truth < 0 or given < truth) for given, truth in pairs),
        "n_too_late_or_missed": sum(given is not None and truth is not None and truth >= 0 and (given < 0 or given > truth) for given, truth in pairs),
    }
    if exact is not None:
        quality = label_quality([given for _, given in rows], run_sync(by(exact)), clusters, first_errors=[truth for _, truth in pairs], seed=seed)
        summary |= {"bias": quality.bias.value, "bias_se": quality.bias_se, "mean_abs_error": quality.mean_abs_error.value}
        summary |= {"n_steps": quality.n_steps, "n_skipped_steps": quality.n_skipped}
    if json:
        print_json(summary)
        return
    print_table("labels against the oracle", ["", "value"], list(summary.items()))


evaluate.command(name="best-of-n")(curves)
