"""stepward search: strategies by name, budgets, results that outlive a kill, a tree in the terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from stepward.cli.budget_option import budget_from
from stepward.cli.main import app
from stepward.cli.tree_view import LiveTree, drawn, live, show_tree
from stepward.core import InputError, Problem, Sampling, SearchResult, Trajectory, Tree, Until, Usage, charge, metered
from stepward.data import read_records
from stepward.search.budget import Budget

BASE = ["search", "--policy", "scripted:grade-school", "--environment", "grade-school", "--json"]
BEAM = ["--strategy", "beam", "--model", "oracle:grade-school", "--set", "width=2", "--set", "expansions=2"]


def run(*arguments: str) -> Any:
    ran = CliRunner().invoke(app, [*BASE, *arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def shown(tree: Any, *, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(tree)
    return stream.getvalue()


def test_help_beside_a_strategy_is_that_strategys_page() -> None:
    for arguments in (["search", "--strategy", "beam", "--help"], ["search", "--help", "--strategy=beam"]):
        page = CliRunner().invoke(app, arguments).stdout
        for words in ("stepward search --strategy beam", "expansions", "Cost for T steps", "2024", "--model SPEC", "n=N is short for width x expansions"):
            assert words in page, words
        assert "--concurrency" not in page
    page = CliRunner().invoke(app, ["search", "--help"]).stdout
    assert "--concurrency" in page
    assert CliRunner().invoke(app, ["search", "--strategy", "nothing", "--help"]).exit_code != 0


def test_a_strategy_runs_with_its_settings_and_graded_choices_are_written(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    summary = run(*BEAM, "--limit", "6", "--out", str(out))
    results = list(read_records(out))
    assert (summary["n_problems"], summary["settings"], summary["strategy"]) == (6, {"width": "2", "expansions": "2"}, "beam")
    assert all(isinstance(result, SearchResult) and result.chosen is not None and result.chosen.outcome is not None for result in results)
    right = [result.chosen.outcome.value for result in results]
    assert summary["accuracy"] == pytest.approx(sum(right) / len(right))
    assert summary["usage"]["policy_tokens"] == sum(result.usage.policy_tokens for result in results)


def test_short_options_say_the_same_as_settings(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("set.jsonl", "short.jsonl")]
    run(*BEAM, "--set", "aggregation=last", "--limit", "4", "--out", str(files[0]))
    run(*BEAM[:4], "--n", "4", "--width", "2", "--aggregation", "last", "--limit", "4", "--out", str(files[1]))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_parts_go_to_the_strategies_that_take_them(tmp_path: Path) -> None:
    """A helper that never errs, asked at every step, is the one who answers."""
    arguments = ["--strategy", "helper", "--model", "oracle:grade-school", "--set", "rule=(random:rate=1.0)", "--limit", "5"]
    out = tmp_path / "results.jsonl"
    run(*arguments, "--with", "helper=scripted:grade-school", "--out", str(out))
    assert all(node.kind == "intervene" for result in read_records(out) for node in result.tree.nodes[1:])
    with pytest.raises(InputError, match=r"strategy 'helper' needs a policy as its helper \(--with helper=SPEC\)"):
        run(*arguments)


def test_a_policy_that_is_asked_for_probabilities_is_given_without_its_journal(tmp_path: Path) -> None:
    """The journal keeps samples only; what tells no probabilities is refused by name."""
    arguments = ["--strategy", "self-guided-mcts", "--set", "evaluator=progress-ratio", "--limit", "1", "--out", str(tmp_path / "r.jsonl")]
    with pytest.raises(InputError, match=r"tuned must tell log-probabilities of given text; .*ScriptedSolver"):
        run(*arguments, "--with", "tuned=scripted:grade-school", "--with", "reference=scripted:grade-school")


def test_what_is_of_no_use_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    for arguments, message in (
        (["--strategy", "majority", "--width", "2"], "--width sets the parameter 'width', which strategy 'majority' does not have; it has: n"),
        (["--strategy", "majority", "--set", "width=2"], "strategy 'majority' has no parameter 'width'; it has: n"),
        (["--strategy", "majority", "--set", "n"], "--set must be NAME=VALUE"),
        (["--strategy", "majority", "--set", "n=4", "--n", "5"], "--n and --set n=4 say the same thing twice"),
        (["--strategy", "majority", "--model", "oracle:grade-school"], "asks no reward model, so leave it out"),
        (["--strategy", "majority", "--with", "helper=tiny"], "strategy 'majority' takes no helper"),
        (["--strategy", "majority", "--prover", "tiny"], "--with prover=...: strategy 'majority' takes no prover"),
        (["--strategy", "majority", "--with", "helper"], "--with must be PART=VALUE"),
        (["--strategy", "majority", "--with-name", "helper=x"], "names the model of --with helper=SPEC, which was not given"),
        (["--strategy", "best-of-n"], "needs a reward model (--model)"),
        (["--strategy", "majority", "--budget", "tokens=5"], "--budget must be WHAT=LIMIT with WHAT one of policy_tokens"),
        (["--strategy", "majority", "--answer", "7"], "--answer is of PROBLEM"),
        (["What is 3 + 4?", "--strategy", "majority", "--limit", "5"], "PROBLEM is one problem"),
    ):
        journal = tmp_path / "results.jsonl.journal"
        with pytest.raises(InputError) as refused:
            CliRunner().invoke(app, [*BASE, *arguments, "--out", str(tmp_path / "results.jsonl")], catch_exceptions=False)
        assert message in str(refused.value), message
        assert not (tmp_path / "results.jsonl").exists()
        assert not journal.exists()


def test_budgets_are_read_as_people_write_them() -> None:
    assert budget_from(["policy-tokens=2k", "flops=1.5e12", "seconds=0.5"]) == Budget(policy_tokens=2000, flops=1_500_000_000_000, seconds=0.5)
    assert budget_from(["calls=1,000"]) == Budget(calls=1000)
    assert budget_from(None) == Budget()
    for pairs in (["calls"], ["calls=x"], ["calls=-3"], ["calls=0"], ["calls=1.5"], ["calls=3", "calls=4"], ["money=3"], ["seconds=inf"]):
        with pytest.raises(InputError):
            budget_from(pairs)


def test_a_budget_stops_each_search_and_the_summary_says_how_many(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    summary = run("--strategy", "majority", "--n", "8", "--limit", "5", "--budget", "calls=3", "--out", str(out))
    assert (summary["n_stopped"], summary["budget"]) == (5, {"calls": 3})
    assert [result.source["calls"] for result in read_records(out)] == [3] * 5
    assert all("budget" in result.source["stopped"] for result in read_records(out))


_KILLED = """
import os, signal, sys
from stepward.data import streamed
add, left = streamed.RecordStream.add, [3]
def dying(self, position, record):
    add(self, position, record)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
