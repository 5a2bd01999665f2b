"""Interrupt: what a command says when it is interrupted, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from stepward.cli.output import remarks

INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


class Interrupted(KeyboardInterrupt):
    """An interrupt of a session whose journal lies at `journal` (None: it has none)."""

    def __init__(self, journal: Path | None) -> None:
        super().__init__()
        self.journal = journal

    def __str__(self) -> str:
        if self.journal is None or not self.journal.exists():  # one in a temporary folder has gone with it
            return "interrupted; nothing was kept (with --out or --journal, everything that was paid for is)"
        return f"interrupted; what was paid for is kept in {self.journal}, and the same command goes on from there"


def exit_code() -> int:
    """The code to exit with after an interrupt that was dealt with.

    After an interrupt that passed through `exec` of a text (as while dataclasses are being made), `python -m` ends by the signal in place of the code,
    however it was dealt with, unless another text is executed after it.
    """
    exec("")
    return INTERRUPTED


class Verbs(TyperGroup):
    """The verbs of the command line. An interrupt ends any of them with one line and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            remarks.print(f"stepward: {error if isinstance(error, Interrupted) else 'interrupted'}", markup=False)
            raise typer.Exit(exit_code()) from error
