"""The sandbox: no escape gets out and nothing stays behind, with every mechanism, as the user who runs the tests and, where that is
root, as an ordinary user and as root without capabilities. A mechanism that does not work refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stepward.engine.sandbox.inside.system import drop_capabilities
from stepward.engine.sandbox.view import interpreters
from stepward.testing.escapes import ENDED_BY, ESCAPES

_DRIVER = Path(__file__).parent / "sandbox_driver.py"
_SOURCE = Path(__file__).resolve().parents[2] / "src"
_SLOW = ["fork bomb", "endless loop", "endless loop that hears no signal", "deep recursion", "deep folders"]  # processor time, paid once with each mechanism
_NOBODY = 65534

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")
COMBINATIONS = [
    ("namespaces", "self"),
    ("landlock", "self"),
    ("landlock-3", "self"),
    ("namespaces", "nobody"),
    ("landlock", "nobody"),
    ("landlock-3", "nobody"),
    ("namespaces", "powerless"),
    ("landlock", "powerless"),
]


@cache
def outcome(mechanism: str, who: str) -> dict[str, Any]:
    """What became of every escape."""
    options: dict[str, Any] = {}
    python, left_out = sys.executable, _SLOW if mechanism == "landlock-3" else []
    if who != "self":
        if os.getuid() != 0:
            pytest.skip("the tests already run as an ordinary user")
        python, left_out = reachable_python(), _SLOW
        options = {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"}
        if who == "powerless":  # root without capabilities, as in strict containers
            options = {"preexec_fn": drop_capabilities, "cwd": "/"}
    done = subprocess.run(
        [python, "-I", "-B", str(_DRIVER), str(_SOURCE), mechanism, json.dumps(left_out)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def reachable_python() -> str:
    """A Python that an ordinary user can start and that can read this repository's source."""
    for python in interpreters():
        command = [python, "-I", "-c", "import sys; open(sys.argv[1]).close(); assert sys.version_info >= (3, 11)", str(_SOURCE / "stepward/__init__.py")]
        try:
            if subprocess.run(command, user=_NOBODY, group=_NOBODY, extra_groups=[], cwd="/", capture_output=True).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python 3.11 or newer here that an ordinary user could start and that could read the source")


def passed(mechanism: str, who: str) -> dict[str, Any]:
    found = outcome(mechanism, who)
    if "refused" in found:  # refusing is the right answer where the mechanism does not work; the reason must be said
        assert len(found["refused"]) > 10
        pytest.skip(f"{mechanism} is refused here: {found['refused']}")
    return found


@pytest.mark.parametrize(("mechanism", "who"), COMBINATIONS)
@pytest.mark.parametrize("name", ESCAPES)
def test_no_escape_gets_out(mechanism: str, who: str, name: str) -> None:
    found = passed(mechanism, who)
    if name in _SLOW and (who != "self" or mechanism == "landlock-3"):
        pytest.skip("run with each mechanism by the user of the tests")
    result = found["results"][name]
    assert "failed" not in result, result
    assert "ESCAPED" not in result["out"], result["out"]
    assert result["wall_s"] < 60.0
    if name in ENDED_BY and found["processes"]:
        assert result["ended"] in ENDED_BY[name], result


@pytest.mark.parametrize(("mechanism", "who"), COMBINATIONS)
def test_nothing_is_left_behind(mechanism: str, who: str) -> None:
    left = passed(mechanism, who)["left"]
    assert left == {"processes": [], "children": [], "folders": [], "keeper": [], "work": False, "outside": ["secret"], "secret": "secret"}


@pytest.mark.parametrize(("mechanism", "who"), COMBINATIONS)
def test_links_are_not_followed_when_files_are_collected(mechanism: str, who: str) -> None:
    assert passed(mechanism, who)["results"]["links to collect"]["files"] == {"real.txt": "real"}


def test_programs_under_attack_still_run_to_their_own_end() -> None:
    """Killing its warden or forging success changes nothing about how a program's end is told."""
    for mechanism in ("namespaces", "landlock", "landlock-3"):
        found = outcome(mechanism, "self")
        if "refused" not in found:
            assert found["results"]["killing the warden"]["out"] == "still here\n"
            assert found["results"]["exit that looks like success"]["ending"] == "exit status 0"
            assert found["results"]["signals"]["out"] == "still here\n"
