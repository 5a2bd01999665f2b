"""Sandbox: run a program that nobody trusts, and say how it ended. How the walls are built is in `inside`; which work here in `probe`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

from stepward.core.errors import InputError
from stepward.engine.sandbox.errors import SandboxFailed
from stepward.engine.sandbox.inside.confinement import WORK
from stepward.engine.sandbox.inside.frames import Closed, receive, send
from stepward.engine.sandbox.keeper import KeeperProcess
from stepward.engine.sandbox.limits import Limits
from stepward.engine.sandbox.run import Run
from stepward.engine.sandbox.view import interpreters, visible_paths

MECHANISMS = ("namespaces", "landlock")
_FOR_TESTS = ("landlock-3",)  # as on older kernels
Content = str | bytes
_LIMITS = Limits()
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": WORK,
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Sandbox:
    """Programs run behind one mechanism, at most `concurrency` at once; `best_sandbox()` makes one with the strongest mechanism that works here.

    A program finds: its working folder with the `files` that it was given, the system's programs and libraries and a Python (`python`) with its standard
    library, both read-only, /dev/null and random numbers, and nothing else: no network, no other processes, no /proc, no home, none of the caller's
    environment. With the mechanism "landlock" names and sizes of other files can be seen, though not opened. `visible` adds folders that can be read.
    `processes`: what the probe found, whether programs may start others; root without the right to change its user may not, since no limit would hold.

    When the program ends, whatever it started ends with it; so it does when the call is cancelled or this process dies.
    """

    def __init__(
        self, mechanism: str, *, python: str | None = None, concurrency: int | None = None, visible: Sequence[str] = (), processes: bool = True
    ) -> None:
        if mechanism not in MECHANISMS + _FOR_TESTS:
            raise InputError(f"unknown sandbox mechanism {mechanism!r}; choose one of {', '.join(MECHANISMS)}, or call best_sandbox()")
        if concurrency is not None and concurrency < 1:
            raise InputError(f"Sandbox.concurrency must be at least 1, got {concurrency!r}")
        if reserved := [path for path in visible if os.path.abspath(path) in ("/", "/tmp", "/proc", "/dev", WORK)]:
            raise InputError(f"Sandbox.visible must name folders below the machine's own, got {reserved[0]!r}")
        self.mechanism, self.processes = mechanism, processes
        self.python = python or interpreters()[0]
        self._visible = visible_paths(self.python, [os.path.abspath(path) for path in visible])
        self._concurrency = concurrency or len(os.sched_getaffinity(0))
        self._keeper = KeeperProcess()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._owner = os.getpid()
        self._active: set[_Request] = set()
        weakref.finalize(self, self._keeper.close)

    @property
    def fingerprint(self) -> str:
        """What a run depends on, apart from the program: the mechanism does not change what a well-behaved one computes."""
        return f"sandbox/1({os.path.basename(self.python)})"

    @property
    def keeper_pid(self) -> int | None:
        """Process id of the process that starts runs, while there is one."""
        return self._keeper.pid

    async def run(
        self, argv: Sequence[str], *, files: Mapping[str, Content] | None = None, stdin: Content = b"", limits: Limits = _LIMITS, collect: Sequence[str] = ()
    ) -> Run:
        """Run `argv` (the first word a path) in a fresh folder with `files`; waits for a free place, then until the program has ended.

        `files`: relative names with contents. `collect`: patterns (`*`, `out/*.txt`) of files to bring back; links are not followed.

        Raises: InputError for names that leave the folder; SandboxFailed when the program could not be started.
        """
        request = _Request(self, argv, files or {}, stdin, limits, collect)
        future = self._submit(request)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            request.cancel()
            raise

    def run_sync(
        self, argv: Sequence[str], *, files: Mapping[str, Content] | None = None, stdin: Content = b"", limits: Limits = _LIMITS, collect: Sequence[str] = ()
    ) -> Run:
        """The same for threads."""
        return self._submit(_Request(self, argv, files or {}, stdin, limits, collect)).result()

    def close(self) -> None:
        """End what still runs, which fails. Also happens at garbage collection and when the interpreter exits. A later run starts everything anew."""
        with self._lock:
            threads, self._threads = self._threads, None
            active = list(self._active)
        for request in active:
            request.cancel()
        if threads is not None and self._owner == os.getpid():
            threads.shutdown(cancel_futures=True)
        self._keeper.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _submit(self, request: _Request) -> Future[Run]:
        if self._owner != os.getpid():  # a fork has none of the threads, and perhaps a lock that is held
            self._lock, self._threads, self._owner, self._active = threading.Lock(), None, os.getpid(), set()
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="stepward-sandbox")
            self._active.add(request)
            future = self._threads.submit(request.run)
        future.add_done_callback(lambda _: self._active.discard(request))
        return future


class _Request:
    """One run's exchange with its monitor, from a thread; may be cancelled from any other."""

    def __init__(self, sandbox: Sandbox, argv: Sequence[str], files: Mapping[str, Content], stdin: Content, limits: Limits, collect: Sequence[str]) -> None:
        if isinstance(argv, str) or not argv or not os.path.isabs(argv[0]):
            raise InputError(f"sandbox argv must be a list of words whose first is an absolute path (sandbox.python, say), got {argv!r}")
        for name in files:
            if os.path.isabs(name) or name != os.path.normpath(name) or name.startswith("..") or "\0" in name:
                raise InputError(f"sandbox files have relative names without '..', got {name!r}")
        self._keeper, self._limits = sandbox._keeper, limits
        self._header = {
            "argv": list(argv),
            "environment": dict(_ENVIRONMENT),
            "mechanism": sandbox.mechanism,
            "limits": limits.to_wire(),
            "visible": sandbox._visible,
            "collect": list(collect),
            "names": list(files),
        }
        self._blobs = [content.encode() if isinstance(content, str) else content for content in (stdin, *files.values())]
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> Run:
        connection, folder = self._keeper.connect()
        with connection:
            with self._lock:
                if self._cancelled:
                    raise SandboxFailed("the run was cancelled")
                self._socket = connection
            try:
                send(connection.fileno(), {**self._header, "folder": folder}, self._blobs)
                report, blobs = receive(connection.fileno())
            except Closed as error:
                raise SandboxFailed("the run was cancelled" if self._cancelled else f"the sandbox's monitor died: {error}") from None
            finally:
                with self._lock:
                    self._socket = None
        if "error" in report:
            raise SandboxFailed(str(report["error"]))
        out, err, *contents = blobs
        return Run(
            exit=report["exit"],
            signal=report["signal"],
            out=out,
            err=err,
            truncated=report["truncated"],
            ended=report["ended"] or self._killed_for_time(report),
            wall_s=report["wall_s"],
            cpu_s=report["cpu_s"],
            max_rss_mb=report["max_rss_bytes"] / 2**20,
            files=dict(zip(report["names"], contents, strict=True)),
            files_cut=report["files_cut"],
        )

    def _killed_for_time(self, report: Mapping[str, Any]) -> str | None:
        """What the kernel ended for its processor time, the monitor has not."""
        late = report["signal"] == signal.SIGKILL and report["cpu_s"] >= self._limits.cpu_s
        return "processor time" if late or report["signal"] == signal.SIGXCPU else None
