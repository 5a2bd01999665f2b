"""Parity: the same steps scored by stepward and by a real vLLM server, on a random checkpoint of a published shape.

The checkpoint has the layout of Qwen2.5-Math-PRM (or of another registered family), transformers' own initialisation (normal, 0.02) and a head whose
logits differ by about `--spread` from step to step, so that probabilities use the whole range: with the head as initialised all of them would be 0.5 and agree
whatever happened. Each dtype is served and compared with the local model in the same dtype; `floor` is what the local model in that dtype differs
from itself in float32.

    python benchmarks/parity.py --vllm "vllm serve {model} --port {port}" --json
    python benchmarks/parity.py --url http://localhost:8000 --model FOLDER --dtypes bfloat16

Without a server it says so and ends with code 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scoring_server import serving

from stepward.cli.parity_cases import awkward_solutions
from stepward.core import Trajectory
from stepward.engine.loop import run_sync
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.remote.load import load_remote
from stepward.rewards.remote.parity import compare

_INITIAL = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", metavar="COMMAND", help="starts a server; model and port are added, or put in for {model} and {port}")
    parser.add_argument("--url", help="a server that runs already; needs --model, the folder that it serves")
    parser.add_argument("--model", help="a checkpoint folder; default: a random one")
    parser.add_argument("--family", default="qwen2.5-math-prm", help="of the random checkpoint; its convention says how a model is read")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--solutions", type=int, default=96)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--spread", type=float, default=1.0, help="standard deviation of the difference of logits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.url and not options.model:
        parser.error("--url needs --model: the folder that the server serves")
    if not options.url and not options.vllm:
        _show({"benchmark": "parity", "skipped": "no server: give --vllm COMMAND or --url ADDRESS"}, options.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        _show(run(options, options.model or str(random_checkpoint(Path(folder), options))), options.json)


def run(options: argparse.Namespace, source: str) -> dict[str, Any]:
    """One comparison a dtype."""
    from stepward.rewards.families import family_named

    convention = family_named(options.family).convention if not options.model else None
    solutions = awkward_solutions(options.solutions)
    exact = DiscriminativeModel.from_pretrained(source, convention=convention)
    rows = {}
    for dtype in options.dtypes:
        local = exact if dtype == "float32" else DiscriminativeModel.from_pretrained(source, dtype=dtype, convention=convention)
        with _address(options, source, dtype, local) as url:
            remote = load_remote(f"vllm:{url}", tokenizer=local.tokenizer, convention=local.convention)
            found = run_sync(compare(local, remote, solutions, tolerance=options.tolerance))
        floor = run_sync(compare(local, exact, solutions, tolerance=options.tolerance))
        scores = np.array([pair.local for pair in found.pairs])
        rows[dtype] = found.to_record() | {
            "floor_largest": floor.largest,
            "floor_mean": floor.mean,
            "score_quantiles": [round(float(value), 4) for value in np.nanquantile(scores, [0.0, 0.05, 0.5, 0.95, 1.0])],
        }
    return {"benchmark": "parity", "family": options.family, "solutions": len(solutions), "dtypes": rows}


def random_checkpoint(folder: Path, options: argparse.Namespace) -> Path:
    """A random checkpoint of the family, scaled as the docstring of this file says."""
    from safetensors.torch import load_file, save_file

    from stepward.rewards.families import family_named
    from stepward.testing.checkpoints import tiny_checkpoint

    convention = family_named(options.family).convention
    tiny_checkpoint(options.family, folder, seed=options.seed, hidden=options.hidden, layers=options.layers, max_tokens=convention.max_tokens)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    wide = {name for name, tensor in tensors.items() if name.startswith("model.") and tensor.ndim > 1}
    tensors = {name: tensor * (_INITIAL / tensor.std()) if name in wide else tensor for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})
    model = DiscriminativeModel.from_pretrained(folder, convention=convention)
    spread = float(np.std(_margins(model, awkward_solutions(24))))
    last = [name for name in ("score.2.weight", "score.2.bias", "score.weight", "score.bias", "lm_head.weight") if name in tensors]
    save_file({name: tensor * (options.spread / spread) if name in last else tensor for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    return folder


def _margins(model: DiscriminativeModel, solutions: list[Trajectory]) -> np.ndarray[Any, Any]:
    """Log-odds of every step's score."""
    values = np.concatenate([run_sync(model.score(solution)).values for solution in solutions])
    known = values[~np.isnan(values)].clip(1e-12, 1 - 1e-12)
    return np.asarray(np.log(known) - np.log1p(-known))


@contextmanager
def _address(options: argparse.Namespace, source: str, dtype: str, local: DiscriminativeModel) -> Iterator[str]:
    """The server that was given, or one that runs while the body does."""
    if options.url:
        yield options.url
        return
    tag = None if local.convention.head == "tokens" else int(local.encoder(awkward_solutions(2)[1]).ids[-1])
    with serving(options.vllm, source, dtype=dtype, step_tag=tag) as url:
        yield url


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    for dtype, row in report.get("dtypes", {}).items():
        print(f"{dtype}:")
        for name, value in row.items():
            print(f"  {name:22s} {value}")
    if "skipped" in report:
        print(report["skipped"])


if __name__ == "__main__":
    main()
