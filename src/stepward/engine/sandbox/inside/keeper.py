"""The keeper: a small process that forks one monitor for each socket it is passed. It runs no untrusted code and holds no data of any run."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress

from stepward.engine.sandbox.inside import monitor

_PATIENCE_S = 20.0


def main(folder: str) -> None:
    """Serve the control socket on descriptor 0 until the caller closes it or dies; then wait for the runs that are still ending, and remove their `folder`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors leave no zombies
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    caller = os.getppid()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while os.getppid() == caller:
        if poll.poll(1000):
            try:
                message, handles, *_ = socket.recv_fds(control, 1, 1)
            except OSError:
                break
            if not message:
                break
            for handle in handles:
                _fork(handle, control)
    deadline = time.monotonic() + _PATIENCE_S
    control.close()
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
    with suppress(OSError):  # a caller that was killed cannot
        os.rmdir(folder)


def _fork(handle: int, control: socket.socket) -> None:
    try:
        pid = os.fork()
    except OSError:  # the caller reads the end of its socket as "could not be run"
        os.close(handle)
        return
    if pid == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            monitor.serve(handle)
        finally:
            os._exit(0)
    os.close(handle)
