"""The deduction environment on the command line: sampled, labelled exactly, and the labels held against its oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stepward.core import Example
from stepward.data.store import read_records

WORLD = ["--policy", "scripted:deduction", "--environment", "deduction:medium"]


def run_json(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "stepward.cli", *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_monte_carlo_labels_are_unbiased_against_the_exact_values(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    made = run_json("label", *WORLD, "--limit", "60", "--rollouts", "8", "--out", str(out))
    assert made["n_trajectories"] == 60
    assert made["n_unlabelled_steps"] == 0
    found = run_json("eval", "labels", "--data", str(out), *WORLD)
    assert abs(found["bias"]) < 3 * found["bias_se"]
    assert found["n_unknown_truth"] == 0


def test_oracle_labels_name_every_first_error(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    run_json("label", *WORLD, "--limit", "30", "--method", "oracle", "--out", str(out))
    examples = [record for record in read_records(out) if isinstance(record, Example)]
    labels = [example.labels for example in examples if example.labels is not None]
    assert len(labels) == 30
    kinds = {kind for label in labels for kind in label.error_types if kind}
    assert {"invalid_inference", "missing_premise"} <= kinds <= {"invalid_inference", "missing_premise", "wrong_polarity", "circular", "premature_answer"}
    assert run_json("eval", "labels", "--data", str(out), "--environment", "deduction")["first_error_accuracy"] == 1.0
