"""Assistant: the protocol of proof assistants: a proof written out as a theory is checked. How a proof is taken apart and judged is in `procedure`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Message:
    """What the assistant says of a line (1-based, of the theory): "error", "warning" or "info"."""

    severity: str
    line: int
    text: str


@dataclass(frozen=True)
class Checked:
    """The outcome of checking a theory. `holes`: how many `sorry` it has."""

    messages: tuple[Message, ...] = ()
    holes: int = 0

    @property
    def errors(self) -> tuple[Message, ...]:
        return tuple(message for message in self.messages if message.severity == "error")

    @property
    def ok(self) -> bool:
        return not self.errors


@dataclass(frozen=True)
class FormalStep:
    """A step's statement, under a name that later steps may use. The writer's own proof, if any, is not kept: automation has to find one."""

    name: str
    statement: str


@dataclass(frozen=True)
class Goal:
    """What the problem fixes: imports and definitions, and the theorem with its hypotheses, as the assistant's own text."""

    preamble: str
    theorem: str


@runtime_checkable
class Assistant(Protocol):
    """Lean or Isabelle. `check` raises RequestFailed for everything that is not a finding about the theory (time-out, crash, lost connection)."""

    @property
    def language(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def automation(self) -> str:
        """The proof that is tried for a single step."""
        ...

    @property
    def hole(self) -> str:
        """The proof that stands for any."""
        ...

    def negation(self, statement: str) -> str: ...

    def falsity(self) -> str: ...

    def read(self, code: str) -> FormalStep | None:
        """The step that a piece of code states; None when it is none, or holds anything but a statement and its proof."""
        ...

    def theory(self, goal: Goal, steps: Sequence[tuple[FormalStep, str]]) -> str:
        """The theory with a proof for each step and a hole for the theorem itself."""
        ...

    async def check(self, goal: Goal, theory: str, /) -> Checked: ...

    async def close(self) -> None: ...


FENCE = re.compile(r"```[ \t]*(?P<language>\w+)[ \t]*\n(?P<code>.*?)```", re.DOTALL)


def codes(text: str, language: str) -> list[tuple[str, tuple[int, int]]]:
    """The fenced blocks of a language, with their places in the text."""
    return [(match["code"], match.span("code")) for match in FENCE.finditer(text) if match["language"].lower() in (language, f"{language}4")]
