"""Ctrl-C and budgets of seconds: what is still being computed when a command ends does not abort it, and an interrupted one goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from stepward.cli.interrupt import exit_code
from stepward.cli.main import app
from stepward.core import SearchResult
from stepward.data import read_records

_TINY = ["--policy", "tiny", "--limit", "12", "--json"]

# The command, which interrupts itself while the policy writes: at its first token, or at the first one after the journal has kept something.
_INTERRUPTED = """
import os, signal, sys
from stepward.engine.journal_file import JournalFile
from stepward.policies.sampler.pool import Pool
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background has it ignored
advance, write, left = Pool.advance, JournalFile.write, [1]
kept = sys.argv.pop(1) == "any moment"
def written(self, rows):
    global kept
    stored = write(self, rows)
    kept = True
    return stored
def interrupting(self):
    advance(self)
    if kept and left and not self.idle:
        left.pop()
        os.kill(os.getpid(), signal.SIGINT)
JournalFile.write, Pool.advance = written, interrupting
from stepward.cli.main import main
main()
"""


def run(*arguments: str) -> Any:
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def interrupted(moment: str, *arguments: str) -> str:
    """The one line that the command says."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED, moment, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    [line] = done.stderr.splitlines()
    return line


def chosen(file: Path) -> list[tuple[str, str]]:
    """Problem and solution of every result."""
    results = [result for result in read_records(file) if isinstance(result, SearchResult)]
    return [(result.chosen.problem.id, result.chosen.text) for result in results if result.chosen is not None]


def test_what_a_budget_of_seconds_abandons_does_not_abort_the_command() -> None:
    arguments = ["search", *_TINY, "--strategy", "majority", "--n", "64", "--budget", "seconds=0.01"]
    done = subprocess.run([sys.executable, "-m", "stepward.cli", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["n_stopped"] == 12


def test_an_interrupted_search_says_what_was_kept_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = ["search", *_TINY, "--strategy", "majority", "--n", "4", "--concurrency", "4", "--out"]
    line = interrupted("after a record", *arguments, str(tmp_path / "results.jsonl"))
    assert line == f"stepward: interrupted; what was paid for is kept in {tmp_path / 'results.jsonl.journal'}, and the same command goes on from there"
    resumed, alone = run(*arguments, str(tmp_path / "results.jsonl")), run(*arguments, str(tmp_path / "whole.jsonl"))
    assert chosen(tmp_path / "results.jsonl") == chosen(tmp_path / "whole.jsonl")
    assert 0 < resumed["paid"]["policy_tokens"] < resumed["usage"]["policy_tokens"] == alone["paid"]["policy_tokens"]


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    arguments = ["compare", *_TINY, "--strategies", "majority:n=2,4", "--concurrency", "4", "--out", str(tmp_path)]
    assert f"kept in {tmp_path / 'journal'}, and the same command" in interrupted("after a record", *arguments)
    resumed = run(*arguments)
    assert 0 < resumed["paid"]["policy_tokens"] < resumed["usage"]["policy_tokens"]


def test_without_a_journal_that_lasts_an_interrupt_promises_nothing() -> None:
    line = interrupted("any moment", "compare", "--strategies", "majority:n=4", *_TINY)
    assert line == "stepward: interrupted; nothing was kept (with --out or --journal, everything that was paid for is)"


def test_an_interrupt_inside_executed_text_ends_with_the_same_code(tmp_path: Path) -> None:
    lines = ["import sys", f"from {exit_code.__module__} import exit_code", "try:", "    exec('raise KeyboardInterrupt')", "except KeyboardInterrupt:"]
    for name, code, found in (("plain", "130", -signal.SIGINT), ("ours", "exit_code()", 130)):
        (tmp_path / f"{name}.py").write_text("\n".join([*lines, f"    sys.exit({code})"]))
        assert subprocess.run([sys.executable, "-m", name], cwd=tmp_path, check=False).returncode == found
