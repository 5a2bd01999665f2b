"""Worker: the process that answers a pool's requests, one at a time, until its standard input ends.

It imports the task's module once and forks a *hand* that does the work under the limits. A hand that outlives the time limit is killed and
the next one forked in milliseconds. The worker itself reads no hostile text but as JSON strings.
Started as `python -m stepward.engine.workers.worker PARENT_PID MEMORY_BYTES TIME_LIMIT_S RECYCLE_AFTER TASK WORK`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from stepward.engine.workers.limits import FAILED, Reply
from stepward.engine.workers.wire import WireClosed, WireTimeout, patience_s, receive, send

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve requests with the task's replies."""
    parent, memory_bytes, time_limit_s, recycle_after = int(arguments[0]), int(arguments[1]), float(arguments[2]), int(arguments[3])
    name, work = arguments[4], arguments[5]
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # a library that prints must not write into the replies
        os.dup2(nowhere, standard)
    _die_with(parent)
    _limit("RLIMIT_CORE", 0)
    try:
        task = _load(name)
    except BaseException as error:
        send(replies, {"ready": False, "reason": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # hands share these pages
    bench = Bench(task, time_limit_s=time_limit_s, memory_bytes=memory_bytes, recycle_after=recycle_after, work=work, private_fds=(requests, replies))
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
    """The hand that works, and its replacement when a request was too much for it."""

    def __init__(
        self,
        task: Callable[[Reply], Reply],
        *,
        time_limit_s: float,
        memory_bytes: int,
        recycle_after: int,
        work: str = "checking",
        private_fds: tuple[int, ...] = (),
    ) -> None:
        self._task = task
        self._time_limit_s = time_limit_s
        self._memory_bytes = memory_bytes
        self._recycle_after = recycle_after
        self._work = work
        self._private_fds = private_fds
        self._pid = 0
        self._to_hand = self._from_hand = -1
        self._n_answered = 0

    def answer(self, request: Reply) -> Reply:
        """A reply within the limits. A crash that no limit caused is tried once more with a fresh hand.

        The kernel ends a hand that has used up its processor time; the clock, more patient, ends one that waits.
        So an easy request is answered the same on a busy machine.
        """
        too_long = f"{self._work} took longer than its time limit of {self._time_limit_s:g} s"
        ending = ""
        for _ in range(2):
            if not self._pid:
                self._seat()
            try:
                send(self._to_hand, request)
                reply = receive(self._from_hand, timeout_s=patience_s(self._time_limit_s))
            except WireTimeout:
                self.dismiss()
                return {FAILED: f"{too_long} ({patience_s(self._time_limit_s):g} s on the clock)"}
            except WireClosed:
                ending = self.dismiss(dying=True)
                if ending == "SIGPROF":
                    return {FAILED: too_long}
                continue
            self._n_answered += 1
            if reply.pop("exhausted", False) or self._n_answered >= self._recycle_after:
                self.dismiss()
            return reply
        return {FAILED: f"{self._work} crashed twice on this request ({ending})"}

    def dismiss(self, *, dying: bool = False) -> str:
        """Kill and reap the hand; how it ended, in words. One whose pipe has closed is `dying` by itself and only reaped."""
        if not self._pid:
            return ""
        for fd in (self._to_hand, self._from_hand):
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
            self._to_hand, self._from_hand, self._n_answered = request_in, reply_out, 0
            return
        try:
            for fd in (request_in, reply_out, *self._private_fds):
                os.close(fd)
            _die_with(worker)
            _limit("RLIMIT_AS", self._memory_bytes)
            while True:
                request = receive(request_out)
                signal.setitimer(signal.ITIMER_PROF, self._time_limit_s)  # no handler: at the limit the kernel ends the process
                reply = self._task(request)
                signal.setitimer(signal.ITIMER_PROF, 0)
                send(reply_in, reply)
        except WireClosed:
            os._exit(0)
        except BaseException:
            os._exit(70)


def _load(name: str) -> Callable[[Reply], Reply]:
    module_name, _, function = name.partition(":")
    module = import_module(module_name)
    if hasattr(module, "prepare"):
        module.prepare()
    task: Callable[[Reply], Reply] = getattr(module, function)
    return task


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
