"""Options that several verbs share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

POLICY_HELP = "Who writes steps: tiny, tiny:deduction, scripted:grade-school, scripted:deduction, hf:FOLDER_OR_ID, http://host:port/v1 (with --model-name)."
MODEL_HELP = "Who scores steps: a checkpoint (folder or hub id, or prm:...), tools:arithmetic, JUDGE:POLICY, vllm:URL, stepward:URL, mean(A, B), ...; see docs."
ENVIRONMENT_HELP = (
    "What problems live in: grade-school (2 to 12 operations), grade-school:easy (1 to 4, small numbers), deduction[:simple|easy|medium|hard], maths."
)

PolicyOption = Annotated[str, typer.Option("--policy", metavar="SPEC", help=POLICY_HELP)]
OptionalPolicy = Annotated[str | None, typer.Option("--policy", metavar="SPEC", help=POLICY_HELP)]
ModelName = Annotated[str | None, typer.Option("--model-name", metavar="NAME", help="The model's name on an http policy's server.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="SPEC", help=MODEL_HELP)]
OptionalModel = Annotated[str | None, typer.Option("--model", metavar="SPEC", help=MODEL_HELP)]
EnvironmentOption = Annotated[str, typer.Option("--environment", metavar="SPEC", help=ENVIRONMENT_HELP)]
OptionalEnvironment = Annotated[str | None, typer.Option("--environment", metavar="SPEC", help=ENVIRONMENT_HELP)]
SplitOption = Annotated[str, typer.Option("--split", help="Split of the environment's own problems: train, dev or test. They never overlap.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most N rows or problems.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where results go; .jsonl, .jsonl.gz or .parquet.")]
JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Where every paid-for result is kept; a rerun of the same command pays for nothing twice. Default: the output file's name with .journal added.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, metavar="N", help="At most N problems or trajectories at once.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 is greedy.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="Where models with weights run: cpu, cuda, cuda:1, mps.")]
SkipBadRows = Annotated[bool, typer.Option("--skip-bad-rows", help="Set malformed rows aside in FILE.rejected.jsonl and go on, instead of stopping.")]
