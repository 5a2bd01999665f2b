"""Crew: threads that each own one worker process and pass it one request at a time.

A request may come from any thread or event loop; it is answered by a `concurrent.futures.Future`. A worker keeps the limits itself (see
`worker`); one that does not answer in good time nevertheless is killed here, with all it started.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from stepward.engine.workers.limits import FAILED, Limits, Reply
from stepward.engine.workers.wire import WireClosed, WireTimeout, patience_s, receive, send

_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[3])
_GRACE_S = 10.0  # beyond a worker's own two tries


class Crew:
    """At most `workers` processes, started when they are first needed and killed on `close`."""

    def __init__(self, task: str, workers: int, limits: Limits, work: str) -> None:
        self._task = task
        self._workers = workers
        self._limits = limits
        self._work = work
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[Reply, Future[Reply]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: set[_Worker] = set()
        self._waiting = 0
        self._closed = False
        self._owner = os.getpid()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are alive."""
        with self._lock:
            return [worker.pid for worker in self._running]

    @property
    def owner(self) -> int:
        """The process that this pool belongs to; after a fork the child needs its own."""
        return self._owner

    def submit(self, request: Reply) -> Future[Reply]:
        """Queue a request. The future's result is a reply, in every case."""
        future: Future[Reply] = Future()
        with self._lock:
            if self._closed:
                future.set_result(self._failed("the workers were closed"))
                return future
            self._waiting += 1
            if len(self._threads) < min(self._workers, self._waiting):
                thread = threading.Thread(target=self._serve, name=f"stepward-{self._work}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._requests.put((request, future))
        return future

    def close(self) -> None:
        """Kill every worker, answer what still waits with "closed", and end the threads."""
        if os.getpid() != self._owner:
            return  # a forked child: processes and threads are the parent's
        with self._lock:
            already, self._closed = self._closed, True
            running = list(self._running)
        for worker in running:
            worker.kill()
        if not already:
            for _ in self._threads:
                self._requests.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self) -> None:
        worker: _Worker | None = None
        try:
            while (item := self._requests.get()) is not None:
                request, future = item
                if future.set_running_or_notify_cancel():
                    try:
                        reply, worker = self._answer(request, worker)
                    except Exception as error:
                        reply = self._failed(f"failed: {type(error).__name__}: {error}")
                    future.set_result(reply)
                with self._lock:
                    self._waiting -= 1
        finally:
            self._retire(worker)

    def _answer(self, request: Reply, worker: _Worker | None) -> tuple[Reply, _Worker | None]:
        """A reply, and the worker to use next. When a worker dies, the request is tried once more on a fresh one."""
        failure = ""
        for _ in range(2):
            if worker is None:
                worker, failure = self._start()
            if worker is None:
                continue
            try:
                return worker.ask(request, 2 * patience_s(self._limits.time_limit_s) + _GRACE_S), worker
            except WireTimeout:
                self._retire(worker)
                return self._failed(f"took longer than its time limit of {self._limits.time_limit_s:g} s"), None
            except WireClosed:
                failure = f"the process died ({self._retire(worker, grace_s=1.0)})"
                worker = None
        return self._failed("the workers were closed" if self._closed else failure), worker

    def _start(self) -> tuple[_Worker | None, str]:
        """A worker that is ready; its imports take about a second, which no request's time limit pays for."""
        if self._closed:
            return None, "the workers were closed"
        worker = _Worker(self._task, self._limits, self._work)
        with self._lock:
            self._running.add(worker)
            closed = self._closed
        if closed:  # while the process was being made, so that `close` did not see it
            self._retire(worker)
            return None, "the workers were closed"
        try:
            ready = receive(worker.reply_fd, timeout_s=self._limits.startup_limit_s)
            if ready.get("ready"):
                return worker, ""
            failure = f"the process could not start: {ready.get('reason')}"
        except WireTimeout:
            failure = f"the process was not ready after {self._limits.startup_limit_s:g} s"
        except WireClosed:
            failure = "the process died while it started"
        return None, f"{failure} ({self._retire(worker)})"

    def _failed(self, reason: str) -> Reply:
        return {FAILED: f"{self._work} {reason}" if reason.startswith(("took", "failed")) else f"{self._work}: {reason}"}

    def _retire(self, worker: _Worker | None, *, grace_s: float = 0.0) -> str:
        if worker is None:
            return ""
        ending = worker.end(grace_s)
        with self._lock:
            self._running.discard(worker)
        return ending


class _Worker:
    """One process. Only the thread that made it talks to it; any thread may kill it."""

    def __init__(self, task: str, limits: Limits, work: str) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (_PACKAGE_FOLDER, os.environ.get("PYTHONPATH", "")))),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",  # each thread of a BLAS would take address space from the limit
        }
        arguments = [str(os.getpid()), str(limits.memory_limit_mb << 20), str(limits.time_limit_s), str(limits.recycle_after), task, work]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stepward.engine.workers.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._request_fd = self._process.stdin.fileno()
        self.reply_fd = self._process.stdout.fileno()
        self._ending = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: Reply, timeout_s: float) -> Reply:
        send(self._request_fd, request)
        return receive(self.reply_fd, timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL to the process and whatever it started."""
        with self._ending:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    def end(self, grace_s: float) -> str:
        """Kill, reap and close; how it ended, in words. A process that is about to end by itself is given `grace_s` to say how."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        final = self._process.returncode
        if final < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-final).name}"
        return f"exit status {final}"
