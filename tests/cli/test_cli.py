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
        assert "Example" in run(verb, "--help").stdout
    for verb in ("processbench", "labels", "best-of-n"):
        shown = run("eval", verb, "--help").stdout
        assert "Example" in shown
        assert "--json" in shown


def test_score_prints_one_object_with_one_value_a_step() -> None:
    found = run_json("score", "--model", "tools:arithmetic", "--problem", "What is 2 + 2?", "--solution", "2 + 2 = 4.\n\n4 + 1 = 6.\n\nDone.")
    scores = found["scores"][0]
    assert scores["values"] == [1.0, 0.0, None]
    assert scores["reasons"][2].startswith("abstained")


def test_score_leaves_latex_as_it_is_and_tells_one_number_a_solution() -> None:
    found = run_json("score", "--model", "tools:arithmetic", "--problem", "p", "--solution", r"2 + 2 \neq 5, since 2 + 2 = 4.")
    assert len(found["scores"][0]["values"]) == 1
    assert found["aggregates"] == [1.0]


def test_score_shows_a_table_to_people() -> None:
    text = run("score", "--model", "tools:arithmetic", "--problem", "What is [bold]2[/bold]?", "--solution", "2 + 2 = 5.").stdout
    assert "first error: step 0" in text
    assert "[bold]2[/bold]" in text, "markup in a text must be shown, not obeyed"


def test_mistakes_end_with_a_message_and_no_traceback() -> None:
    for arguments, message in [
        (["score", "--model", "nonsense:x", "--problem", "a", "--solution", "b"], "nonsense"),
        (["sample", "--policy", "parrot"], "parrot"),
        (["sample", "--policy", "scripted:grade-school", "--environment", "moon"], "moon"),
        (["search", "--policy", "scripted:grade-school", "--strategy", "guesswork"], "guesswork"),
        (["label", "--data", "missing.jsonl", "--out", "x.jsonl"], "missing.jsonl"),
        (["eval", "processbench", "--model", "tools:arithmetic"], "--data"),
        (["eval", "processbench", "--model", "tools:arithmetic", "--data", "a/x.jsonl", "b/x.jsonl"], "not distinct"),
        (["sample", "--policy", "scripted:grade-school", "--out", "samples.csv"], "samples.csv"),
        (["label", "--policy", "scripted:grade-school", "--format", "prose", "--out", "x.jsonl"], "prose"),
        (["search", "--policy", "scripted:grade-school", "--model", "oracle:grade-school", "--aggregation", "median"], "median"),
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
    exact = run_json("eval", "labels", "--data", str(labels), "--environment", "grade-school", "--policy", "scripted:grade-school")
    assert exact["first_error_accuracy"] == measured["first_error_accuracy"]
    assert abs(exact["bias"]) < 4 * max(exact["bias_se"], 0.01)
    assert 0.0 <= exact["mean_abs_error"] <= 1.0
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


def test_labelling_from_nothing_counts_the_solutions_too(tmp_path: Path) -> None:
    """What the policy wrote before its solutions were labelled is part of the cost."""
    out = tmp_path / "labels.jsonl"
    found = run_json("label", *SCRIPTED, "--limit", "4", "--rollouts", "2", "--out", str(out))
    written = sum(step.n_tokens for example in read_records(out) for step in example.trajectory.steps)
    rolled_out = sum(example.labels.usage.policy_tokens for example in read_records(out))
    assert found["usage"]["policy_tokens"] == written + rolled_out


def test_curves_of_answers_from_samples_that_exist(tmp_path: Path) -> None:
    samples = tmp_path / "samples.jsonl"
    run_json("sample", *SCRIPTED, "--limit", "12", "--n", "4", "--out", str(samples))
    found = run_json("eval", "best-of-n", "--model", "oracle:grade-school", "--data", str(samples))
    assert (found["k"], found["n_problems"], found["n_ungraded"]) == (4, 12, 0)
    accuracy = {name: entry["value"] for name, entry in found["accuracy"].items()}
    assert accuracy["pass@1"] <= accuracy["best_of_4"] <= accuracy["oracle_pass@4"]
    assert 0.0 <= found["calibration"]["ece"] <= 1.0


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
