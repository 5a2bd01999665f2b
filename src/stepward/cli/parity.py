"""stepward parity"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stepward.cli.inputs import trajectories_from
from stepward.cli.model_options import loads_models
from stepward.cli.options import ConcurrencyOption, JsonOption, LimitOption, SkipBadRows
from stepward.cli.output import print_json, print_table
from stepward.cli.parity_cases import awkward_solutions
from stepward.core import InputError, RewardModel, Trajectory
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.rewards.load import DEFAULT_LOAD, LoadOptions, load_reward_model
from stepward.rewards.remote.load import is_remote, load_remote
from stepward.rewards.remote.parity import Parity, compare

_DISAGREE = 1


@loads_models
def parity(
    model: Annotated[str, typer.Option("--model", metavar="SPEC", help="The reference: a reward model as everywhere, usually a local folder.")],
    remote: Annotated[
        str,
        typer.Option("--remote", metavar="SPEC", help="What is compared with it: vllm:URL, sglang:URL (with an endpoint, if need be), or any other model."),
    ],
    data: Annotated[
        list[Path] | None, typer.Option("--data", metavar="FILE", help="Trajectories or examples to score. Default: built-in awkward ones.")
    ] = None,
    limit: LimitOption = None,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0.0, help="Largest absolute difference of a value that counts as equal.")] = 0.02,
    rows: Annotated[int, typer.Option("--rows", min=0, metavar="N", help="Show the N steps that differ most.")] = 20,
    load: LoadOptions = DEFAULT_LOAD,
    concurrency: ConcurrencyOption = 32,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Score the same steps locally and on a server, and show where they differ.

    A server gets the token ids that the local model would read, by the local model's own convention. Exit code 1 when a value differs by more than the
    tolerance, when a step is unscored on one side only, or when nothing could be compared.

    Example: stepward parity --model prm --remote vllm:http://localhost:8000 --dtype bfloat16
    """
    local = load_reward_model(model, load)
    other = _other(remote, local, load)
    trajectories = trajectories_from(data, limit=limit, skip_bad_rows=skip_bad_rows) if data else awkward_solutions(limit or 64)
    if not trajectories:
        raise InputError("nothing to compare: the data holds no trajectories")
    with progress("parity", total=2 * len(trajectories), quiet=json) as bar:
        found = run_sync(_compared(local, other, trajectories, tolerance=tolerance, concurrency=concurrency, on_done=bar.advance))
    summary = {"local": local.fingerprint, "remote": other.fingerprint} | found.to_record()
    if json:
        listed = [{**vars(pair), "difference": pair.difference} for pair in found.pairs]
        print_json(summary | {"values": listed})
    else:
        table: list[list[Any]] = [[pair.trajectory, pair.step, pair.text, pair.name, pair.local, pair.remote, pair.difference] for pair in found.worst(rows)]
        if table:
            title = f"the {len(table)} of {len(found.pairs)} values that differ most" if len(table) < len(found.pairs) else "all values"
            print_table(title, ["solution", "step", "text", "value", "local", "remote", "difference"], table)
        print_table("parity", ["", "value"], [[name, _shown(value)] for name, value in summary.items()])
    if not found.agree:
        raise typer.Exit(_DISAGREE)


async def _compared(local: RewardModel, other: RewardModel, trajectories: list[Trajectory], **options: Any) -> Parity:
    try:
        return await compare(local, other, trajectories, **options)
    finally:
        for model in (local, other):
            if (close := getattr(model, "aclose", None)) is not None:  # models behind a connection
                await close()


def _other(spec: str, local: RewardModel, load: LoadOptions) -> RewardModel:
    """The other model; a server is asked with the local model's tokenizer and convention unless others are given."""
    tokenizer, convention = getattr(local, "tokenizer", None), getattr(local, "convention", None)
    if not is_remote(spec) or load.tokenizer is not None or tokenizer is None or convention is None:
        return load_reward_model(spec, load)
    return load_remote(spec, tokenizer=tokenizer, convention=convention, model_name=load.model_name or "", api_key=load.token)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return "; ".join(f"{count} x {reason}" for reason, count in value.items()) or "none"
    return value
