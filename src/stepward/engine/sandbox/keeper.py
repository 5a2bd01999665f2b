"""KeeperProcess: the caller's handle of the process that starts runs. What that process does is in `inside`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from stepward.engine.sandbox.errors import SandboxFailed

_SOURCE = str(Path(__file__).resolve().parents[3])
_BOOT = """
import sys, types
for name in ("stepward", "stepward.engine", "stepward.engine.sandbox"):  # without what their __init__ files import
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
from stepward.engine.sandbox.inside.keeper import main
main(sys.argv[2])
"""


class KeeperProcess:
    """Starts the keeper when it is first needed, and anew when it has died or this process is a fork of the one that started it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Keeper | None = None
        self._owner = os.getpid()

    def connect(self) -> tuple[socket.socket, str]:
        """A socket to a fresh monitor, and the folder in which it may work. Raises: SandboxFailed."""
        if self._owner != os.getpid():  # in a fork the lock may be held for ever
            self._lock, self._owner = threading.Lock(), os.getpid()
        for _ in range(2):
            with self._lock:
                if self._process is None or not self._process.usable:
                    self._process = _Keeper()
                keeper = self._process
            mine, theirs = socket.socketpair()
            with theirs, self._lock, suppress(OSError):
                socket.send_fds(keeper.control, [b"r"], [theirs.fileno()])
            with suppress(OSError):
                if mine.recv(1):  # the monitor is there
                    return mine, keeper.folder
            mine.close()
            keeper.close()
        raise SandboxFailed("the sandbox's keeper process died twice; is the machine out of memory or processes?")

    @property
    def pid(self) -> int | None:
        """The keeper's process id while it runs."""
        return self._process.process.pid if self._process is not None and self._process.usable else None

    def close(self) -> None:
        """End the keeper and every run."""
        with self._lock:
            keeper, self._process = self._process, None
        if keeper is not None:
            keeper.close()


class _Keeper:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = tempfile.mkdtemp(prefix="stepward-sandbox-")
        os.chmod(self.folder, 0o711)  # a run's own folder in it is its own alone
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, _SOURCE, self.folder],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _end, self.owner, self.process, self.control, self.folder)

    @property
    def usable(self) -> bool:
        return self._finalizer.alive and self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        self._finalizer()


def _end(owner: int, process: subprocess.Popen[bytes], control: socket.socket, folder: str) -> None:
    control.close()
    if os.getpid() != owner:
        process.returncode = 0  # a fork's copy: the process is not its child
        return
    try:
        process.wait(timeout=30.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