streamed.RecordStream.add = dying
from stepward.cli.main import main
main()
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_killed_run_keeps_what_it_wrote_and_a_rerun_ends_in_the_same_file(tmp_path: Path, suffix: str) -> None:
    out, whole = tmp_path / f"results{suffix}", tmp_path / f"whole{suffix}"
    arguments = [*BEAM, "--limit", "8", "--concurrency", "2", "--out"]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *BASE, *arguments, str(out)], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    growing = out if suffix == ".jsonl" else out.with_name(out.name + ".part.jsonl")
    assert len(list(read_records(growing))) == 3
    resumed, alone = run(*arguments, str(out)), run(*arguments, str(whole))
    assert out.read_bytes() == whole.read_bytes()
    assert len(list(read_records(out))) == 8
    assert 0 < resumed["paid"]["policy_tokens"] < resumed["usage"]["policy_tokens"] == alone["paid"]["policy_tokens"]
    assert not list(tmp_path.glob("*.part.jsonl"))
    assert run(*arguments, str(out))["paid"]["policy_tokens"] == 0


class Clerk:
    """A policy that can add 3 and 4, and says so in two steps."""

    fingerprint = "clerk"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until, sampling: Sampling, draw: int = 0) -> list[Trajectory]:
        charge(Usage(policy_tokens=8 * n, calls=1))
        return [prefix.extend(f"3 + 4 = {7 + (draw + place == 0)}. ").extend(f"The answer is {7 + (draw + place == 0)}.", finished=True) for place in range(n)]


def test_a_problem_from_the_terminal_is_answered_with_its_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepward.cli.session.load_policy", lambda *_, **__: Clerk())
    arguments = ["search", "What is 3 + 4?", "--answer", "7", "--environment", "maths", "--strategy", "majority", "--n", "3"]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    for words in ("What is 3 + 4?", "end: 3 + 4 = 8. ⏎ The answer is 8.", "chosen: 3 + 4 = 7. ⏎ The answer is 7.", "correct", "yes", "policy tokens written"):
        assert words in ran.stdout, f"{words} in\n{ran.stdout}"
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (told["answer"], told["correct"], told["n_problems"], told["usage"]["policy_tokens"]) == ("7", True, 1, 24)


def test_a_summary_for_people_says_what_the_accuracy_is_of() -> None:
    arguments = [*BASE[:-1], "--strategy", "majority", "--n", "1", "--limit", "8", "--budget", "policy_tokens=40"]
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    n_graded = run(*arguments[1:])["n_graded"]
    assert 0 < n_graded < 8
    for words in (f"accuracy ({n_graded} graded of 8 problems)", "95 % low", "95 % high"):
        assert words in text, f"{words} in\n{text}"


def test_a_file_in_the_place_of_a_problem_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text('{"question": "What is 3 + 4?"}\n')
    with pytest.raises(InputError, match=rf"is a file; .*--data {file}"):
        run(str(file), "--strategy", "majority")
    assert run("What is 3 + 4? " * 400, "--strategy", "majority")["n_problems"] == 1, "a long text is the name of no file"


