"""The journal among processes: killed at any moment, and two at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.engine.writer import LIMIT

from stepward.engine.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
N = 120
IN_FLIGHT = 2 * LIMIT  # draws


def start(journal: Path, paid: Path, n: int = N) -> subprocess.Popen[str]:
    paths = [str(ROOT / "src"), str(ROOT)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.writer", str(journal), str(n), str(paid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def kill_after(process: subprocess.Popen[str], n_lines: int) -> None:
    """kill -9 as soon as the process has said n_lines lines (or has ended)."""
    assert process.stderr is not None
    for _ in range(n_lines):
        if not process.stderr.readline():
            break
    process.kill()
    process.communicate(timeout=60)


def payments(paid: Path) -> Counter[str]:
    return Counter(paid.read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed")
    result = finish(start(folder / "j.sqlite", folder / "paid"))
    assert set(payments(folder / "paid").values()) == {1}
    return result


def test_killed_at_random_moments_a_rerun_goes_on_and_ends_in_the_same_result(undisturbed: str, tmp_path: Path) -> None:
    draw = random.Random(20)
    moments = [0, 1, 2] + [draw.randrange(3, N) for _ in range(7)]
    for moment in moments:
        kill_after(start(tmp_path / "j.sqlite", tmp_path / "paid"), moment)
    assert finish(start(tmp_path / "j.sqlite", tmp_path / "paid")) == undisturbed
    paid = payments(tmp_path / "paid")
    assert len(paid) == 2 * N
    assert sum(paid.values()) - 2 * N <= len(moments) * IN_FLIGHT
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.verify().n_good == 2 * N
        assert journal.stats().n_quarantined == 0


def test_what_was_in_use_before_the_kill_is_never_paid_again(tmp_path: Path) -> None:
    process = start(tmp_path / "j.sqlite", tmp_path / "paid")
    assert process.stderr is not None
    used = {int(line.split()[1]) for line in (process.stderr.readline() for _ in range(40)) if line.startswith("used")}
    process.kill()
    process.communicate(timeout=60)
    before = payments(tmp_path / "paid")
    finish(start(tmp_path / "j.sqlite", tmp_path / "paid"))
    again = {key for key, times in payments(tmp_path / "paid").items() if times > 1}
    assert len(used) == 39
    assert again <= set(before)
    assert len(again) <= min(IN_FLIGHT, len(before) - 2 * len(used))


def test_two_processes_on_one_journal_end_in_the_same_result(undisturbed: str, tmp_path: Path) -> None:
    first, second = (start(tmp_path / "j.sqlite", tmp_path / f"paid{number}") for number in (1, 2))
    results = [finish(first).splitlines(), finish(second).splitlines()]
    assert results[0][:-1] == results[1][:-1] == undisturbed.splitlines()[:-1]
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.verify().ok
        assert journal.stats().n_records == {"sample": 2 * N}


def test_a_process_goes_on_beside_one_that_is_killed(undisturbed: str, tmp_path: Path) -> None:
    first, second = (start(tmp_path / "j.sqlite", tmp_path / f"paid{number}") for number in (1, 2))
    kill_after(first, 30)
    assert finish(second).splitlines()[:-1] == undisturbed.splitlines()[:-1]
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.verify().n_good == 2 * N
