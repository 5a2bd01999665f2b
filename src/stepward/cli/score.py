"""stepward score"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepward.api import as_trajectory
from stepward.cli.inputs import check_out, trajectories_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import ConcurrencyOption, JournalOption, JsonOption, LimitOption, ModelOption, OutOption, SkipBadRows
from stepward.cli.output import print_json, print_table, shown
from stepward.cli.session import journal_for, session, spent, tokens, why_missing
from stepward.core import InputError, StepScores, Trajectory, check_aggregation
from stepward.data.store import write_records
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions


@loads_models
def score(
    model: ModelOption,
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Trajectories or examples to score.")] = None,
    problem: Annotated[str | None, typer.Option("--problem", metavar="TEXT", help="A problem, to score one --solution.")] = None,
    solution: Annotated[str | None, typer.Option("--solution", metavar="TEXT", help="A solution; split into steps at blank lines, numbers or markers.")] = None,
    aggregation: Annotated[
        str, typer.Option("--aggregation", help="One number a solution: last, min, max, mean, product, geometric, softmin, mean_logit.")
    ] = "min",
    out: OutOption = None,
    limit: LimitOption = None,
    load: LoadOptions = DEFAULT_LOAD,
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 256,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Score every step of solutions.

    Always one score a step; a step that cannot be scored is shown with its reason, never as a zero.

    Example: stepward score --model tools:arithmetic --problem "What is 48 / 2 + 3?" --solution $'48 / 2 = 24.\\n\\n24 + 3 = 28.'
    """
    check_out(out)
    check_aggregation(aggregation)
    if data and (problem is not None or solution is not None):
        raise InputError("give either --data, or --problem with --solution, not both")
    with session(journal_for(out, journal), quiet=json, load=load) as work:
        scorer = work.model(model)
        if data:
            trajectories = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows)
        elif problem is not None and solution is not None:
            trajectories = [as_trajectory(problem, solution)]
        else:
            raise InputError("nothing to score: give --data FILE, or --problem TEXT with --solution TEXT")

        def unscored(trajectory: Trajectory, reason: str) -> StepScores:
            return StepScores.unscored(len(trajectory), reason, scale=scorer.scale)

        scores, ledger, n_failed = work.each("score", trajectories, scorer.score, unscored, concurrency=concurrency)
    if out is not None:
        write_records(scores, out)
    summary = {
        "model": scorer.fingerprint,
        "n_trajectories": len(trajectories),
        "n_steps": sum(map(len, scores)),
        "n_unscored_steps": sum(given.n_unscored for given in scores),
        "unscored_reasons": why_missing(reason for given in scores for reason in given.reasons),
        "n_failed_trajectories": n_failed,
        "out": None if out is None else str(out),
    } | spent(ledger)
    if json:
        summary |= {"aggregation": aggregation, "aggregates": [given.overall(aggregation) for given in scores]}
        print_json(summary | ({"scores": [given.to_record() for given in scores]} if out is None else {}))
        return
    if out is None:
        for trajectory, given in zip(trajectories[:20], scores, strict=False):
            rows = [
                [index, step.text, float(value), reason or rationale or ""]
                for index, (step, value, reason, rationale) in enumerate(zip(trajectory.steps, given.values, given.reasons, given.rationales, strict=True))
            ]
            at = given.first_error()
            verdict = "unknown" if at is None else "none" if at < 0 else f"step {at}"
            total = shown(given.overall(aggregation))
            print_table(f"{trajectory.problem.prompt}\nfirst error: {verdict}; {aggregation}: {total}", ["step", "text", "score", "remark"], rows)
    print_table(
        "scored",
        ["", "value"],
        [[name, summary[name]] for name in ("model", "n_trajectories", "n_steps", "n_unscored_steps")] + [["cost", tokens(ledger.usage)]],
    )
