"""Landlock: a process gives up the file system but for named folders, and with newer kernels TCP and signals to the outside; no namespaces, no privileges.

For machines that forbid user namespaces, as containers do. What Landlock does not rule on (owners, modes, sockets, ...) the system-call filter refuses.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from stepward.engine.sandbox.inside.confinement import Confinement, Request
from stepward.engine.sandbox.inside.system import (
    CAP_SETGID,
    CAP_SETUID,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    call,
    drop_capabilities,
    has_capability,
    prctl,
)

LEAST_VERSION = 3  # before Linux 6.2 a file that may be read could be cut to nothing
_SCOPED_VERSION = 6  # Linux 6.12: signals are kept inside; before, the system-call filter must do that, and programs cannot leave their process group
OLDER = "landlock-3"  # the mechanism as it is with an older kernel, for tests with a newer one
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # version: the rights that it adds
_TRUNCATE = 1 << 14
_NETWORK = 3  # TCP bind and connect
_SCOPES = 3  # abstract sockets and signals
_ROOM = 8
_UNUSED_IDS = 1_901_000_000


def version() -> int:
    """The version of Landlock's interface. Raises: OSError where the kernel has none or has it switched off."""
    return call("landlock_create_ruleset", None, 0, _VERSION_FLAG)


def enter(request: Request) -> Confinement:
    """Confine this process to what is visible and to the folder of the request, as a user that owns nothing where it may become one.

    Raises: OSError saying what was refused.
    """
    found = version()
    if request.mechanism == OLDER:
        found = min(found, LEAST_VERSION)
    if found < LEAST_VERSION:
        raise OSError(f"Landlock has version {found} here, and {LEAST_VERSION} is needed (Linux 6.2)")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    folder = os.open(request.folder, os.O_PATH | os.O_CLOEXEC)
    os.chdir(request.folder)
    changed = _change_user(request)
    # The kernel counts all processes of a user: beside those that are there, leave room for other runs, and let the monitor count this one's.
    others = 1 if changed else _processes_of_user() + _ROOM * request.limits.processes
    drop_capabilities()
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    restrict(request.visible, folder, found)
    os.close(folder)
    scoped = found >= _SCOPED_VERSION and signals_stay_inside()
    countable = changed or os.geteuid() != 0  # the limit on processes does not hold for root
    return Confinement(work=request.folder, own_files=False, processes=countable, own_signals=scoped, extra_processes=others, landlock=found)


def restrict(visible: Sequence[str], folder: int, found: int) -> None:
    """Enter a new domain, below the one that this process is in: it cannot signal processes above (from version 6), while those can signal it."""
    rights = sum(added for since, added in _RIGHTS.items() if found >= since)
    fields = [rights, _NETWORK if found >= 4 else 0, _SCOPES if found >= _SCOPED_VERSION else 0]
    used = 3 if found >= _SCOPED_VERSION else 2 if found >= 4 else 1
    attributes = b"".join(field.to_bytes(8, "little") for field in fields[:used])
    rules = call("landlock_create_ruleset", ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    try:
        for path in visible:
            _allow(rules, path, _EXECUTE | _READ_FILE | _READ_DIR)
        _allow(rules, "/dev/null", _READ_FILE | _WRITE_FILE | _TRUNCATE)
        for device in ("zero", "full", "random", "urandom"):
            _allow(rules, f"/dev/{device}", _READ_FILE)
        _rule(rules, folder, rights & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK))
        call("landlock_restrict_self", rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError, PermissionError):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
            _rule(rules, fd, rights if is_folder else rights & (_EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE))
        finally:
            os.close(fd)


def _rule(rules: int, fd: int, rights: int) -> None:
    beneath = rights.to_bytes(8, "little") + fd.to_bytes(4, "little")
    call("landlock_add_rule", rules, _PATH_BENEATH, ctypes.create_string_buffer(beneath, len(beneath)), 0)


def _change_user(request: Request) -> bool:
    """Become a user that owns nothing, if this is root, may, and the program would still be readable; whether that was done."""
    if os.geteuid() != 0 or not (has_capability(CAP_SETUID) and has_capability(CAP_SETGID)) or not _open_to_all(request.argv[0]):
        return False
    unused = _UNUSED_IDS + os.getpid() % 1_000_000
    try:
        os.chown(request.folder, unused, unused)
        os.setgroups([])
        os.setresgid(unused, unused, unused)
        os.setresuid(unused, unused, unused)
    except OSError:
        return False
    return True


def _open_to_all(path: str) -> bool:
    """Whether everybody may reach and run the program."""
    folders = [os.path.realpath(path)]
    while folders[-1] != "/":
        folders.append(os.path.dirname(folders[-1]))
    try:
        return all(os.stat(folder).st_mode & 0o1 for folder in folders)
    except OSError:
        return False


def signals_stay_inside() -> bool:
    """Whether a signal to everybody reaches nobody outside the domain. Asked of the kernel each time, since much depends on it."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return version() >= _SCOPED_VERSION
    return False


def _processes_of_user() -> int:
    """Processes and threads that the user has already, which the limit counts too."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc") if os.access("/proc", os.R_OK) else []:
        if name.isdigit():
            with suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
