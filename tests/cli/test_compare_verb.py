"""stepward compare: lists of strategies, one table and one page, and a rerun that pays for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.test_report import check
from typer.testing import CliRunner

from stepward.cli.compare_output import file_name
from stepward.cli.main import app
from stepward.cli.strategy_list import strategies_from
from stepward.core import InputError
from stepward.data import read_records, write_records
from stepward.search.spec import Spec

WORLD = ["--policy", "scripted:grade-school", "--environment", "grade-school"]
BASE = ["compare", *WORLD, "--model", "oracle:grade-school", "--limit", "20", "--json"]


def run(*arguments: str) -> Any:
    ran = CliRunner().invoke(app, [*BASE, *arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_lists_of_strategies_and_grids_over_their_settings() -> None:
    assert list(map(str, strategies_from(["majority:n=1,4,16,beam:n=16:width=2,4", "weighted"]))) == [
        "majority:n=1", "majority:n=4", "majority:n=16", "beam:n=16:width=2", "beam:n=16:width=4", "weighted",
    ]  # fmt: skip
    assert strategies_from(["beam:aggregation=last,min:answer-by=vote"]) == [Spec("beam", {"aggregation": how, "answer_by": "vote"}) for how in ("last", "min")]
    assert strategies_from(["staged-beam:stages=(scored:aggregation=last+graded)"])[0].settings == {"stages": "(scored:aggregation=last+graded)"}
    for text in ("majority:n=4,majority:n=4", "majority,majority"):
        with pytest.raises(InputError, match="there twice"):
            strategies_from([text])
    with pytest.raises(InputError, match=r"sets 'n' twice; if 'beem' is to be a strategy of its own, there is none: choose one of majority"):
        strategies_from(["majority:n=1,beem:n=4"])


def test_names_of_files_are_plain_and_stay_different() -> None:
    names = ["majority:n=4", "beam:n=4:width=2", "staged-beam:stages=(graded)", "staged-beam:stages=[graded]", "x" * 300, "x" * 301, "../../etc"]
    files = [file_name(name) for name in names]
    assert files[:2] == ["majority_n=4", "beam_n=4_width=2"]
    assert len(set(files)) == len(names)
    assert all(len(file) < 120 and "/" not in file for file in files)


def test_one_run_gives_numbers_plot_page_and_every_result(tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    found = run("--strategies", "majority:n=1,4,beam:n=4:width=2", "--out", str(out))
    assert [row["name"] for row in found["strategies"]] == ["majority:n=1", "majority:n=4", "beam:n=4:width=2"]
    assert (found["n_problems"], len(found["pairs"]), found["correction"]) == (20, 3, "Holm, 3 pairs")
    for row in found["strategies"]:
        results = list(read_records(out / "results" / f"{file_name(row['name'])}.jsonl"))
        right = [result.chosen.outcome.value for result in results]
        assert row["accuracy"]["value"] == pytest.approx(sum(right) / 20)
        assert row["cost"]["policy_tokens"]["value"] == pytest.approx(sum(result.usage.policy_tokens for result in results) / 20)
    assert json.loads((out / "comparison.json").read_text())["strategies"] == found["strategies"]
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    page = check((out / "report.html").read_text())
    for words in ("majority:n=4", "Paired differences", "Accuracy against compute", "beam:n=4:width=2", "dropped: not among the 2 best"):
        assert words in page.text, words
    assert found["paid"]["policy_tokens"] < found["usage"]["policy_tokens"], "the first solution of four is paid for once"


def test_a_rerun_pays_for_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    arguments = ["--strategies", "majority:n=2,best-of-n:n=2", "--out", str(out)]
    run(*arguments)
    before = {file.name: file.read_bytes() for file in out.rglob("*") if file.is_file() and "journal" not in file.name}
    assert run(*arguments)["paid"]["policy_tokens"] == 0
    assert {file.name: file.read_bytes() for file in out.rglob("*") if file.is_file() and "journal" not in file.name} == before


_KILLED = """
import os, signal
from stepward.data import streamed
add, left = streamed.RecordStream.add, [8]
def dying(self, position, record):
    add(self, position, record)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
