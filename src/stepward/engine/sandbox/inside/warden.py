"""The warden: the one process of ours behind the walls. It starts the program, reaps what dies, ends everything, collects files and reports."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from stepward.engine.sandbox.inside import landlock, namespaces, workdir
from stepward.engine.sandbox.inside.confinement import Confinement, Request
from stepward.engine.sandbox.inside.frames import Closed, send
from stepward.engine.sandbox.inside.program import become

_MAX_COLLECTED = 256
_REAP_S = 5.0
ENTER = {"namespaces": namespaces.enter, "landlock": landlock.enter, "landlock-3": landlock.enter}


def keep(request: Request, contents: Sequence[bytes], streams: tuple[int, int, int], control: int, status: int) -> None:
    """Run the request and write one frame to `status`. A byte on `control`, or its end, ends the run early. Never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 is deaf to signals without handlers
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            confinement = ENTER[request.mechanism](request)
            workdir.write_files(confinement.work, request.names, contents)
        except (OSError, AssertionError) as error:
            send(status, {"error": f"the sandbox could not be built: {error}"})
            return
        pid, failure = _start(request, confinement, streams)
        for stream in streams:
            os.close(stream)
        _await(pid, None if failure else control, wake)
        _end_all(pid, confinement)
        ended = _reap(pid)
        if failure:
            send(status, {"error": f"{request.argv[0]} could not be started: {failure}"})
            return
        _report(request, confinement, ended, status)
    except (OSError, Closed):
        pass
    finally:
        os._exit(0)


def _start(request: Request, confinement: Confinement, streams: tuple[int, int, int]) -> tuple[int, str]:
    """The program's process, and why it could not be started ("" when it was)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.set_wakeup_fd(-1)
        become(request, confinement, streams, writing)
    os.close(writing)
    failure = os.read(reading, 1000).decode("utf-8", "replace")
    os.close(reading)
    return pid, failure


def _await(pid: int, control: int | None, wake: int) -> None:
    """Until the program has ended, or the run is to be ended before. Reaps orphans meanwhile, but not the program: its process group still has its name."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    if control is not None:
        poll.register(control, select.POLLIN | select.POLLHUP)
    while True:
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == pid or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            os.waitpid(found.si_pid, 0)
        for fd, _ in poll.poll():
            if fd == control:
                return
            with suppress(BlockingIOError):
                os.read(wake, 4096)


def _end_all(pid: int, confinement: Confinement) -> None:
    """Kill the program and all that it left, at once. That "everybody" means only them is made sure first; else they are one process group for good."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getpid() == 1 or (not confinement.own_files and confinement.own_signals and landlock.signals_stay_inside()):
            os.kill(-1, signal.SIGKILL)
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:  # it died before it was the program
            os.kill(pid, signal.SIGKILL)


def _reap(pid: int) -> int | None:
    """Wait for every child; the program's wait status."""
    deadline, ended = time.monotonic() + _REAP_S, None
    while time.monotonic() < deadline:
        try:
            found, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if found == pid:
            ended = code
        elif found == 0:
            time.sleep(0.0005)
    return ended


def _report(request: Request, confinement: Confinement, ended: int | None, status: int) -> None:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    limits = request.limits
    files, cut = workdir.collect(confinement.work, request.collect, max_files=_MAX_COLLECTED, max_bytes=limits.disk_bytes)
    report: dict[str, Any] = {
        "exit": os.WEXITSTATUS(ended) if ended is not None and os.WIFEXITED(ended) else None,
        "signal": os.WTERMSIG(ended) if ended is not None and os.WIFSIGNALED(ended) else None,
        "cpu_s": spent.ru_utime + spent.ru_stime,
        "max_rss_bytes": spent.ru_maxrss * 1024,
        "names": list(files),
        "files_cut": cut,
    }
    send(status, report, list(files.values()))
