"""Namespaces by hand: a new user, process, network, mount, IPC, host name and cgroup namespace, and a file system that holds nothing but what is named.

Needs no packages and no privileges but those that a new user namespace gives; where the machine forbids those, `enter` raises OSError.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress

from stepward.engine.sandbox.inside.confinement import INSIDE_ID, WORK, Confinement, Request
from stepward.engine.sandbox.inside.system import (
    CAP_SETGID,
    CAP_SETUID,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    has_capability,
    make_read_only,
    mount,
    pivot_root,
    prctl,
    unmount,
    unshare,
)

_SHARED = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
_STAGE = "/tmp"  # any folder that exists; its own content stays where it is
_DEVICES = ("null", "zero", "full", "random", "urandom")
_UNUSED_IDS = 1_900_000_000  # far above the ids that systems hand out, so that nothing on the machine belongs to it
_NOBODY = 65534


def leave() -> None:
    """Leave the caller's namespaces, but for its file system. For the monitor: its next child is process 1 of the new process namespace.

    Root gives the inner user an id that owns nothing on the machine, so that the process limit counts (root's own processes are exempt from it).
    """
    privileged = os.geteuid() == 0 and has_capability(CAP_SETUID) and has_capability(CAP_SETGID)
    uid, gid = os.geteuid(), os.getegid()
    if privileged:
        os.setgroups([])
    target, (wait, go) = os.getpid(), os.pipe()
    helper = os.fork()
    if helper == 0:
        code = 1
        with suppress(BaseException):
            os.close(go)
            if os.read(wait, 1):
                _map(target, uid, gid, privileged=privileged)
                code = 0
        os._exit(code)
    os.close(wait)
    try:
        unshare(_SHARED)
        os.write(go, b"x")
    finally:
        os.close(go)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise OSError("the user ids of a new user namespace could not be set (/proc/PID/uid_map)")


def _map(pid: int, uid: int, gid: int, *, privileged: bool) -> None:
    unused = _UNUSED_IDS + pid % 1_000_000
    choices = [(unused, unused), (_NOBODY, _NOBODY), (uid, gid)] if privileged else [(uid, gid)]
    if not privileged:
        _write(f"/proc/{pid}/setgroups", "deny")
    for index, (outer_uid, outer_gid) in enumerate(choices):
        try:
            _write(f"/proc/{pid}/gid_map", f"{INSIDE_ID} {outer_gid} 1")
            _write(f"/proc/{pid}/uid_map", f"{INSIDE_ID} {outer_uid} 1")
        except OSError:
            if index + 1 == len(choices):
                raise
        else:
            return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def enter(request: Request) -> Confinement:
    """Build the file system, go and live in it as an ordinary user, and give up every privilege. For process 1 of the namespace.

    Raises: OSError saying which call was refused.
    """
    assert os.getpid() == 1, "only process 1 of a new process namespace may enter"
    with suppress(OSError):
        _write("/proc/self/oom_score_adj", "1000")
    unshare(CLONE_NEWNS)  # here and not in `leave`: the monitor still needs /proc
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    sources = _open(request.visible)
    devices = _open([f"/dev/{name}" for name in _DEVICES])
    with suppress(OSError):  # an ordinary user keeps its groups: they open nothing that is not visible anyway
        os.setgroups([])
    os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
    os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
    mount("stepward", _STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=4096,mode=0755")
    os.chdir(_STAGE)
    for path, source in [*sources, *devices]:
        _show(path, source, device=(path, source) in devices)
    os.mkdir("." + WORK)
    limits = request.limits
    mount("stepward", "." + WORK, "tmpfs", MS_NOSUID | MS_NODEV, f"size={limits.disk_bytes},nr_inodes={limits.files + 2},mode=0700")
    os.makedirs("etc", exist_ok=True)
    for name, text in (("passwd", f"user:x:{INSIDE_ID}:{INSIDE_ID}::{WORK}:/bin/sh\n"), ("group", f"user:x:{INSIDE_ID}:\n")):
        with open(f"etc/{name}", "x", encoding="ascii") as file:
            file.write(text)
    with suppress(FileExistsError):
        os.symlink(WORK, "tmp")
    mount(None, ".", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    pivot_root(".", ".")
    unmount(".", MNT_DETACH)
    os.chdir("/")
    with suppress(OSError):
        socket.sethostname("sandbox")
    prctl(PR_SET_DUMPABLE, 0)  # the program has this process's user, and must not look into it
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return Confinement(work=WORK, own_files=True, processes=True, own_signals=True, extra_processes=2)


def _open(paths: Sequence[str]) -> list[tuple[str, int | str]]:
    """Each path that exists with a descriptor of it, or with its target where it is a symbolic link; opened while the caller's identity still allows it."""
    found: list[tuple[str, int | str]] = []
    for path in paths:
        with suppress(OSError):
            found.append((path, os.readlink(path) if os.path.islink(path) else os.open(path, os.O_PATH | os.O_CLOEXEC)))
    return found


def _show(path: str, source: int | str, *, device: bool) -> None:
    """Put a folder, file or link at its own path below the current folder, read-only."""
    target = "." + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if isinstance(source, str):
        os.symlink(source, target)
        return
    if os.path.isdir(f"/proc/self/fd/{source}"):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
    make_read_only(target, devices=device)
    os.close(source)
