"""Session: blocks of Python run in one namespace of one sandboxed process, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from stepward.engine.sandbox import Limits, Sandbox

_PACKAGE = "stepward.rewards.code.harness"
_START = f"import sys; sys.path.insert(0, sys.argv[1]); from {_PACKAGE}.session import main; main()"
LIMITS = Limits(wall_s=20.0, cpu_s=5.0)


@dataclass(frozen=True)
class Line:
    """One statement that ran: its lines in the block (from 1), what it printed, and its value as `repr` and as `str` (None: it has none)."""

    line: int
    end: int
    printed: str
    value: str | None = None
    shown: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Error:
    """What ended a block. `stage`: "parse", "compile" or "run"; `name`: the missing name of a NameError or module of an ImportError."""

    type: str
    text: str
    line: int
    stage: str
    name: str = ""
    asserted: bool = False


@dataclass(frozen=True)
class Block:
    """A block that was run: its statements, how many assertions held, and the error that ended it."""

    lines: tuple[Line, ...]
    asserts: int
    error: Error | None

    @property
    def printed(self) -> str:
        return "".join(line.printed for line in self.lines)

    @property
    def output(self) -> str:
        """What the block printed, then its error as Python's last line of a traceback says it."""
        said = self.printed
        if self.error is None:
            return said
        return said + ("" if not said or said.endswith("\n") else "\n") + f"{self.error.type}: {self.error.text}\n"


async def run_blocks(sandbox: Sandbox, blocks: Sequence[str], *, echo: int, limits: Limits = LIMITS) -> list[Block] | str:
    """The last `echo` blocks as they ran after the others; or why nothing is known. Raises: SandboxFailed."""
    files = {f"{_PACKAGE.replace('.', '/')}/session.py": _harness()}
    request = json.dumps({"blocks": list(blocks), "echo": echo})
    run = await sandbox.run([sandbox.python, "-I", "-S", "-B", "-c", _START, "."], files=files, stdin=request, limits=limits)
    if not run.ok:
        return f"the code did not come to an end: {run.ending}"
    try:
        return [_block(record) for record in json.loads(run.out)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return "the code ended its own process"


def _block(record: dict[str, Any]) -> Block:
    lines = tuple(Line(**line) for line in record["lines"])
    error = record["error"]
    if error is not None:
        error = Error(
            type=str(error["type"]),
            text=str(error["text"]),
            line=int(error["line"]),
            stage=str(error["stage"]),
            name=str(error.get("name", "")),
            asserted=bool(error.get("assert", False)),
        )
    return Block(lines, int(record["asserts"]), error)


@cache
def _harness() -> str:
    return (resources.files(_PACKAGE) / "session.py").read_text(encoding="utf-8")
