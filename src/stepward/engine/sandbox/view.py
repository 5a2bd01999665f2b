"""View: what of the machine's file system a program in the sandbox can read, and which Python runs there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/alternatives")


def interpreters() -> list[str]:
    """Pythons that could run in the sandbox, best first: the one that runs here, outside of any virtual environment, then the system's."""
    own = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    system = [f"/usr/bin/python3.{minor}" for minor in range(sys.version_info.minor, 7, -1)] + ["/usr/bin/python3"]
    found = [own, *(os.path.realpath(path) for path in system)]
    return [path for path in dict.fromkeys(found) if os.access(path, os.X_OK)]


def visible_paths(interpreter: str, extra: Sequence[str] = ()) -> list[str]:
    """Programs and libraries of the system, the interpreter's own folder, and what the caller adds; none twice."""
    prefix = os.path.dirname(os.path.dirname(interpreter))
    if prefix in ("/", os.path.expanduser("~")):  # ~/bin/python3 is no reason to show a home
        prefix = interpreter
    wanted = [*_SYSTEM, prefix, *extra]
    return [path for path in dict.fromkeys(wanted) if os.path.lexists(path) and not _within(path, [*_SYSTEM[:1], *extra])]


def _within(path: str, folders: Sequence[str]) -> bool:
    return any(path != folder and path.startswith(folder.rstrip("/") + "/") for folder in folders)
