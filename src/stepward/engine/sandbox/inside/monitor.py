"""The monitor: one process a run, outside the walls. It feeds and reads the program, watches the clock, memory, time, output and files, and answers."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stepward.engine.sandbox.inside import namespaces, tree, warden, workdir
from stepward.engine.sandbox.inside.confinement import Request
from stepward.engine.sandbox.inside.frames import Closed, receive, send
from stepward.engine.sandbox.inside.system import PR_SET_CHILD_SUBREAPER, prctl

_FIRST_LOOK_S, _LOOK_S = 0.01, 0.025
_PATIENCE_S = 10.0  # for the warden to end everything and report
_CHUNK = 1 << 16
_SLACK = 2  # processes of ours that the kernel's limit may or may not have counted: where it holds, it refuses before this ends anything


def serve(caller: int) -> None:
    """Answer the one request that comes over `caller`, a connected socket."""
    try:
        os.write(caller, b"!")  # the caller waits for a sign of life before it sends anything
        header, blobs = receive(caller)
    except (Closed, OSError):
        return
    request = Request.from_header(header)
    if request.mechanism != "namespaces":
        request = replace(request, folder=os.path.join(request.folder, str(os.getpid())))
        os.mkdir(request.folder, 0o700)
    try:
        report, parts = _Run(request, caller, blobs[0]).watch(blobs[1:])
    except OSError as error:
        report, parts = {"error": f"the sandbox could not be built: {error}"}, []
    finally:
        if request.mechanism != "namespaces":
            with suppress(OSError):  # the caller removes what is left when it ends
                workdir.remove(request.folder)
    with suppress(Closed):
        send(caller, report, parts)


class _Run:
    """One program from its start to its end."""

    def __init__(self, request: Request, caller: int, stdin: bytes) -> None:
        self.request, self.caller = request, caller
        self.stdin = memoryview(stdin)
        self.texts = (bytearray(), bytearray())
        self.ended: str | None = None  # which limit ended it
        self.poll = select.poll()
        self.spent: dict[int, float] = {}  # seconds of each process that was seen

    def watch(self, contents: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """The report's header and its blobs: output, errors, files."""
        if self.request.mechanism == "namespaces":
            namespaces.leave()
        else:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._start(contents)
        try:
            report, files = self._follow()
        finally:
            self._bury()
        wall_s = time.monotonic() - self.began
        out, err = map(bytes, self.texts)
        limit = self.request.limits.output_bytes
        report |= {"ended": self.ended, "wall_s": wall_s, "truncated": len(out) > limit or len(err) > limit}
        return report, [out[:limit], err[:limit], *files]

    def _start(self, contents: Sequence[bytes]) -> None:
        stdin, self.to_program = os.pipe()
        self.from_out, stdout = os.pipe()
        self.from_err, stderr = os.pipe()
        control, self.control = os.pipe()
        self.status, status = os.pipe()
        mine = (self.to_program, self.from_out, self.from_err, self.control, self.status)
        theirs = (stdin, stdout, stderr, control, status)
        self.began = time.monotonic()
        self.warden = os.fork()
        if self.warden == 0:
            for fd in (*mine, self.caller):
                os.close(fd)
            warden.keep(self.request, contents, (stdin, stdout, stderr), control, status)
        for fd in theirs:
            os.close(fd)
        for fd in (self.to_program, self.from_out, self.from_err):
            os.set_blocking(fd, False)
        for fd in (self.caller, self.from_out, self.from_err, self.status):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(self.to_program, select.POLLOUT)
        self.open = {self.to_program, self.from_out, self.from_err}

    def _follow(self) -> tuple[dict[str, Any], list[bytes]]:
        """Serve the pipes and look at the limits until the warden reports."""
        limits = self.request.limits
        look = self.began + _FIRST_LOOK_S
        give_up = self.began + limits.wall_s + _PATIENCE_S
        while True:
            now = time.monotonic()
            if now >= give_up:
                return {"error": "the sandbox's warden did not answer"}, []
            if now >= look:
                self._look(now)
                look = now + _LOOK_S
            for fd, _ in self.poll.poll(max(1, int((look - now) * 1000))):
                if fd == self.status:
                    return self._report()
                if fd == self.caller:
                    self.poll.unregister(fd)
                    self._end("the caller went away")
                elif fd == self.to_program:
                    self._feed()
                else:
                    self._read(fd)

    def _look(self, now: float) -> None:
        """End the run when it is over a limit that no kernel limit covers."""
        limits = self.request.limits
        if now - self.began > limits.wall_s:
            return self._end("wall time")
        memory, time_s, processes = tree.in_use(self.warden, self.spent)
        if memory > limits.memory_bytes:
            return self._end("memory")
        if time_s > limits.cpu_s:
            return self._end("processor time")
        if processes > limits.processes + _SLACK:
            return self._end("processes")
        if self.request.mechanism != "namespaces":
            size, count = workdir.usage(self.request.folder, max_files=limits.files)
            if size > limits.disk_bytes or count > limits.files:
                self._end("files")
        return None

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
            with suppress(OSError):
                os.write(self.control, b"x")

    def _feed(self) -> None:
        try:
            self.stdin = self.stdin[os.write(self.to_program, self.stdin[:_CHUNK]) :] if self.stdin else self.stdin
        except BlockingIOError:
            return
        except OSError:
            self.stdin = memoryview(b"")
        if not self.stdin:
            self._close(self.to_program)

    def _read(self, fd: int) -> None:
        text = self.texts[fd == self.from_err]
        try:
            part = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        room = self.request.limits.output_bytes + 1 - len(text)
        text += part[:room]
        if not part:
            self._close(fd)
        elif len(part) >= room:
            self._end("output")

    def _close(self, fd: int) -> None:
        if fd in self.open:
            self.open.discard(fd)
            self.poll.unregister(fd)
            os.close(fd)

    def _report(self) -> tuple[dict[str, Any], list[bytes]]:
        try:
            report, files = receive(self.status)
        except Closed:
            return {"error": "the sandbox's warden died"}, []
        for fd in (self.from_out, self.from_err):  # nobody can write any more: what is left in the pipes is all
            with suppress(OSError):
                while fd in self.open:
                    before = len(self.texts[fd == self.from_err])
                    self._read(fd)
                    if fd in self.open and len(self.texts[fd == self.from_err]) == before:
                        break
        report.pop("blobs")
        return report, files

    def _bury(self) -> None:
        """Nothing of the run outlives this."""
        os.close(self.control)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.warden, signal.SIGKILL)  # and with it everything in its process namespace
            os.waitpid(self.warden, 0)
        while left := tree.descendants(os.getpid()):
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            time.sleep(0.001)