streamed.RecordStream.add = dying
from stepward.cli.main import main
main()
"""


def test_a_comparison_that_was_killed_in_its_second_strategy_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / "killed", tmp_path / "whole"]
    arguments = ["--strategies", "majority:n=1,beam:n=4:width=2", "--limit", "5", "--concurrency", "2", "--out"]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *BASE, *arguments, str(folders[0])], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert [len(list(read_records(folders[0] / "results" / name))) for name in ("majority_n=1.jsonl", "beam_n=4_width=2.jsonl")] == [5, 3]
    resumed, alone = run(*arguments, str(folders[0])), run(*arguments, str(folders[1]))
    assert resumed["paid"]["policy_tokens"] < alone["paid"]["policy_tokens"]
    written = [{file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file() and "journal" not in file.name} for folder in folders]
    assert written[0] == written[1]


def test_results_of_other_runs_can_be_compared_whatever_their_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for file, n in zip(files, "14", strict=True):
        searched = ["search", *WORLD, "--strategy", "majority", "--n", n, "--limit", "12", "--out", str(file), "--json"]
        assert CliRunner().invoke(app, searched, catch_exceptions=False).exit_code == 0
    straight = run("--results", f"one={files[0]}", "--results", f"four={files[1]}", "--baseline", "one")
    lines = files[1].read_bytes().splitlines(keepends=True)
    files[1].write_bytes(b"".join(lines[::-1]))
    assert run("--results", f"one={files[0]}", "--results", f"four={files[1]}", "--baseline", "one") == straight
    assert [(pair["first"], pair["second"]) for pair in straight["pairs"]] == [("four", "one")]
    files[1].write_bytes(b"".join(lines[1:]))
    with pytest.raises(InputError, match=r"not of the same problems .*11 and 12 results of 11 and 12 problems, 11 of them in both"):
        run("--results", f"one={files[0]}", "--results", f"four={files[1]}")


def test_what_no_grader_knows_is_compared_all_the_same(tmp_path: Path) -> None:
    """Budgets that leave no answer: exit code 0, a table, a page and a plot without points, and the reason."""
    out = tmp_path / "out"
    arguments = ["compare", *WORLD, "--strategies", "majority:n=1,2", "--limit", "4", "--budget", "policy_tokens=5", "--out", str(out)]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    told = "No outcome is known for any strategy: the budget of 5 policy_tokens is spent (8 times)."
    assert ran.exit_code == 0
    assert told in ran.stdout
    assert told in check((out / "report.html").read_text()).text
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "comparison.json").read_text())["nothing_known"] == told


def test_what_was_cut_off_is_wrong_for_every_strategy() -> None:
    strategies = ["--strategies", "majority:n=2,beam:n=4:width=2", "--limit", "8", "--budget", "policy_tokens=40", "--unanswered", "wrong"]
    assert [row["n_unknown"] for row in run(*strategies)["strategies"]] == [0, 0]


def test_results_without_an_outcome_are_graded_first(tmp_path: Path) -> None:
    file, bare = tmp_path / "a.jsonl", tmp_path / "bare.jsonl"
    searched = ["search", *WORLD, "--strategy", "majority", "--n", "2", "--limit", "6", "--out", str(file), "--json"]
    assert CliRunner().invoke(app, searched, catch_exceptions=False).exit_code == 0
    stripped = [replace(result, chosen=replace(result.chosen, outcome=None)) for result in read_records(file) if result.chosen is not None]  # type: ignore[type-var]
    assert write_records(stripped, bare) == 6
    found = run("--results", f"graded={file}", "--results", f"bare={bare}", "--out", str(tmp_path / "out"))["strategies"]
    assert found[0]["accuracy"] == found[1]["accuracy"]
    assert found[1]["n_unknown"] == 0
    assert "ungraded" not in check((tmp_path / "out" / "report.html").read_text()).text


def test_the_table_of_pairs_says_how_many_problems_are_behind_a_difference() -> None:
    arguments = ["compare", *WORLD, "--strategies", "majority:n=1,2", "--limit", "1", "--budget", "policy_tokens=400"]
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "(1 problem: no interval)" in text
    assert " n " in text.partition("paired differences")[2].splitlines()[2]


def test_people_get_tables() -> None:
    arguments = ["compare", *WORLD, "--strategies", "majority:n=1,2", "--limit", "6", "--budget", "calls=1"]
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    for words in ("majority:n=2", "McNemar", "Holm", "failures", "the budget of 1 calls is spent", "cost of all"):
        assert words in text, words


def test_what_cannot_be_compared_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    for arguments, message in (
        ([], "nothing to compare"),
        (["--strategies", "beem"], "unknown strategy 'beem'"),
        (["--strategies", "majority:width=3"], "has no parameter 'width'"),
        (["--strategies", "beam:n=4,baem"], "n must be a whole number, got 'baem'"),
        (["--strategies", "beam:width=2,beem"], "width must be a whole number, got 'beem'"),
        (["--strategies", "beam:n=4:width=3"], "n must be a multiple of 3"),
        (["--strategies", "majority:n=4"], "asks no reward model, so leave it out"),
        (["--strategies", "beam", "--x", "money"], "--x must be one of"),
        (["--strategies", "beam", "--unanswered", "right"], "--unanswered must be skip or wrong"),
        (["--strategies", "beam", "--with", "helper=tiny"], "takes no helper"),
        (["--results", "a"], "--results must be NAME=FILE"),
        (["--strategies", "beam", "--baseline", "majority"], "the baseline 'majority' is not among"),
        (["--strategies", "beam:n=4", "--limit", "2", "--x", "flops"], "--policy-parameters"),
    ):
        with pytest.raises(InputError) as refused:
            CliRunner().invoke(app, [*BASE, *arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
        assert message in str(refused.value)
        assert not (tmp_path / "out").exists() or "flops" in arguments, "whether a policy counts FLOPs is known when it has written"
