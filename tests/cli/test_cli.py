"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepward.core import Example, Trajectory
from stepward.data.store import read_records

SCRIPTED = ["--policy", "scripted:grade-school", "--environment", "grade-school"]


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "stepward.cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_json(*arguments: str, code: int = 0) -> dict[str, Any]:
    """Standard output must be one JSON object and nothing else."""
    found: dict[str, Any] = json.loads(run(*arguments, "--json", code=code).stdout)
    return found


def test_help_reads_like_a_manual() -> None:
    text = run("--help").stdout
    for verb in ("demo", "check", "sample", "label", "train", "score", "search", "eval", "report", "doctor"):
        assert verb in text
    for verb in ("demo", "check", "sample", "label", "train", "score", "search", "report", "doctor"):
        assert "Example" in run(verb, "--help").stdout or verb in ("demo", "check")


def test_score_prints_one_object_with_one_value_a_step() -> None:
    found = run_json("score", "--model", "tools:arithmetic", "--problem", "What is 2 + 2?", "--solution", "2 + 2 = 4.\\n\\n4 + 1 = 6.\\n\\nDone.")
    scores = found["scores"][0]
    assert scores["values"] == [1.0, 0.0, None]
    assert scores["reasons"][2].startswith("abstained")


def test_score_shows_a_table_to_people() -> None:
    text = run("score", "--model", "tools:arithmetic", "--problem", "What is [bold]2[/bold]?", "--solution", "2 + 2 = 5.").stdout
    assert "first error: step 0" in text
    assert "[bold]2[/bold]" in text, "markup in a text must be shown, not obeyed"


def test_mistakes_end_with_a_message_and_no_traceback() -> None:
    for arguments, message in [
        (["score", "--model", "nonsense:x", "--problem", "a", "--solution", "b"], "nonsense"),
        (["sample", "--policy", "parrot"], "parrot"),
        (["sample", "--policy", "scripted:grade-school", "--environment", "moon"], "moon"),
        (["search", "--policy", "scripted:grade-school", "--strategy", "mcts"], "mcts"),
        (["label", "--data", "missing.jsonl", "--out", "x.jsonl"], "missing.jsonl"),
        (["eval", "processbench", "--model", "tools:arithmetic"], "--data"),
    ]:
        done = run(*arguments, code=2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_sample_label_eval_report(tmp_path: Path) -> None:
    samples, labels, page = tmp_path / "samples.jsonl", tmp_path / "labels.parquet", tmp_path / "report.html"
    sampled = run_json("sample", *SCRIPTED, "--limit", "6", "--n", "2", "--split", "train", "--out", str(samples))
    assert sampled["n_trajectories"] == 12
    trajectories = list(read_records(samples))
    assert all(isinstance(t, Trajectory) and t.outcome is not None for t in trajectories)
    labelled = run_json("label", *SCRIPTED, "--data", str(samples), "--rollouts", "4", "--out", str(labels))
    assert labelled["n_unlabelled_steps"] == 0
    examples = list(read_records(labels))
    assert all(isinstance(e, Example) and e.labels is not None and len(e.labels) == len(e.trajectory) for e in examples)
    measured = run_json("eval", "labels", "--data", str(labels), "--environment", "grade-school")
    assert measured["n_examples"] == 12
    run_json("report", "--data", str(labels), "--model", "tools:arithmetic", "--environment", "grade-school", "--out", str(page))
    assert "<html" in page.read_text()


def test_a_rerun_pays_for_nothing_and_writes_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    arguments = ["label", *SCRIPTED, "--limit", "8", "--rollouts", "4", "--out", str(out)]
    first = run_json(*arguments)
    written = out.read_bytes()
    out.unlink()
    second = run_json(*arguments)
    assert out.read_bytes() == written
    assert first["paid"]["policy_tokens"] == first["usage"]["policy_tokens"] > 0
    assert second["usage"] == first["usage"]
    assert second["paid"]["policy_tokens"] == 0


def test_search_reports_accuracy_with_its_interval_and_cost(tmp_path: Path) -> None:
    found = run_json("search", *SCRIPTED, "--model", "oracle:grade-school", "--strategy", "beam", "--n", "4", "--width", "2", "--limit", "10")
    assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
    assert found["usage"]["policy_tokens"] > 0


def test_processbench_counts_bad_rows_instead_of_stopping(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "generator": "g", "problem": "p", "steps": ["1 + 1 = 3.", "So 3."], "final_answer_correct": False, "label": 0},
        {"id": "b", "generator": "g", "problem": "p", "steps": ["1 + 1 = 2."], "final_answer_correct": True, "label": -1},
        {"id": "c", "generator": "g", "problem": "p", "steps": ["1 + 1 = 2."], "final_answer_correct": True, "label": 7},
    ]
    file = tmp_path / "processbench_small.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    refused = run("eval", "processbench", "--model", "tools:arithmetic", "--data", str(file), code=2)
    assert f"{file}:3" in refused.stderr
    assert "label" in refused.stderr
    found = run_json("eval", "processbench", "--model", "tools:arithmetic", "--data", str(file), "--skip-bad-rows")
    (subset,) = found["subsets"].values()
    assert (subset["error_accuracy"], subset["correct_accuracy"], subset["f1"], subset["n_error"], subset["n_correct"]) == (100.0, 100.0, 100.0, 1, 1)
    assert Path(f"{file}.rejected.jsonl").exists()


def test_check_passes_on_what_ships_and_fails_with_code_1_on_bad_data(tmp_path: Path) -> None:
    found = run_json("check", "--policy", "scripted:grade-school", "--model", "tools:arithmetic", "--environment", "grade-school")
    assert all(result["failure"] is None for result in found.values())
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": 1}\n')
    assert run_json("check", "--data", str(bad), code=1)[f"file {bad}"]["failure"]


def test_doctor_tells_what_works_here() -> None:
    found = run_json("doctor")
    assert found["grader"].startswith("works")
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize("verb", ["sample", "label", "train", "score", "search", "report", "demo", "check", "doctor"])
def test_every_verb_takes_json(verb: str) -> None:
    assert "--json" in run(verb, "--help").stdout
