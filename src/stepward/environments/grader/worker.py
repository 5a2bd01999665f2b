"""Worker: the process that answers a pool's requests, one at a time, until its standard input ends.

It imports math-verify once and forks a *judge* that does the judging under the limits. A judge that outlives the time limit is killed and
the next one forked in milliseconds. The worker itself reads no hostile text but as JSON strings.
Started as `python -m stepward.environments.grader.worker PARENT_PID MEMORY_BYTES TIME_LIMIT_S RECYCLE_AFTER`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from stepward.environments.grader.wire import WireClosed, WireTimeout, patience_s, receive, send

Reply = dict[str, Any]
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve requests `{"gold", "answer"}` with verdicts."""
    parent, memory_bytes, time_limit_s, recycle_after = int(arguments[0]), int(arguments[1]), float(arguments[2]), int(arguments[3])
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # a library that prints must not write into the replies
        os.dup2(nowhere, standard)
    _die_with(parent)
    _limit("RLIMIT_CORE", 0)
    try:
        from stepward.environments.grader import verdict

        verdict.prepare()
    except BaseException as error:
        send(replies, {"ready": False, "reason": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # judges share these pages
    bench = Bench(verdict.judge, time_limit_s=time_limit_s, memory_bytes=memory_bytes, recycle_after=recycle_after, private_fds=(requests, replies))
    try:
        send(replies, {"ready": True})
        while True:
            request = receive(requests)
            send(replies, bench.answer(request))
    except WireClosed:
        pass
    finally:
        bench.dismiss()


class Bench:
    """The judge that sits, and its replacement when a request was too much for it. `judge` maps (gold, answer) to a verdict."""

    def __init__(
        self, judge: Callable[[str, str], Reply], *, time_limit_s: float, memory_bytes: int, recycle_after: int, private_fds: tuple[int, ...] = ()
    ) -> None:
        self._judge = judge
        self._time_limit_s = time_limit_s
        self._memory_bytes = memory_bytes
        self._recycle_after = recycle_after
        self._private_fds = private_fds
        self._pid = 0
        self._to_judge = self._from_judge = -1
        self._n_answered = 0

    def answer(self, request: Reply) -> Reply:
        """A verdict within the limits. A crash that no limit caused is tried once more with a fresh judge.

        The kernel ends a judge that has used up its processor time; the clock, more patient, ends one that waits.
        So an easy answer is graded the same on a busy machine.
        """
        too_long = f"grading took longer than its time limit of {self._time_limit_s:g} s"
        ending = ""
        for _ in range(2):
            if not self._pid:
                self._seat()
            try:
                send(self._to_judge, request)
                reply = receive(self._from_judge, timeout_s=patience_s(self._time_limit_s))
            except WireTimeout:
                self.dismiss()
                return {"verdict": "unscored", "reason": f"{too_long} ({patience_s(self._time_limit_s):g} s on the clock)"}
            except WireClosed:
                ending = self.dismiss(dying=True)
                if ending == "SIGPROF":
                    return {"verdict": "unscored", "reason": too_long}
                continue
            self._n_answered += 1
            if reply.pop("exhausted", False) or self._n_answered >= self._recycle_after:
                self.dismiss()
            return reply
        return {"verdict": "unscored", "reason": f"the grading process crashed twice on this answer ({ending})"}

    def dismiss(self, *, dying: bool = False) -> str:
        """Kill and reap the judge; how it ended, in words. One whose pipe has closed is `dying` by itself and only reaped."""
        if not self._pid:
            return ""
        for fd in (self._to_judge, self._from_judge):
            os.close(fd)
        if not dying:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _seat(self) -> None:
        worker = os.getpid()
        request_out, request_in = os.pipe()
        reply_out, reply_in = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(request_out)
            os.close(reply_in)
            self._to_judge, self._from_judge, self._n_answered = request_in, reply_out, 0
            return
        try:
            for fd in (request_in, reply_out, *self._private_fds):
                os.close(fd)
            _die_with(worker)
            _limit("RLIMIT_AS", self._memory_bytes)
            while True:
                request = receive(request_out)
                signal.setitimer(signal.ITIMER_PROF, self._time_limit_s)  # no handler: at the limit the kernel ends the process
                reply = self._judge(request["gold"], request["answer"])
                signal.setitimer(signal.ITIMER_PROF, 0)
                send(reply_in, reply)
        except WireClosed:
            os._exit(0)
        except BaseException:
            os._exit(70)


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: the end of the pipes and the processor time limit remain
    if os.getppid() != parent:
        os._exit(1)


def _limit(kind: str, limit: int) -> None:
    import resource

    with contextlib.suppress(OSError, ValueError):  # a system that cannot limit this
        number = getattr(resource, kind)
        hard = resource.getrlimit(number)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (allowed, allowed))


if __name__ == "__main__":
    main(sys.argv[1:])
