"""From a forked child to the untrusted program: its limits, its standard streams, its filter, and `exec`."""

from __future__ import annotations

import math
import os
import resource
import signal

from stepward.engine.sandbox.inside import landlock, seccomp
from stepward.engine.sandbox.inside.confinement import Confinement, Limits, Request
from stepward.engine.sandbox.inside.system import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, drop_capabilities, prctl

_STACK_BYTES = 8 << 20
NO_EXEC = 127


def become(request: Request, confinement: Confinement, streams: tuple[int, int, int], errors: int) -> None:
    """Become the program. Writes why it could not to `errors` and exits; never returns."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for target, stream in enumerate(streams):
            os.dup2(stream, target, inheritable=True)
        os.chdir(confinement.work)
        os.umask(0o077)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) is not None:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _limit(request.limits, confinement)
        drop_capabilities()
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if confinement.landlock:
            landlock.restrict(request.visible, os.open(confinement.work, os.O_PATH | os.O_CLOEXEC), confinement.landlock)
        seccomp.install(own_files=confinement.own_files, processes=confinement.processes, own_signals=confinement.own_signals, pid=os.getpid())
        os.execve(request.argv[0], list(request.argv), dict(request.environment))
    except BaseException as error:  # whatever it is, the code above must not go on in this child
        os.write(errors, str(error).encode("utf-8", "replace")[:1000] or b"unknown")
    finally:
        os._exit(NO_EXEC)


def _limit(limits: Limits, confinement: Confinement) -> None:
    cpu_s = max(1, math.ceil(limits.cpu_s))
    for kind, soft, hard in (
        (resource.RLIMIT_NPROC, *[limits.processes + confinement.extra_processes] * 2),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_STACK, _STACK_BYTES, _STACK_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_RTPRIO, 0, 0),
        (resource.RLIMIT_NICE, 0, 0),
        (resource.RLIMIT_SIGPENDING, 256, 256),
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),  # last: what comes before still needs memory
    ):
        ceiling = resource.getrlimit(kind)[1]
        bounded = [value if ceiling == resource.RLIM_INFINITY else min(value, ceiling) for value in (soft, hard)]
        resource.setrlimit(kind, (bounded[0], bounded[1]))
