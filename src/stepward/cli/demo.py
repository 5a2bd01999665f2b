"""stepward demo"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from stepward.cli.options import JsonOption, SeedOption
from stepward.cli.output import finite, print_json, print_table, remarks


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the report, the summary, the trained model and the journal go.")] = Path(
        "runs/demo"
    ),
    limit: Annotated[int | None, typer.Option("--limit", min=2, metavar="N", help="Use N training, dev and test problems each, for a quick look.")] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Do the whole job on embedded defaults, without downloads.

    Solutions of word problems by the shipped tiny policy; step labels by Monte-Carlo rollouts; a step reward model trained on them;
    better answers on unseen problems by best-of-n, weighted voting and step beam search; an honest report (report.html, summary.json).
    Kill it at any moment: the same command goes on from there.

    Example: stepward demo --out runs/demo
    """
    from stepward.cli.demo_pipeline import DemoSettings, run_demo
    from stepward.cli.demo_report import write_demo_report
    from stepward.data.atomic import replacing

    settings = DemoSettings(seed=seed) if limit is None else DemoSettings(seed=seed, n_train=limit, n_dev=limit, n_test=limit, n_exact=limit)
    result = run_demo(settings, out, quiet=json)
    summary = result.summary()
    with replacing(out / "summary.json") as stream:
        stream.write(jsonlib.dumps(finite(summary), indent=1).encode() + b"\n")
    write_demo_report(result, out / "report.html")
    if json:
        print_json(summary)
        return
    rows: list[list[Any]] = [
        [
            name,
            100 * value["value"],
            f"{100 * value['low']:.1f} to {100 * value['high']:.1f}",
            value["n"],
            round(value["policy_tokens"]),
            round(value["reward_tokens"]),
        ]
        for name, value in summary.items()
        if isinstance(value, dict) and "policy_tokens" in value
    ]
    print_table("accuracy on unseen problems", ["method", "accuracy %", "95 % interval", "problems", "policy tokens", "reward tokens"], rows)
    named = ("first_error_f1", "label_mean_abs_error", "calibration_ece", "wall_s", "peak_rss_mb")
    print_table("and", ["measure", "value"], [[name, summary[name]] for name in named])
    remarks.print(f"report: {out / 'report.html'}   summary: {out / 'summary.json'}", markup=False)
