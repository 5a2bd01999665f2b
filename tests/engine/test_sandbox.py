"""The sandbox as callers meet it: what a program is given, what comes back, what ends it, and what happens when one of our own processes dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stepward.core.errors import InputError
from stepward.engine.sandbox import Finding, Limits, NoSandbox, Run, Sandbox, SandboxFailed, best_sandbox, probe
from stepward.engine.sandbox.inside import tree

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    finding = probe(request.param)
    if not finding.works:
        pytest.skip(f"{request.param} does not work here: {finding.reason}")
    with Sandbox(request.param, python=finding.python, concurrency=3) as sandbox:
        yield sandbox


def run(box: Sandbox, code: str, **options: object) -> Run:
    return box.run_sync([box.python, "-I", "-S", "-B", "-c", code], **options)  # type: ignore[arg-type]


def wait_until(condition: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_a_program_reads_its_input_and_files_and_answers(box: Sandbox) -> None:
    code = "import sys; print(sys.stdin.read() + open('in/a.txt').read()); print('said', file=sys.stderr); open('out.bin', 'wb').write(b'\\0'); sys.exit(7)"
    found = run(box, code, stdin="four ", files={"in/a.txt": "words"}, collect=("out.*",))
    assert (found.exit, found.signal, found.out, found.err, dict(found.files)) == (7, None, b"four words\n", b"said\n", {"out.bin": b"\0"})
    assert not found.ok
    assert not found.truncated
    assert found.ended is None
    assert 0 < found.cpu_s < 5
    assert found.max_rss_mb > 1


def test_every_run_starts_in_a_fresh_folder(box: Sandbox) -> None:
    run(box, "open('trace', 'w').write('x')")
    assert run(box, "import os; print(os.listdir())").out == b"[]\n"


def test_input_that_is_not_read_and_output_of_exactly_the_limit(box: Sandbox) -> None:
    found = run(box, "import os; os.write(1, b'x' * 65536)", stdin=b"y" * (1 << 20), limits=Limits(output_kb=64))
    assert (found.exit, len(found.out), found.truncated) == (0, 65536, False)
    found = run(box, "import os; os.write(1, b'x' * 65537)", limits=Limits(output_kb=64))
    assert (len(found.out), found.truncated) == (65536, True)


def test_signals_and_limits_are_told_apart(box: Sandbox) -> None:
    assert run(box, "import os; os.abort()").signal == signal.SIGABRT
    slow = run(box, "import time; print('begun', flush=True); time.sleep(60)", limits=Limits(wall_s=0.3))
    assert (slow.timed_out, slow.out, slow.ended, slow.ending) == (True, b"begun\n", "wall time", "ended for its wall time")
    large = run(box, "bytearray(1 << 30)", limits=Limits(memory_mb=128))
    assert large.out_of_memory
    assert not large.timed_out


def test_many_at_once_stay_apart(box: Sandbox) -> None:
    async def together() -> list[Run]:
        argv = [box.python, "-I", "-S", "-B", "-c", "import sys; print(sys.argv[1])"]
        return list(await asyncio.gather(*(box.run([*argv, str(number)]) for number in range(12))))

    assert [found.out for found in asyncio.run(together())] == [f"{number}\n".encode() for number in range(12)]


def test_a_cancelled_call_ends_its_program(box: Sandbox) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(box.run([box.python, "-I", "-S", "-c", "import time; time.sleep(60)"], limits=Limits(wall_s=60)))
        while not (box.keeper_pid and tree.descendants(box.keeper_pid)):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert wait_until(lambda: not tree.descendants(box.keeper_pid or 0))


def test_closing_ends_what_runs_and_a_fork_has_a_sandbox_of_its_own(box: Sandbox) -> None:
    with Sandbox(box.mechanism, python=box.python) as other, ThreadPoolExecutor(1) as threads:
        argv = [box.python, "-I", "-S", "-c", "import time; time.sleep(60)"]
        running = threads.submit(lambda: other.run_sync(argv, limits=Limits(wall_s=60)))
        assert wait_until(lambda: other.keeper_pid and len(tree.descendants(other.keeper_pid)) >= 3)
        keeper = other.keeper_pid
        other.close()
        with pytest.raises(SandboxFailed, match="cancelled"):
            running.result()
        assert not Path(f"/proc/{keeper}").exists()
    run(box, "pass")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of processes with threads: that is what is tested
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if run(box, "print('from the fork')").out == b"from the fork\n" else 2
            box.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert run(box, "print('and here')").out == b"and here\n"


def test_a_dead_keeper_is_replaced(box: Sandbox) -> None:
    run(box, "pass")
    assert box.keeper_pid
    os.kill(box.keeper_pid, signal.SIGKILL)
    assert run(box, "print('again')").out == b"again\n"


def test_a_killed_monitor_takes_its_program_with_it_and_is_said(box: Sandbox) -> None:
    run(box, "pass")
    keeper = box.keeper_pid or 0

    async def kill() -> list[int]:
        task = asyncio.create_task(box.run([box.python, "-I", "-S", "-c", "import os, time; os.fork(); time.sleep(60)"], limits=Limits(wall_s=60)))
        while len(found := tree.descendants(keeper)) < 3:
            await asyncio.sleep(0.01)
        monitor = min(pid for pid in found if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(keeper))
        os.kill(monitor, signal.SIGKILL)
        with pytest.raises(SandboxFailed, match="monitor died"):
            await task
        return found

    found = asyncio.run(kill())
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found)), found


def test_when_the_caller_is_killed_nothing_goes_on(box: Sandbox) -> None:
    code = (
        "import sys\nfrom stepward.engine.sandbox import Sandbox, Limits\n"
        f"box = Sandbox({box.mechanism!r}, python={box.python!r})\nbox.run_sync([box.python, '-I', '-S', '-c', 'print(1)'])\n"
        "print(box.keeper_pid, flush=True)\nbox.run_sync([box.python, '-I', '-c', 'import os, time; os.fork(); time.sleep(60)'], limits=Limits(wall_s=60))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    keeper = int(caller.stdout.readline())
    assert wait_until(lambda: len(tree.descendants(keeper)) >= 3)
    left = [keeper, *tree.descendants(keeper)]
    folder = Path(f"/proc/{keeper}/cmdline").read_text().rstrip("\0").split("\0")[-1]
    assert Path(folder).is_dir()
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left)), left
    assert not Path(folder).exists()


def test_processes_that_nobody_waits_for_are_charged_too(box: Sandbox) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        end = time.monotonic() + 0.4
        while time.monotonic() < end: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
"""
    if probe(box.mechanism).processes:
        assert box.run_sync([box.python, "-I", "-S", "-c", code], limits=Limits(cpu_s=1.0, wall_s=60.0)).ended == "processor time"