@pytest.mark.parametrize(("problem", "said"), [("missing.jsonl", "there is no file missing.jsonl"), (" ", "PROBLEM is empty")])
def test_a_problem_that_is_none_is_refused(problem: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(app, ["search", problem, "--policy", "scripted:grade-school", "--strategy", "majority"], catch_exceptions=False)


def test_without_a_verdict_it_says_why_and_what_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepward.cli.session.load_policy", lambda *_, **__: Clerk())
    arguments = ["search", "What is 3 + 4?", "--strategy", "majority", "--n", "3", "--json"]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--answer", "7"], catch_exceptions=False).stdout)
    assert told["correct"] is None
    assert "--environment grade-school:easy cannot judge this problem" in told["no_verdict"]
    assert "--environment maths" in told["no_verdict"]
    text = CliRunner().invoke(app, [*arguments[:-1], "--answer", "7"], catch_exceptions=False).stdout
    assert "no verdict" in text
    told = json.loads(CliRunner().invoke(app, [*arguments, "--environment", "maths"], catch_exceptions=False).stdout)
    assert "--answer" in told["no_verdict"]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--environment", "maths", "--answer", "7"], catch_exceptions=False).stdout)
    assert told["no_verdict"] is None


def test_a_vote_that_the_environment_cannot_read_names_the_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vague(Clerk):
        async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until, sampling: Sampling, draw: int = 0) -> list[Trajectory]:
            return [prefix.extend("I believe the answer to be seven", finished=True) for _ in range(n)]

    monkeypatch.setattr("stepward.cli.session.load_policy", lambda *_, **__: Vague())
    with pytest.raises(InputError, match=r"--environment grade-school:easy cannot judge this problem .*--environment maths"):
        CliRunner().invoke(app, ["search", "What is 3 + 4?", "--strategy", "majority", "--n", "2", "--json"], catch_exceptions=False)


def test_a_problem_that_the_policy_cannot_read_says_why() -> None:
    told = run("What is 3 + 4?", "--strategy", "majority")
    assert (told["answer"], told["correct"], told["n_problems"]) == (None, None, 1)
    assert "GradeSchool.problem" in told["reason"]
    assert "--environment maths" in told["no_verdict"]


# The tree in the terminal


def grown(n: int = 3, text: str = "{}") -> SearchResult:
    tree = Tree(Problem(f"What is {text}?"))
    for number in range(n):
        node = tree.add(tree.root, Trajectory(tree.problem).extend(f"first {text.format(number)}. "))
        node.value = number / 10
        if number:
            node.drop(f"not the best {text}")
    last = tree.add(tree.nodes[1], tree.nodes[1].trajectory.extend("the end", finished=True))
    last.backup(0.5)
    return SearchResult(last.trajectory, tree, Usage(), None, {"chosen_node": last.index})


def test_the_tree_shows_scores_visits_the_choice_and_why_branches_were_dropped() -> None:
    found = grown()
    text = shown(drawn(found.tree, chosen=4))
    for words in ("What is", "0 ×1 q=0.5 first 0.", "0.1 (not the best {}) first 1.", "×1 q=0.5 chosen: the end"):
        assert words in text, f"{words} in\n{text}"


def test_a_large_tree_keeps_the_chosen_path_and_counts_the_rest() -> None:
    found = grown(500)
    text = shown(drawn(found.tree, chosen=501, limit=20))
    assert "chosen: the end" in text
    assert len(text.splitlines()) <= 23
    assert "… 481 more, the best 49.9" in text


def test_a_growing_tree_shows_its_newest_nodes() -> None:
    found = grown(500)
    text = shown(drawn(found.tree, limit=20))
    assert "the end" in text
    assert "first 499." in text
    assert "first 3." not in text


def test_text_cannot_speak_to_the_terminal() -> None:
    text = shown(drawn(grown(2, "\x1b[31m\x07[bold]\n{}\u202e\x9b2J").tree))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text, "markup is shown, not obeyed"


def test_the_live_view_tells_what_is_spent_of_the_budget_and_leaves_nothing_behind() -> None:
    view = LiveTree(Budget(policy_tokens=40))
    assert "waiting" in shown(view)
    view.show(grown().tree)
    with metered() as view.ledger:
        charge(Usage(policy_tokens=12, calls=3))
    assert "spent: 12 of 40 policy tokens, 3 calls" in shown(view)
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=100, height=30)
    with live(view, terminal):
        pass
    assert "the end" in stream.getvalue()
    file = io.StringIO()
    with live(view, Console(file=file)):
        pass
    assert file.getvalue() == "", "nothing is drawn where there is no terminal"


def test_a_result_without_an_answer_is_shown_too() -> None:
    stream = io.StringIO()
    show_tree(SearchResult(None, Tree(Problem("Why?")), reason="the policy is gone"), Console(file=stream, width=100))
    assert "Why?" in stream.getvalue()
