"""stepward label: methods by name, their help pages, workers and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stepward.cli.label_job import LabelJob
from stepward.cli.main import app
from stepward.cli.session import session
from stepward.core import InputError, Problem, Sampling, Trajectory
from stepward.data import read_records
from stepward.data.problems import write_problems
from stepward.data.shards import shards_in, write_shards
from stepward.engine.loop import run_sync
from stepward.environments.grade_school import GradeSchool

BASE = ["label", "--policy", "scripted:grade-school", "--environment", "grade-school:easy", "--limit", "6", "--json"]


def run(*arguments: str) -> Any:
    ran = CliRunner().invoke(app, [*BASE, *arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_help_beside_a_method_is_that_methods_page() -> None:
    for arguments in (["label", "--method", "scan", "--help"], ["label", "--help", "--method=scan"]):
        page = CliRunner().invoke(app, arguments).stdout
        assert "stepward label --method scan" in page
        assert "min_confidence" in page
        assert "--shard-size" not in page
    page = CliRunner().invoke(app, ["label", "--help"]).stdout
    assert "--shard-size" in page
    assert CliRunner().invoke(app, ["label", "--method", "nothing", "--help"]).exit_code != 0


def test_a_method_runs_with_its_settings_and_says_so_in_every_label(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    summary = run("--method", "adaptive", "--set", "error=0.2", "--set", "max-rollouts=40", "--out", str(out))
    labels = [example.labels for example in read_records(out)]
    assert summary["n_trajectories"] == len(labels) == 6
    assert {(one.source["method"], one.source["error"], one.source["max_rollouts"]) for one in labels} == {("adaptive", 0.2, 40)}
    assert run("--method", "adaptive", "--set", "error=0.2", "--set", "max-rollouts=40", "--out", str(out))["paid"]["policy_tokens"] == 0


def test_problems_of_a_file_are_solved_in_place_of_the_environments_own(tmp_path: Path) -> None:
    problems = list(GradeSchool.easy().problems(99, 8))
    write_problems(problems, tmp_path / "problems.jsonl")
    summary = run("--problems", str(tmp_path / "problems.jsonl"), "--method", "oracle", "--per-problem", "2", "--out", str(tmp_path / "labels.jsonl"))
    labelled = [example.trajectory.problem for example in read_records(tmp_path / "labels.jsonl")]
    assert labelled == [problem for problem in problems[:6] for _ in range(2)], "--limit takes the first six"
    assert summary["n_unlabelled_steps"] == 0


def test_a_pilot_changes_the_prior_and_costs_its_rollouts(tmp_path: Path) -> None:
    plain = run("--method", "adaptive", "--out", str(tmp_path / "plain.jsonl"))
    fitted = run("--method", "adaptive", "--pilot", "4", "--out", str(tmp_path / "fitted.jsonl"))
    priors = [next(read_records(tmp_path / name)).labels.source["prior"] for name in ("plain.jsonl", "fitted.jsonl")]
    assert priors[0] != priors[1]
    assert fitted["usage"]["policy_tokens"] > plain["usage"]["policy_tokens"]


def test_settings_that_do_not_fit_are_refused_before_anything_is_paid(tmp_path: Path) -> None:
    for arguments, message in (
        (["--method", "adaptive", "--rollouts", "3"], "--rollouts sets the parameter 'n', which method 'adaptive' does not have"),
        (["--set", "n"], "--set must be NAME=VALUE"),
        (["--pilot", "3"], "--pilot fits the prior of adaptive labeling; method 'monte-carlo' has none"),
        (["--judge-model", "critic:tiny"], "method 'monte-carlo' asks no judge"),
        (["--tools", "arithmetic"], "method 'monte-carlo' uses none"),
        (["--address", "localhost:1"], "give --engine ray"),
        (["--engine", "cloud"], "--engine must be local or ray"),
        (["--data", "solutions.jsonl", "--problems", "problems.jsonl"], "--data gives solutions to label and --problems problems to solve first"),
        (["--problems", "nowhere.jsonl"], "no such file: nowhere.jsonl"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, [*BASE, *arguments, "--out", str(tmp_path / "a.jsonl")], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_rollouts_of_a_problem_are_not_the_solutions_that_they_judge() -> None:
    """The same policy with the same noise would write the labelled solution again, and call that evidence about it."""
    job = LabelJob(method="scan", environment="grade-school", policy="scripted:grade-school", sampling=Sampling(seed=3), per_problem=4)
    with session(None, quiet=True) as work:
        world, policy = job.parts(work)
        made: Any = job.labeler(work, world, policy)
        solve = job.solver(work, world, policy)

        async def both(problem: Problem) -> tuple[list[str], list[str]]:
            rollouts = await made.completer.rollouts(Trajectory(problem), 4)
            return [one.key for one in await solve(problem)], [rollout.end.key for rollout in rollouts]

        found = [run_sync(both(problem)) for problem in GradeSchool().problems(0, 8)]
    assert not any(written == again for written, again in found)


def test_a_prover_completes_in_place_of_the_policy(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    run("--method", "prover-progress", "--prover", "tiny", "--limit", "1", "--set", "n=2", "--set", "best_of=1", "--out", str(out))
    (labels,) = [example.labels for example in read_records(out)]
    assert "scripted" not in labels.source["policy"]
    with pytest.raises(InputError, match="--prover completes prefixes; method 'oracle' completes none"):
        CliRunner().invoke(app, [*BASE, "--method", "oracle", "--prover", "tiny", "--out", str(out)], catch_exceptions=False)


def test_workers_write_the_same_labels_and_a_folder_gets_shards(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    here = run("--rollouts", "2", "--out", str(tmp_path / "here.jsonl"))
    there = run("--rollouts", "2", "--engine", "ray", "--workers", "2", "--shard-size", "4", "--out", str(tmp_path / "there"))
    assert [example.labels for example in read_records(tmp_path / "here.jsonl")] == [
        example.labels for shard in shards_in(tmp_path / "there") for example in read_records(shard)
    ]
    assert (there["n_shards"], there["n_worker_deaths"], there["usage"]) == (2, 0, here["usage"])
    again = run("--data", str(tmp_path / "there"), "--method", "oracle", "--out", str(tmp_path / "truth.jsonl"))
    assert again["n_trajectories"] == 6, "a folder of shards is data"


def test_a_shorter_set_leaves_no_old_shards(tmp_path: Path) -> None:
    run("--method", "oracle", "--out", str(tmp_path / "truth.jsonl"))
    examples = list(read_records(tmp_path / "truth.jsonl"))
    assert len(write_shards(examples, tmp_path / "set", size=2)) == 3
    assert len(write_shards(examples, tmp_path / "set", size=4)) == 2
    assert [example for shard in shards_in(tmp_path / "set") for example in read_records(shard)] == examples
    with pytest.raises(InputError, match="at least 1 example"):
        write_shards(examples, tmp_path / "set", size=0)
    with pytest.raises(InputError, match="is a file"):
        write_shards(examples, tmp_path / "truth.jsonl")