def test_a_program_that_cannot_be_started_is_a_failure_of_ours(box: Sandbox) -> None:
    with pytest.raises(SandboxFailed, match="could not be started"):
        box.run_sync(["/usr/bin/no-such-program"])


def test_users_mistakes_name_the_value() -> None:
    with Sandbox("namespaces") as box:
        for argv in ("python", [], ["python", "x"]):
            with pytest.raises(InputError, match="absolute path"):
                box.run_sync(argv)
        for name in ("/etc/x", "../x", "a/../../x", "./x"):
            with pytest.raises(InputError, match="relative names"):
                box.run_sync([box.python], files={name: ""})
    for fields in ({"wall_s": 0}, {"memory_mb": 1.5}, {"processes": -1}, {"memory_mb": 1}, {"cpu_s": float("inf")}):
        with pytest.raises(InputError, match="Limits"):
            Limits(**fields)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mechanism"):
        Sandbox("chroot")


def test_without_a_mechanism_code_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["stepward.engine.sandbox.probe"], "probe", lambda name: Finding(mechanism=name, works=False, reason="switched off"))
    with pytest.raises(NoSandbox, match=r"namespaces: switched off.*Remedies: .*user namespaces.*Landlock"):
        best_sandbox()


def test_a_mechanism_that_lets_a_program_out_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe tries to escape; a view that shows the secret's folder is noticed."""
    module = sys.modules["stepward.engine.sandbox.probe"]
    real = Sandbox.__init__
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)

        def leaky(self: Sandbox, *arguments: object, **options: object) -> None:
            real(self, *arguments, visible=[folder], **options)  # type: ignore[arg-type]

        for mechanism in ("namespaces", "landlock"):
            if probe(mechanism).works:
                with monkeypatch.context() as patch:
                    patch.setattr(Sandbox, "__init__", leaky)
                    patch.setattr(tempfile, "tempdir", folder)
                    finding = module._try(mechanism, probe(mechanism).python)
                assert not finding.works
                assert "reads a file outside" in finding.reason
