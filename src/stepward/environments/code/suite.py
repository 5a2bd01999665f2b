"""Suite: tests as a verifier. The tests run in one process of the sandbox and the program in another, which never learns what is expected."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from stepward.core.errors import InputError
from stepward.engine.sandbox import Limits, NoSandbox, Sandbox

State = Literal["passed", "failed", "time", "memory", "broken"]
_PACKAGE = "stepward.environments.code.harness"
_START = f"import sys; sys.path.insert(0, sys.argv[1]); from {_PACKAGE}.tester import main; main()"
LIMITS = Limits(wall_s=30.0, cpu_s=6.0, memory_mb=1024)
_TIME_SHARE = 0.9  # of the wall limit: the tester should report before the sandbox ends it


@dataclass(frozen=True, kw_only=True)
class Result:
    """`passed`; `failed`: a test is false, or the program raised, ended itself or lacks what is tested; `time`, `memory`: over a limit; `broken`: the tests
    cannot tell. `test`: the line that failed, with the last `call` of the program and what it `returned`."""

    state: State
    reason: str = ""
    test: str = ""
    call: str = ""
    returned: str = ""

    @property
    def evidence(self) -> dict[str, Any]:
        """What is known of the failure, JSON-like."""
        return {name: value for name, value in (("test", self.test), ("call", self.call), ("returned", self.returned)) if value}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """`tests`: Python that imports the program's names from `program`; other names that it does not define are the program's too. `prompt`: the problem's
    own code, whose complete definitions but the last are helpers.

    The tests' process copies arguments to the program's process and plain results back, so an object with its own idea of equality, a printed success, an
    early exit or a look at files and memory changes nothing. Side effects on arguments stay with the program.
    """

    tests: str
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.tests.strip():
            raise InputError("a Suite needs tests")

    async def run(self, sandbox: Sandbox, program: str, *, limits: Limits = LIMITS) -> Result:
        """Test a program once. Raises: SandboxFailed when it could not be run at all; NoSandbox where programs may not start processes, as the tests must."""
        if not sandbox.processes:
            raise NoSandbox("tests need a sandbox whose programs may start processes; run as an ordinary user, or as root with its capabilities")
        request = {"tests": self.tests, "prompt": self.prompt, "program": program, "python": sandbox.python, "time_s": limits.wall_s * _TIME_SHARE}
        argv = [sandbox.python, "-I", "-S", "-B", "-c", _START, "."]
        run = await sandbox.run(argv, files=_harness(), stdin=json.dumps(request), limits=replace(limits, processes=max(limits.processes, 4)))
        if run.timed_out:
            return Result(state="time", reason=run.ending)
        if run.out_of_memory:
            return Result(state="memory", reason=run.ending)
        try:
            return Result(**json.loads(run.out))
        except (ValueError, TypeError):
            state: State = "broken" if run.exit == 1 else "failed"  # 1: an error in the tests' process itself; anything else is the program's doing
            return Result(state=state, reason=f"the tests' process did not report ({run.ending})")

    async def settle(self, sandbox: Sandbox, program: str, *, limits: Limits = LIMITS) -> Result:
        """Test a program, a second time where it fails: `broken` when the two runs disagree."""
        first = await self.run(sandbox, program, limits=limits)
        if first.state != "failed":
            return first
        second = await self.run(sandbox, program, limits=limits)
        return first if second.state == "failed" else Result(state="broken", reason=f"two runs disagree: {first.state} and {second.state}")


@cache
def _harness() -> dict[str, str]:
    folder = resources.files(_PACKAGE)
    return {f"{_PACKAGE.replace('.', '/')}/{name}.py": (folder / f"{name}.py").read_text(encoding="utf-8") for name in ("codec", "candidate", "tester")}
