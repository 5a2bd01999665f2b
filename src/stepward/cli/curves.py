"""stepward eval best-of-n"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stepward.cli.inputs import trajectories_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import ConcurrencyOption, JournalOption, JsonOption, LimitOption, ModelOption, SeedOption, SkipBadRows
from stepward.cli.output import print_json, print_table
from stepward.cli.session import session
from stepward.core import InputError, StepScores, Trajectory, check_aggregation
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions


@loads_models
def curves(
    model: ModelOption,
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Graded solutions, e.g. of `stepward sample --n 16`. Repeatable.")],
    k: Annotated[int | None, typer.Option("--k", min=1, metavar="N", help="Samples a problem. Default: as many as every problem has.")] = None,
    aggregation: Annotated[
        str, typer.Option("--aggregation", help="One number a solution: last, min, max, mean, product, geometric, softmin, mean_logit.")
    ] = "min",
    reward_cost: Annotated[
        float, typer.Option("--reward-cost", min=0.0, help="Cost of a reward token in policy tokens: parameters of the one model over the other's.")
    ] = 1.0,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    load: LoadOptions = DEFAULT_LOAD,
    journal: JournalOption = None,
    concurrency: ConcurrencyOption = 256,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Does choosing by step scores beat a plain vote, and at what cost? Curves over 1 to k samples, from solutions that exist already.

    pass@1, majority, best-of-k, weighted best-of-k and the oracle ceiling, with 95 % intervals that resample problems; paired differences
    to the majority at k samples and, for fewer samples, at equal compute; calibration of the step scores against the outcomes.

    Example: stepward eval best-of-n --model prm:prm --data samples.jsonl --json
    """
    from stepward.evaluation.best_of_n import ProblemSamples, best_of_n
    from stepward.evaluation.calibration import calibration

    check_aggregation(aggregation)
    trajectories = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows)
    if not any(trajectory.outcome is not None and trajectory.outcome.scored for trajectory in trajectories):
        raise InputError("the files hold no graded solutions; make some with `stepward sample --n 16 --out FILE`")
    with session(journal, quiet=json, load=load) as work:
        scorer = work.model(model)

        def unscored(trajectory: Trajectory, reason: str) -> StepScores:
            return StepScores.unscored(len(trajectory), reason, scale=scorer.scale)

        scores, ledger, _ = work.each("score", trajectories, scorer.score, unscored, concurrency=concurrency)
    pools: dict[str, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        pools.setdefault(trajectory.problem.key, []).append(index)
    bank = [ProblemSamples.from_trajectories([trajectories[i] for i in pool], [scores[i] for i in pool], how=aggregation) for pool in pools.values()]
    found = best_of_n(bank, max_k=k, reward_cost=reward_cost, seed=seed)
    n = found.max_k
    quarter = max(1, n // 4)
    differences = {
        f"best_of_{n} - majority@{n}": found.difference("best_of", "majority", n),
        f"weighted_{n} - majority@{n}": found.difference("weighted", "majority", n),
        f"weighted_{quarter} - majority at equal compute": found.difference_at_equal_compute("weighted", "majority", quarter),
    }
    accuracy = found.summary(n)
    summary: dict[str, Any] = {
        "k": n,
        "n_problems": len(bank),
        "accuracy": accuracy,
        "differences": {name: estimate.to_json() for name, estimate in differences.items()},
        "curves": {method: [point.to_json() for point in points] for method, points in found.points.items()},
        "calibration": None,
        "n_unscored": found.n_unscored,
        "n_ungraded": found.n_ungraded,
        "usage": ledger.usage.to_record(),
    }
    if scorer.scale == "probability":
        outcomes = np.concatenate([np.full(len(t), np.nan if t.outcome is None or t.outcome.value is None else t.outcome.value) for t in trajectories])
        clusters = [trajectory.problem.key for trajectory in trajectories for _ in trajectory.steps]
        summary["calibration"] = calibration(np.concatenate([given.values for given in scores]), outcomes, clusters, seed=seed).to_json()
    if json:
        print_json(summary)
        return
    rows: list[Sequence[Any]] = [
        [name, 100 * entry["value"], f"{100 * entry['low']:.1f} to {100 * entry['high']:.1f}", entry["n"], entry["policy_tokens"], entry["reward_tokens"]]
        if entry["n"]
        else [name, None, "unknown", 0, entry["policy_tokens"], entry["reward_tokens"]]
        for name, entry in accuracy.items()
    ]
    print_table(f"accuracy with {n} samples a problem", ["method", "accuracy %", "95 % interval", "problems", "policy tokens", "reward tokens"], rows)
    print_table(
        "paired differences",
        ["difference", "points", "95 % interval"],
        [[name, 100 * d.value, f"{100 * d.low:.1f} to {100 * d.high:.1f}"] if d.n else [name, None, d.method] for name, d in differences.items()],
    )
    ece = None if summary["calibration"] is None else summary["calibration"]["ece"]
    print_table("and", ["", "value"], [["expected calibration error", ece], ["unscored solutions", found.n_unscored], ["ungraded", found.n_ungraded]])
