"""stepward score"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepward.api import as_trajectory
from stepward.cli.inputs import trajectories_from
from stepward.cli.options import ConcurrencyOption, JournalOption, JsonOption, LimitOption, ModelOption, OutOption, SkipBadRows
from stepward.cli.output import print_json, print_table
from stepward.cli.session import journal_for, session, spent, tokens
from stepward.core import InputError, StepScores, Trajectory
from stepward.data.store import write_records


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
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 256,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Score every step of solutions.

    Always one score a step; a step that cannot be scored is shown with its reason, never as a zero.

    Example: stepward score --model tools:arithmetic --problem "What is 48 / 2 + 3?" --solution $'48 / 2 = 24.\\n\\n24 + 3 = 28.'
    """
    with session(journal_for(out, journal), quiet=json) as work:
        scorer = work.model(model)
        if data:
            trajectories = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows)
        elif problem is not None and solution is not None:
            trajectories = [as_trajectory(problem, solution.replace("\\n", "\n"))]
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
        "n_failed_trajectories": n_failed,
        "out": None if out is None else str(out),
    } | spent(ledger)
    if json:
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
            total = given.aggregate(aggregation, unscored="skip")
            print_table(f"{trajectory.problem.prompt}\nfirst error: {verdict}; {aggregation}: {total:.4g}", ["step", "text", "score", "remark"], rows)
    print_table(
        "scored",
        ["", "value"],
        [[name, summary[name]] for name in ("model", "n_trajectories", "n_steps", "n_unscored_steps")] + [["cost", tokens(ledger.usage)]],
    )
