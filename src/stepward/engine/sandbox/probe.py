"""Probe: which mechanisms of the sandbox really work on this machine. A mechanism works when a program in it ran and could not get out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stepward.core.errors import StepwardError
from stepward.engine.sandbox.errors import NoSandbox
from stepward.engine.sandbox.limits import Limits
from stepward.engine.sandbox.sandbox import MECHANISMS, Sandbox
from stepward.engine.sandbox.view import interpreters

_REMEDY = (
    "untrusted code is not run. Remedies: allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in Docker a seccomp profile that allows unshare and mount), or use Linux 6.2 or newer with Landlock "
    "switched on (lsm=landlock,...), on x86-64 or 64-bit Arm"
)
_PROGRAM = r"""
import ctypes, json, os, socket, sys
secret, outside, parent = sys.argv[1], sys.argv[2], int(sys.argv[3])
escapes = []
def attempt(name, action):
    try:
        action()
    except (OSError, ValueError):
        return
    escapes.append(name)
attempt("reads a file outside", lambda: open(secret).read())
attempt("writes a file outside", lambda: open(outside, "w").write("x"))
attempt("opens a socket", lambda: socket.socket())
attempt("signals its caller", lambda: os.kill(parent, 0))
attempt("reads /proc of its caller", lambda: open(f"/proc/{parent}/environ").read())
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) == 0:
    escapes.append("makes a user namespace")
if libc.ptrace(16, parent, 0, 0) == 0:
    escapes.append("traces its caller")
if "STEPWARD_PROBE" in os.environ:
    escapes.append("reads the caller's environment")
open("here", "w").write("x")
try:
    child = os.fork()
except OSError:
    child = -1
if child == 0:
    os._exit(0)
print(json.dumps({"escapes": escapes, "processes": child > 0}))
"""
_PROBE_LIMITS = Limits(wall_s=30.0, cpu_s=10.0)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a mechanism does here. `reason`: why it does not work, or what it leaves open; `python`: the interpreter that runs in it."""

    mechanism: str
    works: bool
    reason: str
    python: str | None = None
    processes: bool = False


@cache
def probe(mechanism: str) -> Finding:
    """Try a mechanism with every interpreter of this machine, once in this process."""
    if not sys.platform.startswith("linux"):
        return Finding(mechanism=mechanism, works=False, reason=f"needs Linux, this is {sys.platform}")
    finding = Finding(mechanism=mechanism, works=False, reason="no Python that a program in the sandbox could run was found")
    for python in interpreters():
        finding = _try(mechanism, python)
        if finding.works and finding.processes:
            break
        if finding.works:
            others = [other for path in interpreters() if path != python and (other := _try(mechanism, path)).works and other.processes]
            return others[0] if others else finding
    return finding


def _try(mechanism: str, python: str) -> Finding:
    with tempfile.TemporaryDirectory(prefix="stepward-probe-") as folder, Sandbox(mechanism, python=python, concurrency=1) as sandbox:
        os.chmod(folder, 0o777)  # so that nothing but the sandbox stands in the way
        secret = Path(folder) / "secret"
        secret.write_text("secret", encoding="utf-8")
        secret.chmod(0o666)
        argv = [python, "-I", "-S", "-B", "-c", _PROGRAM, str(secret), str(Path(folder) / "outside"), str(os.getpid())]
        try:
            run = sandbox.run_sync(argv, limits=_PROBE_LIMITS)
            found = json.loads(run.out) if run.ok else None
        except (StepwardError, OSError, ValueError) as error:
            return Finding(mechanism=mechanism, works=False, reason=str(error))
        if found is None:
            said = run.err.decode("utf-8", "replace").strip().splitlines()
            return Finding(mechanism=mechanism, works=False, reason=f"{python} did not run in it: {run.ending}{': ' + said[-1] if said else ''}")
        if found["escapes"]:
            return Finding(mechanism=mechanism, works=False, reason=f"a program in it {', '.join(found['escapes'])}")
    opens = "" if mechanism == "namespaces" else "names and sizes of files outside can be seen"
    if not found["processes"]:
        opens += "; programs may not start processes" if opens else "programs may not start processes"
    return Finding(mechanism=mechanism, works=True, reason=opens, python=python, processes=found["processes"])


def best_sandbox(*, concurrency: int | None = None) -> Sandbox:
    """A sandbox with the strongest mechanism that works here.

    Raises: NoSandbox with the remedy when none does.
    """
    findings = []
    for mechanism in MECHANISMS:
        finding = probe(mechanism)
        if finding.works:
            return Sandbox(mechanism, python=finding.python, concurrency=concurrency, processes=finding.processes)
        findings.append(f"{mechanism}: {finding.reason}")
    raise NoSandbox(f"no sandbox works on this machine ({'; '.join(findings)}); {_REMEDY}")
