"""Worker: the process that judges answers for a pool, one at a time, until its standard input ends.

Started as `python -m stepward.environments.grader.worker PARENT_PID MEMORY_BYTES TIME_LIMIT_S`. Never runs in the caller's process.
"""

from __future__ import annotations

import os
import signal
import sys

from stepward.environments.grader.wire import WireClosed, receive, send

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve requests `{"gold", "answer"}` with verdicts."""
    parent, memory_bytes, time_limit_s = int(arguments[0]), int(arguments[1]), float(arguments[2])
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # a library that prints must not write into the replies
        os.dup2(nowhere, standard)
    _die_with(parent)
    _limit(memory_bytes)
    try:
        from stepward.environments.grader import verdict

        verdict.prepare()
    except BaseException as error:
        send(replies, {"ready": False, "reason": f"{type(error).__name__}: {error}"})
        return
    try:
        send(replies, {"ready": True})
        while True:
            request = receive(requests)
            signal.setitimer(signal.ITIMER_REAL, 2 * time_limit_s + 10)  # last resort, by the kernel, should nobody be left to kill us
            reply = verdict.judge(request["gold"], request["answer"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(replies, reply)
    except WireClosed:
        return


def _die_with(parent: int) -> None:
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: the end of standard input and the timer remain
    if os.getppid() != parent:
        os._exit(1)


def _limit(memory_bytes: int) -> None:
    import resource

    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, memory_bytes)):
        try:
            hard = resource.getrlimit(kind)[1]
            allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (allowed, allowed))
        except (OSError, ValueError):
            continue  # a system that cannot limit this


if __name__ == "__main__":
    main(sys.argv[1:])
