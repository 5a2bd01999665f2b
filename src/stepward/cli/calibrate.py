"""stepward calibrate"""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stepward.cli.inputs import examples_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import ConcurrencyOption, JournalOption, JsonOption, LimitOption, OptionalModel, SeedOption, SkipBadRows
from stepward.cli.output import print_json, print_table, remarks
from stepward.cli.session import journal_for, session, spent, why_missing
from stepward.core import Example, Floats, InputError, StepScores
from stepward.evaluation.calibration import calibration as measured
from stepward.rewards.calibration import Calibration, StepPairs, check_method, cross_calibrated, fit, step_pairs, vllm_pooler_config
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions

FOLDS = 5


@loads_models
def calibrate(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the calibration goes, a .json file; keep it beside the model.")],
    model: OptionalModel = None,
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Labelled solutions. Repeatable.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", metavar="FILE", help="Scores that exist already, instead of --model and --data.")] = None,
    scores_model: Annotated[str | None, typer.Option("--scores-model", metavar="NAME", help="Whose scores in that file.")] = None,
    method: Annotated[str, typer.Option("--method", help="temperature, platt, beta, isotonic, or quantile (a rate with bounds; soft labels).")] = "platt",
    vllm: Annotated[
        str | None, typer.Option("--vllm", metavar="HEAD", help="Also print --pooler-config for a vLLM server; HEAD is sigmoid or softmax.")
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    load: LoadOptions = DEFAULT_LOAD,
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 256,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Fit a map from a model's scores to probabilities on labelled solutions.

    Use it as --model 'calibrated(SPEC, FILE)'. Calibration error and Brier score are told before, after on the same steps, and cross-validated: every
    step through a map that was fitted on other problems. All three say nothing about other kinds of problems: a map fitted on easy ones can make a model
    worse on hard ones. Of prefix labels, steps after the first error are left out.

    Example: stepward calibrate --data labelled.jsonl --model prm:FOLDER --method isotonic --out FOLDER/calibration.json
    """
    check_method(method)
    if out.suffix != ".json":
        raise InputError(f"a calibration is one JSON object; end the name of --out {out} in .json")
    if vllm not in (None, "sigmoid", "softmax"):
        raise InputError(f"--vllm must be sigmoid or softmax, got {vllm!r}")
    summary: dict[str, Any]
    if scores is not None:
        if model is not None or data or journal is not None or limit is not None or skip_bad_rows:
            raise InputError("--scores reads a whole file of scores: it takes no --model, --data, --journal, --limit or --skip-bad-rows")
        pairs, fingerprint, summary = _from_file(scores, scores_model), "", {}
    else:
        if model is None or not data:
            raise InputError("give --model SPEC with --data FILE, or --scores FILE with --scores-model NAME")
        examples = [example for example in examples_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if example.labels is not None]
        if not examples:
            raise InputError("the files hold no labels; calibration needs labelled steps, e.g. of `stepward label`")
        with session(journal_for(out, journal), quiet=json, load=load) as work:
            scorer = work.model(model)

            def unscored(example: Example, reason: str) -> StepScores:
                return StepScores.unscored(len(example.trajectory), reason, scale=scorer.scale)

            async def score(example: Example) -> StepScores:
                return await scorer.score(example.trajectory)

            given, ledger, n_failed = work.each("score", examples, score, unscored, concurrency=concurrency)
        pairs, fingerprint = step_pairs(examples, given), scorer.fingerprint
        summary = {"n_failed_trajectories": n_failed, "unscored_reasons": why_missing(reason for row in given for reason in row.reasons)} | spent(ledger)
    if method == "quantile" and np.isin(pairs.targets, (0.0, 1.0)).all():
        raise InputError("quantile calibration takes soft labels (success rates): quantiles of 0/1 labels are 0 or 1; use another --method")
    fitted = fit(method, pairs.scores, pairs.targets, scale=pairs.scale, model=fingerprint, data=pairs.data).described(targets=pairs.semantics)
    fitted.save(out)
    summary = {**_described(fitted, pairs, seed), **summary, "out": str(out)}
    if vllm is not None:
        summary |= _exported(fitted, vllm)
    if json:
        print_json(summary)
        return
    shown = ("model", "method", "n_steps", "n_problems", "base_rate", "targets", "n_unscored", "n_unlabelled", "n_after_error", "out")
    print_table("calibrated", ["", "value"], [[name, summary[name]] for name in shown])
    errors = [
        [name, *(float(summary[name][metric]) for metric in ("ece", "brier", "bias"))] for name in ("before", "after", "cross_validated") if summary[name]
    ]
    print_table("how far scores are from what they should be", ["", "ECE", "Brier", "bias"], errors)
    if "vllm" in summary:
        exported = f"--pooler-config '{dumps(summary['vllm'])}'"
        remarks.print(exported if summary["vllm"] else f"no export to vLLM: {summary['vllm_reason']}", markup=False)


def _from_file(path: Path, name: str | None) -> StepPairs:
    """Pairs from a file of scores; see `evaluation.model_scores` for what its steps are."""
    from stepward.core import canonical_json, content_hash
    from stepward.evaluation.model_scores import ScoreTable
    from stepward.evaluation.scores_file import read_score_rows, score_models

    rows = read_score_rows(path)
    if name not in score_models(rows):
        raise InputError(f"{path} holds no scores of {name!r} for every row; it has: {', '.join(score_models(rows))}")
    table = ScoreTable.from_rows(rows, [name])
    values = table.of(name)
    scores, targets, problems = table.step_pairs(values)
    counted = np.where(table.truth < 0, table.n_scored, table.truth + 1)
    return StepPairs(
        scores=scores,
        targets=targets,
        problems=problems,
        scale="probability",
        semantics="prefix",
        data=content_hash(*sorted(canonical_json([row.subset, row.id, row.label]) for row in rows)),
        n_unscored=int(counted.sum()) - len(scores),
        n_unlabelled=0,
        n_after_error=int((table.n_scored - counted).sum()),
    )


def _described(fitted: Calibration, pairs: StepPairs, seed: int) -> dict[str, Any]:
    probabilities = pairs.scale == "probability"
    after = fitted(pairs.scores)

    def measure(predicted: Floats) -> dict[str, Any]:
        return _errors(predicted, pairs.targets, pairs.problems, seed)

    crossed = len(set(pairs.problems)) > 1
    cross = cross_calibrated(fitted.method, pairs.scores, pairs.targets, pairs.problems, scale=pairs.scale, folds=FOLDS, seed=seed) if crossed else None
    found: dict[str, Any] = {
        "model": fitted.model,
        "method": fitted.method,
        "parameters": fitted.map.to_json(),
        "scale": fitted.scale,
        "data": fitted.data,
        "targets": fitted.targets,
        "n_steps": fitted.n,
        "n_problems": len(set(pairs.problems)),
        "base_rate": fitted.base_rate,
        "n_unscored": pairs.n_unscored,
        "n_unlabelled": pairs.n_unlabelled,
        "n_after_error": pairs.n_after_error,
        "before": measure(pairs.scores) if probabilities else None,
        "after": measure(after),
        "cross_validated": None if cross is None or np.isnan(cross).all() else measure(cross),
    }
    bounds = fitted.bounds(pairs.scores)
    if bounds:
        found["share_within_bounds"] = float(np.mean((bounds["low"] <= pairs.targets) & (pairs.targets <= bounds["high"])))
    return found


def _errors(predicted: Floats, targets: Floats, problems: Sequence[str], seed: int) -> dict[str, Any]:
    result = measured(predicted, targets, problems, seed=seed, resamples=1000).to_json()
    estimates = {name: result[name]["value"] for name in ("brier", "positive_brier", "bias")}
    intervals = {name: [result[name]["low"], result[name]["high"]] for name in estimates}
    return estimates | {"ece": result["ece"], "auroc": result["auroc"], "intervals": intervals, "n": result["n"], "n_skipped": result["n_skipped"]}


def _exported(fitted: Calibration, head: str) -> dict[str, Any]:
    """vLLM's parameters, or why there are none."""
    try:
        return {"vllm": vllm_pooler_config(fitted, head="sigmoid" if head == "sigmoid" else "softmax"), "vllm_reason": None}
    except InputError as error:
        return {"vllm": None, "vllm_reason": str(error)}
