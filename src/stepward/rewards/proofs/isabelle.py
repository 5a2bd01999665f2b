"""Isabelle: a client of the Isabelle server: session_start once, then use_theories for every theory, which is written to a folder that both can see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepward.core.errors import RequestFailed
from stepward.core.record import content_hash
from stepward.rewards.proofs.assistant import Checked, FormalStep, Goal, Message
from stepward.rewards.proofs.transport import Transport

AUTOMATION = "by (auto | simp_all | blast | fastforce | presburger | linarith | algebra)"
_STEP = re.compile(r"\s*(?:then\s+|hence\s+)?(?:have|show)\s+(?P<name>[^\W\d][\w']*)\s*:\s*\"(?P<statement>[^\"]+)\"(?P<proof>.*)\Z", re.DOTALL)
_REFUSED = re.compile(r"\\<open>|‹|\b(?:ML|ML_file|sorry|oops|setup|axiomatization|end)\b|\(\*")
_NAME = "Step"


@dataclass(eq=False)
class Isabelle:
    """Steps are `have NAME: "STATEMENT"` in the structured proof of a theorem; the theory's name carries its hash, so that nothing is read from before.

    `folder` is where theories are written; `session` is built before it starts (the first time may take long, hence `start_timeout_s`).
    A client belongs to the event loop that first uses it.
    """

    transport: Transport
    folder: Path
    session: str = "HOL"
    automation: str = AUTOMATION
    timeout_s: float = 120.0
    start_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        self._session_id: str | None = None
        self._lock = asyncio.Lock()

    language = "isabelle"
    hole = "sorry"

    @property
    def fingerprint(self) -> str:
        return f"isabelle/{self.session}/{content_hash(self.automation)[:8]}"

    def negation(self, statement: str) -> str:
        return f"\\<not> ({statement})"

    def falsity(self) -> str:
        return "False"

    def read(self, code: str) -> FormalStep | None:
        match = _STEP.match(code)
        if match is None or _REFUSED.search(match["statement"]):
            return None
        return FormalStep(match["name"], " ".join(match["statement"].split()))

    def theory(self, goal: Goal, steps: Sequence[tuple[FormalStep, str]]) -> str:
        names: list[str] = []
        lines = []
        for step, proof in steps:
            used = f" using {' '.join(names)}" if names and proof != self.hole else ""
            lines.append(f'  have {step.name}: "{step.statement}"{used} {proof}')
            names.append(step.name)
        begin = goal.preamble.rstrip() or "theory NAME imports Main begin"
        return "\n".join([begin, goal.theorem.rstrip(), "proof -", *lines, "  show ?thesis sorry", "qed", "end"])

    async def check(self, _: Goal, theory: str, /) -> Checked:
        """One use_theories. Raises: RequestFailed on a time-out, a lost connection, or a task that FAILED."""
        name = f"{_NAME}_{content_hash(theory)[:16]}"
        async with self._lock:
            session = await self._session()
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{name}.thy").write_text(re.sub(r"\btheory\s+\S+", f"theory {name}", theory, count=1), encoding="utf-8")
            arguments = {"session_id": session, "theories": [name], "master_dir": str(self.folder)}
            result = await self._task("use_theories", arguments, self.timeout_s)
        nodes = result.get("nodes", [])
        if not nodes and not result.get("errors"):
            raise RequestFailed("Isabelle answers without a theory")
        said = [one for node in nodes for one in node.get("messages", [])]
        messages = tuple(map(_message, [*result.get("errors", []), *(one for one in said if one not in result.get("errors", []))]))
        if not result.get("ok", False) and not any(message.severity == "error" for message in messages):
            raise RequestFailed("Isabelle did not finish the theory")
        return Checked(messages, len(re.findall(r"\bsorry\b", theory)))

    async def close(self) -> None:
        """Stop the session, which would otherwise stay in the server, and hang up."""
        session, self._session_id = self._session_id, None
        if session is not None:
            with contextlib.suppress(RequestFailed):
                await self._task("session_stop", {"session_id": session}, self.timeout_s)
        await self.transport.close()

    async def _session(self) -> str:
        if self._session_id is None:
            result = await self._task("session_start", {"session": self.session, "options": ["quick_and_dirty=true"]}, self.start_timeout_s)
            self._session_id = str(result["session_id"])
        return self._session_id

    async def _task(self, command: str, arguments: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send an asynchronous command and wait for FINISHED; notes on the way are passed over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.transport.send(f"{command} {json.dumps(arguments)}")
                while True:
                    kind, _, rest = (await self.transport.receive()).partition(" ")
                    if kind == "FINISHED":
                        result = json.loads(rest)
                        return result if isinstance(result, dict) else {}
                    if kind in ("FAILED", "ERROR"):
                        self._session_id = None
                        raise RequestFailed(f"Isabelle: {command} {kind.lower()}: {rest[:300]}")
        except TimeoutError as error:
            await self.transport.close()
            raise RequestFailed(f"Isabelle took longer than {timeout_s:g} s") from error
        except ValueError as error:
            await self.transport.close()
            raise RequestFailed(f"Isabelle answered no JSON: {error}") from error
        except RequestFailed:
            await self.transport.close()
            raise


def _message(one: dict[str, Any]) -> Message:
    kind = str(one.get("kind", "error"))
    severity = "error" if kind == "error" else "warning" if kind == "warning" else "info"
    return Message(severity, int((one.get("pos") or {}).get("line", 0)), str(one.get("message", "")))
