"""SandboxedPython: runs the code that a judge writes, in the sandbox; for GenPRM's `executor`."""

from __future__ import annotations

from collections.abc import Sequence

from stepward.engine.sandbox import Limits, Sandbox, best_sandbox
from stepward.rewards.code.session import run_blocks

_LIMITS = Limits(wall_s=15.0, cpu_s=5.0)  # the authors' limit is 5 s
_MAX_CHARS = 2000


class SandboxedPython:
    """A `CodeExecutor` (see `rewards.generative.genprm`). Each call is a fresh process: earlier blocks run again first, their output is not shown.

    Raises: NoSandbox with the remedy where untrusted code cannot be run.
    """

    def __init__(self, sandbox: Sandbox | None = None, *, limits: Limits = _LIMITS) -> None:
        self.sandbox = best_sandbox() if sandbox is None else sandbox
        self.limits = limits

    @property
    def fingerprint(self) -> str:
        return f"python:1:{self.sandbox.fingerprint}(cpu_s={self.limits.cpu_s:g},memory_mb={self.limits.memory_mb})"

    async def run(self, code: str, *, before: Sequence[str] = ()) -> str:
        """What `code` prints, and its error; at most 2000 characters. Raises: SandboxFailed when it could not be run."""
        found = await run_blocks(self.sandbox, [*before, code], echo=1, limits=self.limits)
        output = f"Error: {found}" if isinstance(found, str) else found[0].output
        return output if len(output) <= _MAX_CHARS else output[:_MAX_CHARS] + "..."
